//! States of streams, field sections, padding and resets (RFC 9113 §5.1, §6.1 to §6.4, §6.10 and §8.1).

use super::*;
use crate::frame::MAX_WINDOW_BYTES;

#[test]
fn events_of_a_request() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    peer.send(&frame::frame(kind::DATA, 0, 1, b"abc"));
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, b"def"));
    peer.send_head(COMPLETE, 3, "/wait");
    peer.send(&frame::rst_stream(3, ErrorCode::Cancel));
    let path = |path: &str| path.to_owned();
    assert_eq!(
        peer.events,
        [
            Record::Request { stream: 1, path: path("/whole"), is_last: false },
            Record::Data { stream: 1, bytes: b"abc".to_vec() },
            Record::Data { stream: 1, bytes: b"def".to_vec() },
            Record::EndStream { stream: 1 },
            Record::Request { stream: 3, path: path("/wait"), is_last: true },
            Record::Reset { stream: 3 },
        ]
    );
}

#[test]
fn a_malformed_request_costs_only_its_stream() {
    let mut peer = Peer::start();
    // No path, then a request that is answered: the dynamic table is as it should be.
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 1, &[0x83, 0x86]));
    assert_eq!(peer.stream_error(1), 1);
    peer.works(3);
    assert!(peer.events.iter().all(|event| *event != Record::Reset { stream: 1 }));
}

#[test]
fn broken_rules_of_a_stream() {
    let mut peer = Peer::start();
    let head = peer.head(flag::END_HEADERS, 5, "/wait");
    peer.send(&[head, frame::window_update(5, 0)].concat());
    assert_eq!(peer.stream_error(5), 1);
    let head = peer.head(flag::END_HEADERS, 7, "/wait");
    peer.send(&[head, frame::window_update(7, MAX_WINDOW_BYTES)].concat());
    assert_eq!(peer.stream_error(7), 3);
    // After END_STREAM.
    let head = peer.head(COMPLETE, 9, "/wait");
    peer.send(&[head, frame::frame(kind::DATA, 0, 9, b"more")].concat());
    assert_eq!(peer.stream_error(9), 5);
    let (head, again) = (peer.head(COMPLETE, 11, "/wait"), peer.head(COMPLETE, 11, "/wait"));
    peer.send(&[head, again].concat());
    assert_eq!(peer.stream_error(11), 5);
    // HEADERS in the middle that do not end the stream.
    let (head, again) = (peer.head(flag::END_HEADERS, 13, "/wait"), peer.head(flag::END_HEADERS, 13, "/wait"));
    peer.send(&[head, again].concat());
    assert_eq!(peer.stream_error(13), 1);
    let resets = peer.events.iter().filter(|event| matches!(event, Record::Reset { .. })).count();
    assert_eq!(resets, 5);
    peer.works(15);
}

#[test]
fn late_and_unknown_frames_are_ignored() {
    let mut peer = Peer::start();
    let (head, again) = (peer.head(flag::END_HEADERS, 11, "/wait"), peer.head(flag::END_HEADERS, 11, "/wait"));
    peer.send(&[head, again].concat());
    assert_eq!(peer.stream_error(11), 1);
    let late = [
        frame::frame(kind::DATA, 0, 11, b"late"),
        frame::window_update(11, 1),
        frame::frame(kind::RST_STREAM, 0, 11, &[0; 4]),
        frame::frame(kind::PRIORITY, 0, 13, &[0; 5]),
        frame::frame(77, 0xff, 13, b"of the future"),
    ];
    peer.send(&late.concat());
    peer.works(13);
}

#[test]
fn padding_and_continuation() {
    let mut peer = Peer::start();
    let head = peer.head(COMPLETE, 15, "/whole");
    let (first, rest) = head[HEADER_BYTES..].split_at(1);
    let block = [
        frame::frame(kind::HEADERS, 0, 15, first),
        frame::frame(kind::CONTINUATION, 0, 15, &[]),
        frame::frame(kind::CONTINUATION, flag::END_HEADERS, 15, rest),
        frame::frame(kind::DATA, flag::PADDED, 15, b"\x03abcPPP"),
        frame::frame(kind::DATA, flag::PADDED | flag::END_STREAM, 15, b"\x02PP"),
    ];
    peer.send(&block.concat());
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1, b"abc");
    assert_eq!(peer.next().unwrap().0.flags & flag::END_STREAM, flag::END_STREAM);
    // END_STREAM of HEADERS counts, with its CONTINUATIONs, and padding and priority are no fields.
    let head = peer.head(COMPLETE, 17, "/whole");
    let fields = &head[HEADER_BYTES..];
    let (first, rest) = fields.split_at(2);
    let padded = [&[3, 0, 0, 0, 0, 16], first, b"PPP"].concat();
    let flags = flag::PADDED | flag::PRIORITY | flag::END_STREAM;
    peer.send(&frame::frame(kind::HEADERS, flags, 17, &padded));
    peer.send(&frame::frame(kind::CONTINUATION, flag::END_HEADERS, 17, rest));
    assert_eq!(peer.events.last(), Some(&Record::Request { stream: 17, path: "/whole".to_owned(), is_last: true }));
}

#[test]
fn trailers_end_a_request() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    peer.send(&frame::frame(kind::DATA, 0, 1, b"abc"));
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 1, b"\x00\x01x\x01y"));
    assert_eq!(peer.events.last(), Some(&Record::EndStream { stream: 1 }));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1, b"abc");
}

#[test]
fn a_head_that_is_too_large_is_answered() {
    let mut peer = Peer::start();
    let mut block = Vec::new();
    let long = [b'a'; 20_000];
    let fields = [(":method", &b"POST"[..]), (":scheme", b"http"), (":path", b"/whole"), ("x", &long)];
    peer.encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value)), &mut block);
    peer.send(&frame::frame(kind::HEADERS, COMPLETE, 19, &block));
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags), (kind::HEADERS, COMPLETE));
    assert_eq!(decode(&payload)[0], (":status".into(), "431".into()));
    assert_eq!(peer.events, []);
    // A body is not wanted.
    peer.send(&frame::frame(kind::HEADERS, flag::END_HEADERS, 21, &block));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.stream_error(21), 0);
    peer.works(23);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut peer = Peer::start();
    let limit = Limits::default().concurrent_streams;
    for stream in 0..limit {
        peer.send_head(COMPLETE, 2 * stream + 1, "/wait");
    }
    let beyond = 2 * limit + 1;
    peer.send_head(COMPLETE, beyond, "/wait");
    assert_eq!(peer.stream_error(beyond), 7);
    // A closed one makes room.
    peer.send(&frame::frame(kind::RST_STREAM, 0, 5, &[0, 0, 0, 8]));
    peer.works(beyond + 2);
}

#[test]
fn nothing_is_sent_after_a_reset() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/streamed");
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    peer.send(&frame::rst_stream(1, ErrorCode::Cancel));
    peer.connection.send_response(1, StatusCode::OK, &HeaderMap::new(), true);
    peer.connection.send_trailers(1, &HeaderMap::new());
    peer.connection.reset(1, ErrorCode::Internal);
    assert!(peer.next().is_none());
}
