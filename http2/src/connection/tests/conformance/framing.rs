//! RFC 9113 §3.4, §4 and §5.5: the preface and frames of any type.

use super::*;

#[test]
fn section_3_4_preface() {
    // http2/3.5/1: the first frame is SETTINGS.
    let (header, _) = Peer::start().next_frame().unwrap();
    assert_eq!((header.kind, header.flags), (kind::SETTINGS, 0));
    let invalid = b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec();
    verify("http2/3.5/2", Peer::new(), &[invalid], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_4_1_frame_format() {
    check("http2/4.1/1", &[frame(0xff, 0, 0, &[0; 8]), ping()], Pong);
    check("http2/4.1/2", &[frame(kind::PING, 0x16, 0, PING)], Pong);
    let mut reserved = ping();
    reserved[5] |= 0x80;
    check("http2/4.1/3", &[reserved], Pong);
}

#[test]
fn section_4_2_frame_size() {
    let open = || headers(0, 1, REQUEST);
    check("http2/4.2/1", &[open(), data(END, 1, &[b'x'; 1 << 14])], Answer);
    // Larger than what the server announces.
    let large = vec![0x82; (1 << 20) + 1];
    check("http2/4.2/2", &[open(), data(END, 1, &large)], GoAway(ErrorCode::FrameSize));
    check("http2/4.2/3", &[headers(END, 1, &large)], GoAway(ErrorCode::FrameSize));
}

#[test]
fn section_4_3_field_sections() {
    let unfinished = || frame(kind::HEADERS, END, 1, REQUEST);
    // A literal whose name has a length that is not there.
    check("http2/4.3/1", &[headers(END, 1, b"\x40")], GoAway(ErrorCode::Compression));
    let priority = frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 255]);
    check("http2/4.3/2", &[unfinished(), priority], GoAway(ErrorCode::Protocol));
    check("http2/4.3/3", &[unfinished(), headers(END, 3, REQUEST)], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_5_4_1_connection_errors() {
    // http2/5.4.1/1 and /2: the connection is closed after a GOAWAY.
    let invalid = frame(kind::PING, 0, 3, PING);
    check("http2/5.4.1/1", std::slice::from_ref(&invalid), GoAway(ErrorCode::Protocol));
    check("http2/5.4.1/2", &[invalid], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_5_5_extensions() {
    check("http2/5.5/1", &[frame(0x16, 0, 0, &[0; 8]), ping()], Pong);
    let unfinished = frame(kind::HEADERS, END, 1, REQUEST);
    check("http2/5.5/2", &[unfinished, frame(0x16, 0, 0, &[0; 8])], GoAway(ErrorCode::Protocol));
}
