//! Clients that send valid frames to make the server work or hold memory (RFC 9113 §10.5).

use std::time::Duration;

use super::*;
use crate::{
    connection::{Allowance, RAPID_RESET, limits::MAX_CONTROL_BYTES},
    frame::setting,
};

const CALM: u32 = ErrorCode::EnhanceYourCalm as u32;
const BURST: u32 = 20;

/// After the preface, with small allowances that do not grow.
fn strict() -> Peer {
    let few = Allowance { burst: BURST, per_second: 0 };
    let mut peer = Peer::with(Limits { empty_frames: few, rapid_resets: few, ..Limits::default() });
    // The acknowledgement that is due costs nothing, the client's settings cost one.
    let ack = frame::frame(kind::SETTINGS, flag::ACK, 0, &[]);
    peer.send(&[PREFACE, &frame::settings(&[]), &ack].concat());
    peer
}

/// How many times `frame` may be sent; then the connection must end with ENHANCE_YOUR_CALM.
fn allowed(mut peer: Peer, mut frame: impl FnMut(&mut Peer, u32) -> Vec<u8>) -> u32 {
    for nth in 0.. {
        assert!(nth < 100_000, "never refused");
        let bytes = frame(&mut peer, nth);
        peer.send(&bytes);
        if let Some(error) = peer.error {
            assert_eq!(error as u32, CALM);
            return nth;
        }
    }
    unreachable!()
}

#[test]
fn frames_that_carry_nothing() {
    let open = |flags| {
        let mut peer = strict();
        peer.send_head(flags, 1, "/wait");
        peer
    };
    let floods: [(&str, Vec<u8>); 11] = [
        ("ping", frame::frame(kind::PING, 0, 0, &[0; 8])),
        ("unasked ping answer", frame::frame(kind::PING, flag::ACK, 0, &[0; 8])),
        ("settings", frame::settings(&[])),
        ("unasked settings answer", frame::frame(kind::SETTINGS, flag::ACK, 0, &[])),
        ("window update", frame::window_update(0, 1)),
        ("stream's window update", frame::window_update(1, 1)),
        ("priority", frame::frame(kind::PRIORITY, 0, 7, &[0; 5])),
        ("unknown", frame::frame(77, 0, 0, &[])),
        ("empty data", frame::frame(kind::DATA, 0, 1, &[])),
        ("padding", frame::frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0])),
        ("goaway", frame::go_away(0, ErrorCode::NoError)),
    ];
    for (name, bytes) in floods {
        let times = allowed(open(flag::END_HEADERS), |_, _| bytes.clone());
        assert_eq!(times, BURST - 1, "{name}");
    }
}

#[test]
fn frames_of_closed_streams() {
    let closed = || {
        let mut peer = strict();
        peer.works(1);
        peer
    };
    for bytes in [frame::rst_stream(1, ErrorCode::Cancel), frame::frame(kind::DATA, 0, 1, b"late")] {
        // Its response has given back what its preface had cost.
        assert_eq!(allowed(closed(), |_, _| bytes.clone()), BURST);
    }
}

#[test]
fn time_allows_more() {
    let mut peer = Peer::with(Limits { empty_frames: Allowance { burst: 5, per_second: 5 }, ..Limits::default() });
    peer.send(&[PREFACE, &frame::settings(&[])].concat());
    let ping = frame::frame(kind::PING, 0, 0, &[0; 8]);
    for _ in 0..100 {
        peer.now += Duration::from_millis(200);
        peer.send(&ping);
    }
    assert!(peer.error.is_none());
    assert!(allowed(peer, |_, _| ping.clone()) <= 5);
}

#[test]
fn responses_allow_their_window_updates() {
    let mut peer = strict();
    peer.send_head(flag::END_HEADERS, 1, "/streamed");
    for _ in 0..100 * BURST {
        let data = frame::frame(kind::DATA, 0, 1, b"x");
        let ping = frame::frame(kind::PING, 0, 0, &[0; 8]);
        peer.send(&[data, frame::window_update(0, 1), frame::window_update(1, 1), ping].concat());
    }
    assert!(peer.error.is_none());
}

#[test]
fn the_values_of_a_settings_frame_are_counted_and_its_last_one_is_applied_once() {
    let mut peer = Peer::start();
    for stream in 0..1000 {
        peer.send_head(COMPLETE, 2 * stream + 1, "/wait");
    }
    // Were each of them applied, a window would overflow: 64 times the largest change.
    let limit = Limits::default().settings_entries;
    let mut values = vec![(setting::INITIAL_WINDOW_SIZE, frame::MAX_WINDOW_BYTES); limit];
    values[limit - 1].1 = 10;
    peer.send(&frame::window_update(1, frame::MAX_WINDOW_BYTES - frame::DEFAULT_WINDOW_BYTES));
    peer.send(&frame::settings(&values));
    assert!(peer.error.is_none());
    values.push((setting::INITIAL_WINDOW_SIZE, 10));
    peer.send(&frame::settings(&values));
    assert_eq!(peer.error.unwrap() as u32, CALM);
}

#[test]
fn settings_cost_more_with_many_streams() {
    let mut peer = strict();
    for stream in 0..640 {
        peer.send_head(COMPLETE, 2 * stream + 1, "/wait");
    }
    assert_eq!(allowed(peer, |_, nth| frame::settings(&[(setting::INITIAL_WINDOW_SIZE, nth)])), 1);
}

#[test]
fn continuation_without_end() {
    for fragment in [&b""[..], b"\x82"] {
        let mut peer = Peer::start();
        peer.send(&frame::frame(kind::HEADERS, 0, 1, &[]));
        let times = allowed(peer, |_, _| frame::frame(kind::CONTINUATION, 0, 1, fragment));
        assert_eq!(times, Limits::default().continuation_frames);
    }
    let mut peer = Peer::start();
    peer.send(&frame::frame(kind::HEADERS, 0, 1, &[]));
    let times = allowed(peer, |_, _| frame::frame(kind::CONTINUATION, 0, 1, &[0x82; 16_000]));
    assert_eq!(times, Limits::default().field_block_bytes as u32 / 16_000);
}

#[test]
fn streams_that_are_reset_at_once() {
    let times = allowed(strict(), |peer, nth| {
        let stream = 2 * nth + 1;
        let head = peer.head(COMPLETE, stream, "/wait");
        [head, frame::rst_stream(stream, ErrorCode::Cancel)].concat()
    });
    assert_eq!(times, BURST);
}

#[test]
fn streams_that_are_made_to_be_reset() {
    let errors: [fn(u32) -> Vec<u8>; 5] = [
        |stream| frame::window_update(stream, 0),
        |stream| frame::window_update(stream, frame::MAX_WINDOW_BYTES),
        |stream| frame::frame(kind::DATA, 0, stream, b"after the end"),
        |stream| frame::frame(kind::HEADERS, COMPLETE, stream, &[0x83]),
        // A malformed request on a stream of its own.
        |stream| frame::frame(kind::HEADERS, COMPLETE, stream + 2, &[0x83]),
    ];
    for error in errors {
        let limits = Limits { rapid_resets: Allowance { burst: BURST, per_second: 0 }, ..Limits::default() };
        let mut peer = Peer::with(limits);
        peer.send(&[PREFACE, &frame::settings(&[])].concat());
        let times = allowed(peer, |peer, nth| {
            let stream = 4 * nth + 1;
            [peer.head(COMPLETE, stream, "/wait"), error(stream)].concat()
        });
        assert_eq!(times, BURST);
    }
}

#[test]
fn clients_may_give_up_after_a_deadline() {
    let mut peer = strict();
    for nth in 0..100 * BURST {
        let stream = 2 * nth + 1;
        peer.send_head(COMPLETE, stream, "/wait");
        peer.now += RAPID_RESET;
        peer.send(&frame::rst_stream(stream, ErrorCode::Cancel));
    }
    assert!(peer.error.is_none());
}

#[test]
fn answers_that_nobody_reads_stop_the_reading() {
    let mut connection = Connection::new(Limits::default(), Timeouts::default(), Instant::now());
    let mut peer = Peer::new();
    let mut sent = [PREFACE, &frame::settings(&[])].concat();
    for nth in 0..100_000 {
        sent.extend(peer.head(COMPLETE, 2 * nth + 1, "/refused"));
        if !connection.accepts_input() {
            assert!((1000..30_000).contains(&nth), "{nth}");
            assert!(connection.queued_bytes() < MAX_CONTROL_BYTES + 100);
            return;
        }
        connection.recv_buffer()[..sent.len()].copy_from_slice(&sent);
        connection.received(sent.len(), Instant::now());
        sent.clear();
        while let Some(event) = connection.poll_event().unwrap() {
            let Event::Request { stream, .. } = event else { panic!("{event:?}") };
            connection.send_response(stream, StatusCode::UNSUPPORTED_MEDIA_TYPE, &HeaderMap::new(), true);
        }
    }
    panic!("all is read");
}

#[test]
fn data_does_not_stop_the_reading() {
    let mut peer = Peer::start();
    peer.send_head(COMPLETE, 1, "/wait");
    peer.connection.send_response(1, StatusCode::OK, &HeaderMap::new(), false);
    let mut data = SendBuffer::default();
    data.push(vec![0; MAX_CONTROL_BYTES + 1].into());
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]));
    peer.send(&frame::window_update(0, 1 << 20));
    while peer.connection.send_data(1, &mut data, false) == DataSent::Frame && !data.is_empty() {}
    assert!(peer.connection.queued_bytes() > MAX_CONTROL_BYTES && peer.connection.accepts_input());
}

#[test]
fn fields_that_expand() {
    const POST: &[u8] = b"\x83\x86\x04\x06/whole";
    let mut peer = Peer::start();
    // "0" has 5 bits: 40,000 bytes are 64,000 of them.
    let length = [0xff, 0xc1, 0xb7, 0x02]; // 127 + 65 + 55 * 128 + 2 * 16,384 = 40,000, Huffman-coded.
    let zeros = [POST, b"\x00\x01x", &length, &[0; 40_000]].concat();
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 1, &zeros));
    let (_, block) = peer.next().unwrap();
    assert_eq!(decode(&block)[0].1, "431");
    // A field that fills the dynamic table, and a byte for each of 60,000 references to it.
    let filled = [POST, b"\x40\x01x\x7f\xa1\x1e", &[b'a'; 4000]].concat(); // 127 + 33 + 30 * 128 = 4,000
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 3, &filled));
    while peer.next().is_some() {}
    let references = [POST, &[0xbe; 60_000]].concat();
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 5, &references));
    // The same response, which has no body.
    let (header, _) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags, header.stream), (kind::HEADERS, COMPLETE, 5));
    assert_eq!(peer.error, None);
}
