//! What every server does: the group `generic` of h2spec.

use super::*;

fn priority(stream: StreamId, dependency: u32, weight: u8) -> Vec<u8> {
    frame(kind::PRIORITY, 0, stream, &[&dependency.to_be_bytes()[..], &[weight]].concat())
}

#[test]
fn starting_http2() {
    check("generic/1/1", &[ping()], Pong);
}

#[test]
fn streams_and_multiplexing() {
    let request = || headers(END, 1, REQUEST);
    check("generic/2/1", &[priority(1, 0, 255), ping()], Pong);
    let no_window = frame::settings(&[(frame::setting::INITIAL_WINDOW_SIZE, 0)]);
    let body = [headers(0, 1, REQUEST), data(END, 1, b"test")].concat();
    check("generic/2/2", &[no_window.clone(), body.clone(), frame::window_update(1, 100)], Data(&[4]));
    check("generic/2/3", &[no_window, body, priority(1, 0, 255), frame::window_update(1, 100)], Data(&[4]));
    check("generic/2/4", &[headers(END, 1, WAIT), rst(1), ping()], Pong);
    check("generic/2/5", &[request(), priority(1, 0, 255), ping()], Pong);
}

#[test]
fn frames_are_accepted() {
    let request = || headers(END, 1, REQUEST);
    let continuation = |flags, block: &[u8]| frame(kind::CONTINUATION, flags, 1, block);
    let first = || frame(kind::HEADERS, END, 1, &REQUEST[..1]);
    check("generic/3.1/1", &[headers(0, 1, REQUEST), data(END, 1, b"test")], Answer);
    check("generic/3.1/2", &[headers(0, 1, REQUEST), data(0, 1, b"test"), data(END, 1, b"test")], Answer);
    check("generic/3.1/3", &[headers(0, 1, REQUEST), data(END | flag::PADDED, 1, b"\x06testPPPPPP")], Answer);
    check("generic/3.2/1", &[request()], Answer);
    check("generic/3.2/2", &[headers(END | flag::PADDED, 1, b"\x06\x83\x86\x84PPPPPP")], Answer);
    check("generic/3.2/3", &[headers(END | flag::PRIORITY, 1, b"\0\0\0\0\xff\x83\x86\x84")], Answer);
    check("generic/3.3/1", &[priority(1, 0, 0), request()], Answer);
    check("generic/3.3/2", &[priority(1, 0, 255), request()], Answer);
    check("generic/3.3/3", &[priority(1, 3, 255), request()], Answer);
    check("generic/3.3/4", &[priority(1, 1 << 31 | 3, 255), request()], Answer);
    check("generic/3.3/5", &[priority(5, 0, 255), request()], Answer);
    check("generic/3.4/1", &[headers(0, 1, WAIT), rst(1), ping()], Pong);
    check("generic/3.7/1", &[ping()], Pong);
    check("generic/3.9/1", &[frame::window_update(0, 1), ping()], Pong);
    check("generic/3.9/2", &[headers(0, 1, REQUEST), frame::window_update(1, 1), data(END, 1, b"")], Answer);
    check("generic/3.10/1", &[first(), continuation(flag::END_HEADERS, &REQUEST[1..])], Answer);
    let rest = [continuation(0, &REQUEST[1..2]), continuation(flag::END_HEADERS, &REQUEST[2..])];
    check("generic/3.10/2", &[first(), rest.concat()], Answer);
}

#[test]
fn settings_are_acknowledged() {
    // generic/3.5/1 and http2/6.5.3/2
    let mut peer = Peer::start();
    while peer.next_frame().is_some() {}
    peer.send(&frame::settings(&[(frame::setting::ENABLE_PUSH, 0)]));
    let (header, payload) = peer.next_frame().unwrap();
    assert_eq!((header.kind, header.flags, &payload[..]), (kind::SETTINGS, flag::ACK, &[][..]));
}

#[test]
fn a_goaway_ends_the_connection_or_not() {
    // generic/3.8/1 and http2/7/1 allow both; RFC 9113 §7: the code has no effect, even if it is unknown.
    for code in [0, 0xff_u32] {
        let mut peer = Peer::start();
        peer.send_head(COMPLETE, 1, "/wait");
        peer.send(&frame(kind::GOAWAY, 0, 0, &[[0; 4], code.to_be_bytes()].concat()));
        peer.send(&ping());
        assert_eq!(peer.next().unwrap().0.kind, kind::PING);
        assert!(peer.error.is_none());
    }
}

#[test]
fn messages_are_answered() {
    // :method HEAD has no index.
    let head = [&b"\x02\x04HEAD"[..], &REQUEST[1..]].concat();
    check("generic/4/1", &[headers(END, 1, b"\x82\x86\x84")], Answer);
    check("generic/4/2", &[headers(END, 1, &head)], Answer);
    check("generic/4/3", &[headers(0, 1, REQUEST), data(END, 1, b"test")], Answer);
    let trailers = headers(END, 1, &field("x-test", "ok"));
    check("generic/4/4", &[headers(0, 1, REQUEST), data(0, 1, b"test"), trailers], Answer);
}

#[test]
fn representations_of_fields() {
    // user-agent is index 58, which is 15 + 43 with a prefix of 4 bits. "a8eb10649cbf" is "no-cache".
    let huffman = b"\x86\xa8\xeb\x10\x64\x9c\xbf";
    let plain = b"\x01a";
    let new = b"\x01x";
    let new_huffman = b"\x81\xf3"; // "x", padded with ones.
    let blocks: [(&str, Vec<u8>); 15] = [
        ("generic/5/1", b"\x90".to_vec()),
        ("generic/5/2", [&b"\x7a"[..], plain].concat()),
        ("generic/5/3", [&b"\x7a"[..], huffman].concat()),
        ("generic/5/4", [&b"\x40"[..], new, plain].concat()),
        ("generic/5/5", [&b"\x40"[..], new_huffman, huffman].concat()),
        ("generic/5/6", [&b"\x0f\x2b"[..], plain].concat()),
        ("generic/5/7", [&b"\x0f\x2b"[..], huffman].concat()),
        ("generic/5/8", [&b"\x00"[..], new, plain].concat()),
        ("generic/5/9", [&b"\x00"[..], new_huffman, huffman].concat()),
        ("generic/5/10", [&b"\x1f\x2b"[..], plain].concat()),
        ("generic/5/11", [&b"\x1f\x2b"[..], huffman].concat()),
        ("generic/5/12", [&b"\x10"[..], new, plain].concat()),
        ("generic/5/13", [&b"\x10"[..], new_huffman, huffman].concat()),
        ("generic/5/14", Vec::new()),
        ("generic/5/15", Vec::new()),
    ];
    for (id, rest) in blocks {
        // A change of the table's size comes first in a block; 0x30 is 16 bytes, 0x20 none.
        let change: &[u8] = match id {
            "generic/5/14" => b"\x30",
            "generic/5/15" => b"\x20\x30",
            _ => b"",
        };
        check(id, &[headers(END, 1, &[change, REQUEST, &rest].concat())], Answer);
    }
}
