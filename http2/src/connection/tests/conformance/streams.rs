//! RFC 9113 §5.1: the states, numbers and count of streams.

use super::*;

#[test]
fn section_5_1_idle() {
    let protocol = GoAway(ErrorCode::Protocol);
    check("http2/5.1/1", &[data(END, 1, b"test")], protocol);
    check("http2/5.1/2", &[rst(1)], protocol);
    check("http2/5.1/3", &[frame::window_update(1, 100)], protocol);
    check("http2/5.1/4", &[frame(kind::CONTINUATION, flag::END_HEADERS, 1, REQUEST)], protocol);
}

#[test]
fn section_5_1_half_closed() {
    let half_closed = || headers(END, 1, WAIT);
    let closed = Reset(1, ErrorCode::StreamClosed);
    check("http2/5.1/5", &[half_closed(), data(END, 1, b"test")], closed);
    check("http2/5.1/6", &[half_closed(), headers(END, 1, REQUEST)], closed);
    let continuation = frame(kind::CONTINUATION, flag::END_HEADERS, 1, REQUEST);
    check("http2/5.1/7", &[half_closed(), continuation], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_5_1_closed() {
    let continuation = || frame(kind::CONTINUATION, flag::END_HEADERS, 1, REQUEST);
    // By the client's RST_STREAM.
    let reset = || [headers(0, 1, WAIT), rst(1)].concat();
    check("http2/5.1/8", &[reset(), data(END, 1, b"test")], Reset(1, ErrorCode::StreamClosed));
    check("http2/5.1/9", &[reset(), headers(END, 1, REQUEST)], Reset(1, ErrorCode::StreamClosed));
    check("http2/5.1/10", &[reset(), continuation()], GoAway(ErrorCode::Protocol));
    // By END_STREAM of both sides.
    let ended = || headers(END, 1, REQUEST);
    check("http2/5.1/11", &[ended(), data(END, 1, b"test")], Reset(1, ErrorCode::StreamClosed));
    check("http2/5.1/12", &[ended(), headers(END, 1, REQUEST)], GoAway(ErrorCode::StreamClosed));
    check("http2/5.1/13", &[ended(), continuation()], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_5_1_1_identifiers() {
    check("http2/5.1.1/1", &[headers(END, 2, REQUEST)], GoAway(ErrorCode::Protocol));
    check("http2/5.1.1/2", &[headers(END, 5, REQUEST), headers(END, 3, REQUEST)], GoAway(ErrorCode::Protocol));
}

#[test]
fn section_5_1_2_concurrency() {
    let limit = Limits::default().concurrent_streams;
    let streams: Vec<_> = (0..=limit).map(|nth| headers(END, 2 * nth + 1, WAIT)).collect();
    check("http2/5.1.2/1", &streams, Reset(2 * limit + 1, ErrorCode::RefusedStream));
}
