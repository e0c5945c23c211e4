//! Requirements that h2spec does not check.

use super::*;

#[test]
fn section_3_4_the_first_frame_is_settings_and_no_acknowledgement() {
    let protocol = GoAway(ErrorCode::Protocol);
    for first in [frame(kind::SETTINGS, flag::ACK, 0, &[]), ping(), headers(END, 1, REQUEST), frame(77, 0, 0, &[])] {
        verify("first frame", Peer::new(), &[PREFACE.to_vec(), first], protocol);
    }
}

#[test]
fn section_5_1_frames_in_flight_after_a_reset_of_the_server_are_ignored() {
    let mut peer = Peer::start();
    peer.send(&headers(0, 1, WAIT));
    peer.connection.reset(1, ErrorCode::Internal);
    assert_eq!(peer.stream_error(1), ErrorCode::Internal as u32);
    let trailers = headers(END, 1, &field("x", "y"));
    peer.send(&[data(0, 1, b"late"), trailers, frame::window_update(1, 0), rst(1), ping()].concat());
    assert_eq!(peer.next().unwrap().0.kind, kind::PING);
    assert!(peer.error.is_none());
}

#[test]
fn section_5_1_1_a_stream_that_was_skipped_is_closed() {
    check("skipped", &[headers(END, 5, WAIT), data(0, 3, b"x")], Reset(3, ErrorCode::StreamClosed));
    check("skipped", &[headers(END, 5, WAIT), rst(3), frame::window_update(3, 1), ping()], Pong);
}

#[test]
fn section_6_8_a_goaway_of_the_client_does_not_refuse_its_requests() {
    let mut peer = Peer::start();
    peer.send(&headers(0, 1, WAIT));
    peer.send(&frame::go_away(0, ErrorCode::NoError));
    // Also those that it opens as long as another is open.
    peer.works(3);
    assert!(!peer.connection.is_closed());
    peer.send(&rst(1));
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, &payload[..]), (kind::GOAWAY, &[0, 0, 0, 3, 0, 0, 0, 0][..]));
    assert!(peer.connection.is_closed());
}

#[test]
fn section_8_1_1_content_length() {
    let malformed = Reset(1, ErrorCode::Protocol);
    let open = |length| headers(0, 1, &with(&[("content-length", length)]));
    check("exact", &[open("4"), data(0, 1, b"te"), data(END, 1, b"st")], Answer);
    check("padding does not count", &[open("4"), data(END | flag::PADDED, 1, b"\x02testPP")], Answer);
    check("an empty body", &[open("0"), data(END, 1, b"")], Answer);
    check("no body", &[headers(END, 1, &with(&[("content-length", "0")]))], Answer);
    check("before trailers", &[open("4"), data(0, 1, b"test"), headers(END, 1, &field("x", "y"))], Answer);
    check("too short", &[open("5"), data(END, 1, b"test")], malformed);
    check("too short with trailers", &[open("5"), data(0, 1, b"test"), headers(END, 1, &field("x", "y"))], malformed);
    check("too long before the end", &[open("3"), data(0, 1, b"test")], malformed);
    check("no body but a length", &[headers(END, 1, &with(&[("content-length", "1")]))], malformed);
    check("two lengths", &[headers(0, 1, &with(&[("content-length", "1"), ("content-length", "2")]))], malformed);
    check("not a number", &[headers(0, 1, &with(&[("content-length", "-1")]))], malformed);
}

#[test]
fn section_8_2_1_trailers_are_checked_like_heads() {
    let open = || headers(0, 1, WAIT);
    for fields in [field("Upper", "x"), field("x", " y"), field("connection", "close"), field("x", "a\nb")] {
        check("trailers", &[open(), headers(END, 1, &fields)], Reset(1, ErrorCode::Protocol));
    }
    // Larger than the largest field section.
    let large: Vec<u8> = (0..200).flat_map(|_| field("x", &"y".repeat(100))).collect();
    check("trailers", &[open(), headers(END, 1, &large)], Reset(1, ErrorCode::Protocol));
}

#[test]
fn section_8_5_connect() {
    let connect = |fields: &[(&str, &str)]| {
        let fields: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        [headers(END, 1, &[field(":method", "CONNECT"), fields].concat())]
    };
    let malformed = Reset(1, ErrorCode::Protocol);
    check("connect", &connect(&[(":authority", "host:80")]), Answer);
    check("connect", &connect(&[]), malformed);
    check("connect", &connect(&[(":authority", "host:80"), (":scheme", "http"), (":path", "/")]), malformed);
}
