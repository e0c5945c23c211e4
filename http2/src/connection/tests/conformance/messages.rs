//! RFC 9113 §8: requests.

use super::*;

const MALFORMED: Expected = Reset(1, ErrorCode::Protocol);

fn malformed(id: &str, block: &[u8]) {
    check(id, &[headers(END, 1, block)], MALFORMED);
}

#[test]
fn section_8_1_framing() {
    check("http2/8.1/1", &[headers(0, 1, WAIT), headers(0, 1, &field("x", "y"))], MALFORMED);
}

#[test]
fn section_8_1_1_malformed_messages() {
    let length = || headers(0, 1, &with(&[("content-length", "1")]));
    check("http2/8.1.2.6/1", &[length(), data(END, 1, b"test")], MALFORMED);
    check("http2/8.1.2.6/2", &[length(), [data(0, 1, b"test"), data(END, 1, b"test")].concat()], MALFORMED);
}

#[test]
fn section_8_2_fields() {
    malformed("http2/8.1.2/1", &with(&[("X-TEST", "ok")]));
    malformed("http2/8.1.2.2/1", &with(&[("connection", "keep-alive")]));
    malformed("http2/8.1.2.2/2", &with(&[("trailers", "test"), ("te", "trailers, deflate")]));
}

#[test]
fn section_8_3_pseudo_header_fields() {
    malformed("http2/8.1.2.1/1", &with(&[(":test", "ok")]));
    malformed("http2/8.1.2.1/2", &with(&[(":status", "200")]));
    let trailers = headers(END, 1, &[field("x-test", "ok"), field(":method", "200")].concat());
    check("http2/8.1.2.1/3", &[headers(0, 1, WAIT), trailers], MALFORMED);
    malformed("http2/8.1.2.1/4", &[&field("x-test", "ok"), REQUEST].concat());
}

#[test]
fn section_8_3_1_request_pseudo_header_fields() {
    malformed("http2/8.1.2.3/1", &[&b"\x83\x86"[..], &field(":path", "")].concat());
    malformed("http2/8.1.2.3/2", b"\x86\x84");
    malformed("http2/8.1.2.3/3", b"\x83\x84");
    malformed("http2/8.1.2.3/4", b"\x83\x86");
    malformed("http2/8.1.2.3/5", &with(&[(":method", "POST")]));
    malformed("http2/8.1.2.3/6", &with(&[(":scheme", "http")]));
    malformed("http2/8.1.2.3/7", &with(&[(":path", "/")]));
}

#[test]
fn section_8_4_push() {
    let push = frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[&[0, 0, 0, 3], REQUEST].concat());
    check("http2/8.2/1", &[headers(0, 1, WAIT), push], GoAway(ErrorCode::Protocol));
}
