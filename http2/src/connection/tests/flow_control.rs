//! Flow control in both directions (RFC 9113 §5.2 and §6.9).

use super::*;
use crate::{
    connection::limits::{CONNECTION_WINDOW_BYTES, MAX_QUEUED_BYTES, STREAM_WINDOW_BYTES},
    frame::{DEFAULT_WINDOW_BYTES, setting},
};

const MIB: usize = 1 << 20;

#[test]
fn responses_stay_within_the_windows() {
    let mut peer = Peer::start();
    // Within the client's window for a stream, then within the connection's.
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]));
    let body = vec![1; 200_000];
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    for chunk in body.chunks(16_384) {
        peer.send(&frame::frame(kind::DATA, 0, 1, chunk));
    }
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, &[]));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1.len(), 10);
    assert!(peer.next().is_none());
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 25)]));
    assert_eq!(peer.next().unwrap().1.len(), 15);
    peer.send(&frame::window_update(1, 500_000));
    let mut left = DEFAULT_WINDOW_BYTES as usize - 25;
    while left > 0 {
        let (header, payload) = peer.next().unwrap();
        assert!(header.kind == kind::DATA && payload.len() <= 16_384);
        left -= payload.len();
    }
    peer.send(&frame::frame(kind::PING, 0, 0, b"in order"));
    assert_eq!(peer.next().unwrap().1, b"in order");
    peer.send(&frame::window_update(0, 500_000));
    let mut left = body.len() - DEFAULT_WINDOW_BYTES as usize;
    while left > 0 {
        left -= peer.next().unwrap().1.len();
    }
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
}

#[test]
fn a_window_can_be_negative() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/streamed");
    peer.send(&frame::frame(kind::DATA, 0, 1, &[1; 50_000]));
    let sent: usize = std::iter::from_fn(|| peer.next()).filter(|f| f.0.kind == kind::DATA).map(|f| f.1.len()).sum();
    assert_eq!(sent, 50_000);
    // 50,000 bytes of a window of 100 were sent.
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 100)]));
    peer.send(&frame::frame(kind::DATA, 0, 1, &[2; 10]));
    assert!(peer.next().is_none());
    peer.send(&frame::window_update(1, 49_900));
    assert!(peer.next().is_none());
    peer.send(&frame::window_update(1, 5));
    assert_eq!(peer.next().unwrap().1, [2; 5]);
}

#[test]
fn a_changed_initial_window_may_not_overflow_one() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    peer.send(&frame::window_update(1, frame::MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, DEFAULT_WINDOW_BYTES + 1)]));
    assert_eq!(peer.connection_error(), 3);
}

#[test]
fn more_data_than_the_window_of_a_stream() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 3, "/wait");
    let chunk = vec![0; MIB];
    for _ in 0..STREAM_WINDOW_BYTES as usize / MIB {
        peer.send(&frame::frame(kind::DATA, 0, 3, &chunk));
    }
    peer.send(&frame::frame(kind::DATA, 0, 3, b"x"));
    assert_eq!(peer.connection_error(), 3);
}

/// Fills the connection's window with streams that release nothing.
fn full() -> Peer {
    let mut peer = Peer::start();
    let chunk = vec![0; MIB];
    for stream in [1, 3, 5, 7] {
        peer.send_head(flag::END_HEADERS, stream, "/wait");
        for _ in 0..STREAM_WINDOW_BYTES as usize / MIB {
            peer.send(&frame::frame(kind::DATA, 0, stream, &chunk));
        }
    }
    assert_eq!(peer.increments(0), u64::from(CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES));
    peer
}

#[test]
fn more_data_than_the_window_of_the_connection() {
    let mut peer = full();
    peer.send_head(flag::END_HEADERS, 9, "/wait");
    peer.send(&frame::frame(kind::DATA, 0, 9, b"x"));
    assert_eq!(peer.connection_error(), 3);
}

#[test]
fn the_window_gets_back_what_a_closed_stream_had() {
    let mut peer = full();
    for stream in [1, 3, 5, 7] {
        peer.send(&frame::rst_stream(stream, ErrorCode::Cancel));
        // Too late: it was released with the stream.
        peer.connection.release_capacity(stream, MIB);
    }
    assert_eq!(peer.increments(0), u64::from(CONNECTION_WINDOW_BYTES));
}

#[test]
fn released_capacity_is_returned_once() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    let half = vec![0; STREAM_WINDOW_BYTES as usize / 2];
    for chunk in half.chunks(MIB) {
        peer.send(&frame::frame(kind::DATA, 0, 1, chunk));
    }
    peer.increments(1);
    peer.connection.release_capacity(1, half.len());
    // More than was received.
    peer.connection.release_capacity(1, half.len());
    assert_eq!(peer.increments(1), half.len() as u64);
}

#[test]
fn data_of_closed_streams_and_padding_are_returned() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    peer.send(&frame::rst_stream(1, ErrorCode::Cancel));
    peer.increments(0);
    let late = frame::frame(kind::DATA, 0, 1, &vec![0; MIB]);
    let padded = [&[200][..], &[0; 300]].concat();
    let padded = frame::frame(kind::DATA, flag::PADDED, 1, &padded);
    let frames = CONNECTION_WINDOW_BYTES as usize / MIB;
    for _ in 0..2 * frames {
        peer.send(&late);
        peer.send(&padded);
    }
    // All but what is not worth a frame yet.
    let returned = peer.increments(0);
    let received = (2 * frames * (MIB + 301)) as u64;
    assert!(returned > received - u64::from(CONNECTION_WINDOW_BYTES) / 2 && returned <= received, "{returned}");
}

#[test]
fn no_window_is_returned_to_a_stream_that_has_ended() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    let body = vec![0; STREAM_WINDOW_BYTES as usize * 3 / 4];
    let chunks: Vec<_> = body.chunks(MIB).collect();
    for (nth, chunk) in chunks.iter().enumerate() {
        let flags = if nth + 1 == chunks.len() { flag::END_STREAM } else { 0 };
        peer.send(&frame::frame(kind::DATA, flags, 1, chunk));
    }
    assert_eq!(peer.increments(1), u64::from(STREAM_WINDOW_BYTES / 2));
}

#[test]
fn a_full_queue_takes_no_more_data() {
    let mut peer = Peer::start();
    peer.send(&frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]));
    peer.send(&frame::window_update(0, 1 << 30));
    peer.send_head(COMPLETE, 1, "/wait");
    peer.connection.send_response(1, StatusCode::OK, &HeaderMap::new(), false);
    let mut data = SendBuffer::default();
    data.push(vec![7; 3 * MAX_QUEUED_BYTES].into());
    while peer.connection.send_data(1, &mut data, true) == DataSent::Frame {}
    assert_eq!(peer.connection.send_data(1, &mut data, true), DataSent::Blocked);
    assert!(peer.connection.queued_bytes() < MAX_QUEUED_BYTES + 2 * 16_384);
    peer.transmit();
    assert_eq!(peer.connection.send_data(1, &mut data, true), DataSent::Frame);
}

#[test]
fn nothing_is_received_while_control_frames_pile_up() {
    let mut connection = Connection::new(Limits::default(), Timeouts::default(), Instant::now());
    let ping = frame::frame(kind::PING, 0, 0, &[0; 8]);
    let mut sent = 0;
    let send = |connection: &mut Connection, bytes: &[u8]| {
        connection.recv_buffer()[..bytes.len()].copy_from_slice(bytes);
        connection.received(bytes.len(), Instant::now());
        assert!(connection.poll_event().unwrap().is_none());
    };
    send(&mut connection, &[PREFACE, &frame::settings(&[])].concat());
    while connection.accepts_input() {
        send(&mut connection, &ping);
        sent += 1;
    }
    assert!((3000..5000).contains(&sent), "{sent}");
    let queued = connection.queued_bytes();
    connection.transmitted(queued, Instant::now());
    assert!(connection.accepts_input());
}
