//! What ends the connection, with its error code (RFC 9113 §5.4.1).

use super::*;
use crate::frame::{MAX_WINDOW_BYTES, setting};

#[test]
fn broken_rules_of_the_connection() {
    let data = |stream, payload: &[u8]| frame::frame(kind::DATA, 0, stream, payload);
    let bad_hpack = frame::frame(kind::HEADERS, COMPLETE, 1, &[0xff; 5]);
    let unfinished = frame::frame(kind::HEADERS, 0, 1, &[0x82]);
    let oversized = FrameHeader { length: (1 << 20) + 1, kind: kind::DATA, flags: 0, stream: 1 }.bytes().to_vec();
    let endless = [unfinished.clone(), frame::frame(kind::CONTINUATION, 0, 1, &vec![0x82; 65_536])].concat();
    for (code, sent) in [
        (1, data(1, b"idle")),
        (1, data(0, b"connection")),
        (1, frame::frame(kind::HEADERS, COMPLETE, 2, &[0x82])),
        (1, frame::frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[])),
        (1, [unfinished.clone(), frame::frame(kind::PING, 0, 0, &[0; 8])].concat()),
        (1, [unfinished.clone(), frame::frame(77, 0, 1, &[])].concat()),
        (1, [unfinished, frame::frame(kind::CONTINUATION, 0, 3, &[])].concat()),
        (1, frame::frame(kind::HEADERS, COMPLETE | flag::PADDED, 1, &[9, 0x82])),
        (1, frame::frame(kind::RST_STREAM, 0, 1, &[0; 4])),
        (1, frame::frame(kind::RST_STREAM, 0, 0, &[0; 4])),
        (1, frame::frame(kind::HEADERS, COMPLETE, 0, &[0x82])),
        (1, frame::frame(kind::PRIORITY, 0, 0, &[0; 5])),
        (1, frame::frame(kind::SETTINGS, 0, 1, &[])),
        (1, frame::frame(kind::PING, 0, 1, &[0; 8])),
        (1, frame::frame(kind::GOAWAY, 0, 1, &[0; 8])),
        (1, frame::window_update(1, 5)),
        (1, frame::window_update(2, 5)),
        (1, frame::window_update(0, 0)),
        (1, frame::frame(kind::PUSH_PROMISE, 0, 1, &[0; 4])),
        (1, frame::settings(&[(setting::ENABLE_PUSH, 2)])),
        (1, frame::settings(&[(setting::MAX_FRAME_SIZE, 100)])),
        (1, frame::settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])),
        (3, frame::settings(&[(setting::INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES + 1)])),
        (3, frame::window_update(0, MAX_WINDOW_BYTES)),
        (6, oversized),
        (6, frame::frame(kind::SETTINGS, 0, 0, &[0; 5])),
        (6, frame::frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        (6, frame::frame(kind::PING, 0, 0, &[0; 7])),
        (6, frame::frame(kind::GOAWAY, 0, 0, &[0; 7])),
        (6, frame::frame(kind::RST_STREAM, 0, 1, &[0; 5])),
        (6, frame::frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])),
        (6, frame::frame(kind::PRIORITY, 0, 1, &[0; 4])),
        (6, frame::frame(kind::HEADERS, COMPLETE | flag::PADDED, 1, &[])),
        (6, frame::frame(kind::HEADERS, COMPLETE | flag::PRIORITY, 1, &[0; 4])),
        (6, frame::frame(kind::HEADERS, COMPLETE | flag::PADDED | flag::PRIORITY, 1, &[0; 5])),
        (9, bad_hpack),
        (11, endless),
    ] {
        let mut peer = Peer::start();
        peer.send(&sent);
        assert_eq!(peer.connection_error(), code, "{:?}", &sent[..sent.len().min(30)]);
    }
}

#[test]
fn padding_of_the_whole_payload() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    peer.send(&frame::frame(kind::DATA, flag::PADDED, 1, b"\x03PPP"));
    assert!(peer.error.is_none(), "padding of all but its length is allowed");
    peer.send(&frame::frame(kind::DATA, flag::PADDED, 1, b"\x04PPP"));
    assert_eq!(peer.connection_error(), 1);
}

#[test]
fn another_protocol_and_another_first_frame() {
    for hello in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), [PREFACE, &frame::frame(kind::PING, 0, 0, &[0; 8])].concat()] {
        let mut peer = Peer::new();
        peer.send(&hello);
        assert_eq!(peer.connection_error(), 1);
    }
}

#[test]
fn an_error_ends_all_streams() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    peer.send_head(flag::END_HEADERS, 3, "/streamed");
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    peer.send(&frame::window_update(0, 0));
    let mut data = SendBuffer::default();
    data.push(Bytes::from_static(b"late"));
    assert_eq!(peer.connection.send_data(3, &mut data, true), DataSent::Closed);
    peer.connection.reset(1, ErrorCode::Internal);
    let (header, payload) = peer.next().unwrap();
    assert_eq!(header.kind, kind::GOAWAY);
    // The last stream that was received.
    assert_eq!(payload, [0, 0, 0, 3, 0, 0, 0, 1]);
    assert!(peer.next().is_none());
}
