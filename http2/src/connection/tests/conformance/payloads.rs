//! RFC 9113 §6 and §7: frames of each type.

use super::*;
use crate::frame::{MAX_WINDOW_BYTES, setting};

const PROTOCOL: Expected = GoAway(ErrorCode::Protocol);
const FRAME_SIZE: Expected = GoAway(ErrorCode::FrameSize);
const FLOW_CONTROL: Expected = GoAway(ErrorCode::FlowControl);

#[test]
fn section_6_1_data() {
    check("http2/6.1/1", &[headers(0, 1, REQUEST), data(END, 0, b"test")], PROTOCOL);
    check("http2/6.1/2", &[headers(END, 1, WAIT), data(END, 1, b"test")], Reset(1, ErrorCode::StreamClosed));
    check("http2/6.1/3", &[headers(0, 1, REQUEST), data(END | flag::PADDED, 1, b"\x06\x54\x65")], PROTOCOL);
}

#[test]
fn section_6_2_headers() {
    let unfinished = || frame(kind::HEADERS, END, 1, REQUEST);
    check("http2/6.2/1", &[unfinished(), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 255])], PROTOCOL);
    check("http2/6.2/2", &[unfinished(), headers(END, 3, REQUEST)], PROTOCOL);
    check("http2/6.2/3", &[headers(END, 0, REQUEST)], PROTOCOL);
    check("http2/6.2/4", &[headers(END | flag::PADDED, 1, b"\x07\x83\x86\x84")], PROTOCOL);
}

#[test]
fn section_6_3_priority() {
    check("http2/6.3/1", &[frame(kind::PRIORITY, 0, 0, &[0; 5])], PROTOCOL);
    check("http2/6.3/2", &[headers(0, 1, WAIT), frame(kind::PRIORITY, 0, 1, &[0x80, 0, 0, 1])], FRAME_SIZE);
}

#[test]
fn section_6_4_rst_stream() {
    check("http2/6.4/1", &[rst(0)], PROTOCOL);
    check("http2/6.4/2", &[rst(1)], PROTOCOL);
    check("http2/6.4/3", &[headers(0, 1, WAIT), frame(kind::RST_STREAM, 0, 1, &[0; 3])], FRAME_SIZE);
}

#[test]
fn section_6_5_settings() {
    check("http2/6.5/1", &[frame(kind::SETTINGS, flag::ACK, 0, &[0])], FRAME_SIZE);
    check("http2/6.5/2", &[frame(kind::SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 0x64])], PROTOCOL);
    check("http2/6.5/3", &[frame(kind::SETTINGS, 0, 0, &[0, 3, 0])], FRAME_SIZE);
}

#[test]
fn section_6_5_2_defined_settings() {
    let settings = |name, value| [frame::settings(&[(name, value)])];
    check("http2/6.5.2/1", &settings(setting::ENABLE_PUSH, 2), PROTOCOL);
    check("http2/6.5.2/2", &settings(setting::INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES + 1), FLOW_CONTROL);
    check("http2/6.5.2/3", &settings(setting::MAX_FRAME_SIZE, (1 << 14) - 1), PROTOCOL);
    check("http2/6.5.2/4", &settings(setting::MAX_FRAME_SIZE, 1 << 24), PROTOCOL);
    check("http2/6.5.2/5", &[frame::settings(&[(0xff, 1)]), ping()], Pong);
}

#[test]
fn section_6_5_3_synchronization() {
    let settings = frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 100), (setting::INITIAL_WINDOW_SIZE, 1)]);
    check("http2/6.5.3/1", &[settings, headers(0, 1, REQUEST), data(END, 1, b"test")], Data(&[1]));
    // http2/6.5.3/2 is in `generic::settings_are_acknowledged`.
}

#[test]
fn section_6_7_ping() {
    check("http2/6.7/1", &[ping()], Pong);
    check("http2/6.7/2", &[frame(kind::PING, flag::ACK, 0, b"unasked!"), ping()], Pong);
    check("http2/6.7/3", &[frame(kind::PING, 0, 1, PING)], PROTOCOL);
    check("http2/6.7/4", &[frame(kind::PING, 0, 0, &[0; 6])], FRAME_SIZE);
}

#[test]
fn section_6_8_goaway() {
    check("http2/6.8/1", &[frame(kind::GOAWAY, 0, 1, &[0; 8])], PROTOCOL);
}

#[test]
fn section_6_9_window_update() {
    check("http2/6.9/1", &[frame::window_update(0, 0)], PROTOCOL);
    check("http2/6.9/2", &[headers(0, 1, WAIT), frame::window_update(1, 0)], Reset(1, ErrorCode::Protocol));
    check("http2/6.9/3", &[frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1])], FRAME_SIZE);
}

#[test]
fn section_6_9_1_flow_control_window() {
    let one = frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]);
    check("http2/6.9.1/1", &[one, headers(0, 1, REQUEST), data(END, 1, b"test")], Data(&[1]));
    let most =
        |stream| [frame::window_update(stream, MAX_WINDOW_BYTES), frame::window_update(stream, MAX_WINDOW_BYTES)];
    check("http2/6.9.1/2", &most(0), FLOW_CONTROL);
    let frames = [headers(0, 1, WAIT), most(1).concat()];
    check("http2/6.9.1/3", &frames, Reset(1, ErrorCode::FlowControl));
}

#[test]
fn section_6_9_2_initial_window() {
    let initial = |bytes| frame::settings(&[(setting::INITIAL_WINDOW_SIZE, bytes)]);
    let request = || [headers(0, 1, REQUEST), data(END, 1, b"tests")].concat();
    check("http2/6.9.2/1", &[initial(0), request(), initial(1)], Data(&[1]));
    check("http2/6.9.2/2", &[initial(3), request(), initial(2), frame::window_update(1, 2)], Data(&[3, 1]));
    check("http2/6.9.2/3", &[initial(MAX_WINDOW_BYTES + 1)], FLOW_CONTROL);
}

#[test]
fn section_6_10_continuation() {
    let unfinished = || frame(kind::HEADERS, END, 1, &REQUEST[..1]);
    let continuation = |flags, stream, block: &[u8]| frame(kind::CONTINUATION, flags, stream, block);
    let last = |stream| continuation(flag::END_HEADERS, stream, &REQUEST[1..]);
    check("http2/6.10/1", &[unfinished(), continuation(0, 1, b""), last(1)], Answer);
    check("http2/6.10/2", &[unfinished(), continuation(0, 1, &REQUEST[1..]), data(END, 1, b"test")], PROTOCOL);
    check("http2/6.10/3", &[unfinished(), last(0)], PROTOCOL);
    check("http2/6.10/4", &[headers(0, 1, WAIT), last(1)], PROTOCOL);
    check("http2/6.10/5", &[unfinished(), last(1), last(1)], PROTOCOL);
    check("http2/6.10/6", &[headers(0, 1, WAIT), data(0, 1, b"test"), last(1)], PROTOCOL);
}

#[test]
fn section_7_error_codes() {
    // http2/7/1 is in `generic::a_goaway_ends_the_connection_or_not`.
    check("http2/7/2", &[headers(0, 1, WAIT), frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 0xff]), ping()], Pong);
}
