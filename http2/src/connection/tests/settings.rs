//! The preface, settings and PING (RFC 9113 §3.4, §6.5 and §6.7).

use super::*;
use crate::frame::setting;

#[test]
fn the_preface_is_a_settings_frame() {
    let mut peer = Peer::new();
    let (header, payload) = peer.next_frame().unwrap();
    assert_eq!((header.kind, header.flags, header.stream), (kind::SETTINGS, 0, 0));
    let settings: Vec<_> = frame::read_settings(&payload).map(|(name, _)| name).collect();
    assert_eq!(
        settings,
        [
            setting::MAX_CONCURRENT_STREAMS,
            setting::INITIAL_WINDOW_SIZE,
            setting::MAX_FRAME_SIZE,
            setting::MAX_HEADER_LIST_SIZE
        ]
    );
    let (header, _) = peer.next_frame().unwrap();
    assert_eq!((header.kind, header.stream), (kind::WINDOW_UPDATE, 0));
    assert!(peer.next_frame().is_none());
}

#[test]
fn settings_are_acknowledged_at_once() {
    let mut peer = Peer::start();
    while peer.next_frame().is_some_and(|(header, _)| !(header.kind == kind::SETTINGS && header.has(flag::ACK))) {}
    for sent in [frame::settings(&[]), frame::settings(&[(setting::MAX_FRAME_SIZE, 20_000), (4711, 1)])] {
        peer.send(&sent);
        let (header, payload) = peer.next_frame().unwrap();
        assert_eq!((header.kind, header.flags, header.stream), (kind::SETTINGS, flag::ACK, 0));
        assert_eq!(payload, []);
    }
    // An acknowledgement is not acknowledged.
    peer.send(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[]));
    assert!(peer.next_frame().is_none());
}

#[test]
fn the_last_of_several_values_counts() {
    let mut peer = Peer::start();
    let sizes = [20, 5, 10].map(|size| (setting::INITIAL_WINDOW_SIZE, size));
    peer.send(&frame::settings(&sizes));
    peer.send_head(flag::END_HEADERS, 1, "/streamed");
    peer.send(&frame::frame(kind::DATA, 0, 1, &[0; 100]));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1.len(), 10);
}

#[test]
fn a_client_may_keep_no_dynamic_table() {
    let mut peer = Peer::start();
    peer.send(&frame::settings(&[(setting::HEADER_TABLE_SIZE, 0)]));
    let mut decoder = hpack::Decoder::new(0);
    for stream in [1, 3, 5] {
        peer.send_head(COMPLETE, stream, "/whole");
        for _ in 0..2 {
            let (header, block) = peer.next().unwrap();
            assert_eq!(header.kind, kind::HEADERS);
            decoder.decode(&block, |_, _| {}).unwrap();
        }
    }
}

#[test]
fn a_ping_is_answered_and_its_answer_is_not() {
    let mut peer = Peer::start();
    peer.send(&frame::frame(kind::PING, 0, 0, b"12345678"));
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags, header.stream), (kind::PING, flag::ACK, 0));
    assert_eq!(payload, b"12345678");
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, b"12345678"));
    assert!(peer.next().is_none());
}
