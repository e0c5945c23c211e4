//! The graceful end of a connection (RFC 9113 §6.8).

use super::*;
use crate::connection::{LARGEST_STREAM, SHUTDOWN_PING};

/// The last stream of the GOAWAY with NO_ERROR that comes next.
fn go_away(peer: &mut Peer) -> StreamId {
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, header.stream), (kind::GOAWAY, 0), "{header:?}");
    assert_eq!(payload[4..], [0; 4]);
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

#[test]
fn open_streams_and_those_sent_before_the_goaway_are_served() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    peer.connection.shut_down(peer.now);
    peer.connection.shut_down(peer.now);
    assert_eq!(go_away(&mut peer), LARGEST_STREAM);
    let (header, ping) = peer.next().unwrap();
    assert_eq!((header.kind, header.flags, &ping[..]), (kind::PING, 0, &SHUTDOWN_PING[..]));
    assert!(peer.next().is_none(), "a second announcement");

    // Sent before the client has read the GOAWAY.
    peer.works(3);
    // Not the acknowledgement.
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, b"another!"));
    peer.works(5);
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, &ping));
    assert_eq!(go_away(&mut peer), 5);

    // The rest of an open stream counts, a new stream does not. Its fields are decoded.
    peer.send_head(flag::END_HEADERS, 7, "/new");
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 7, b"ignored"));
    assert!(peer.next().is_none());
    assert!(!peer.connection.is_closed());
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, b"abc"));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1, b"abc");
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert!(peer.connection.is_closed());
    assert!(peer.error.is_none());
}

#[test]
fn an_idle_connection_ends_with_the_acknowledgement() {
    let mut peer = Peer::start();
    peer.works(1);
    peer.connection.shut_down(peer.now);
    assert_eq!(go_away(&mut peer), LARGEST_STREAM);
    let (_, ping) = peer.next().unwrap();
    assert!(!peer.connection.is_closed());
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, &ping));
    assert_eq!(go_away(&mut peer), 1);
    assert!(peer.connection.is_closed());
}

#[test]
fn a_connection_without_preface_ends_at_once() {
    for received in [0, 5] {
        let mut peer = Peer::new();
        peer.send(&PREFACE[..received]);
        peer.connection.shut_down(peer.now);
        assert!(peer.connection.is_closed());
        assert!(peer.next().is_none());
    }
}

#[test]
fn the_client_can_end_it() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    peer.send(&frame::go_away(0, ErrorCode::NoError));
    assert!(!peer.connection.is_closed());
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, b"abc"));
    assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
    assert_eq!(peer.next().unwrap().1, b"abc");
    assert_eq!(peer.next().unwrap().0.flags & flag::END_STREAM, flag::END_STREAM);
    assert!(peer.connection.is_closed());
}

#[test]
fn a_reset_stream_does_not_delay_the_end() {
    let mut peer = Peer::start();
    peer.send_head(flag::END_HEADERS, 1, "/wait");
    peer.send(&frame::go_away(0, ErrorCode::NoError));
    peer.send(&frame::rst_stream(1, ErrorCode::Cancel));
    assert!(peer.connection.is_closed());
}

#[test]
fn an_error_after_the_last_go_away_names_no_larger_stream() {
    let mut peer = Peer::start();
    peer.works(1);
    peer.connection.shut_down(peer.now);
    assert_eq!(go_away(&mut peer), LARGEST_STREAM);
    let (_, ping) = peer.next().unwrap();
    peer.send_head(flag::END_HEADERS, 3, "/wait");
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, &ping));
    assert_eq!(go_away(&mut peer), 3);
    peer.send_head(COMPLETE, 5, "/ignored");
    peer.send(&frame::window_update(0, 0));
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, &payload[..]), (kind::GOAWAY, &[0, 0, 0, 3, 0, 0, 0, 1][..]));
}
