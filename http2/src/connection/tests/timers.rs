//! Timeouts, in virtual time.

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

impl Peer {
    /// Moves the clock to just before the timeout, then to it.
    fn wait(&mut self) -> Duration {
        let before = self.now;
        let at = self.connection.next_timeout().expect("no timeout");
        self.connection.handle_timeout(at - MS).unwrap();
        assert!(self.next().is_none(), "too soon");
        assert_eq!(self.connection.next_timeout(), Some(at));
        self.now = at;
        self.error = self.connection.handle_timeout(at).err();
        at - before
    }

    fn acknowledge_settings(&mut self) {
        self.send(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[]));
    }
}

#[test]
fn nothing_is_awaited_from_an_idle_client() {
    let mut peer = Peer::new();
    assert_eq!(peer.connection.next_timeout(), None);
    peer.send(&[PREFACE, &frame::settings(&[])].concat());
    peer.acknowledge_settings();
    peer.works(1);
    assert_eq!(peer.connection.next_timeout(), None);
}

#[test]
fn settings_must_be_acknowledged() {
    let mut peer = Peer::start();
    peer.works(1);
    peer.now += 10 * MS;
    peer.works(3);
    assert_eq!(peer.wait(), Timeouts::default().settings_ack - 10 * MS);
    assert_eq!(peer.error, Some(ErrorCode::SettingsTimeout));
    assert_eq!(peer.connection_error(), ErrorCode::SettingsTimeout as u32);
}

#[test]
fn a_silent_client_with_an_open_stream_is_asked() {
    let timeouts = Timeouts::default();
    let mut peer = Peer::start();
    peer.acknowledge_settings();
    peer.send_head(COMPLETE, 1, "/wait");
    while peer.next().is_some() {}
    for _ in 0..3 {
        assert_eq!(peer.wait(), timeouts.ping_interval);
        let (header, payload) = peer.next().unwrap();
        assert_eq!((header.kind, header.flags), (kind::PING, 0));
        // Anything is an answer.
        peer.now += timeouts.ping_answer - MS;
        peer.send(&frame::frame(kind::PING, flag::ACK, 0, &payload));
    }
    peer.wait();
    peer.next().unwrap();
    assert_eq!(peer.wait(), timeouts.ping_answer);
    assert_eq!(peer.error, Some(ErrorCode::NoError));
    assert_eq!(peer.connection_error(), ErrorCode::NoError as u32);
}

#[test]
fn an_idle_client_is_asked_if_the_options_say_so() {
    let timeouts = Timeouts { ping_idle: true, ..Timeouts::default() };
    let mut peer = Peer::new();
    peer.connection = Connection::new(Limits::default(), timeouts, peer.now);
    assert_eq!(peer.connection.next_timeout(), None, "not before its preface");
    peer.send(&[PREFACE, &frame::settings(&[])].concat());
    peer.acknowledge_settings();
    while peer.next().is_some() {}
    assert_eq!(peer.wait(), timeouts.ping_interval);
    let (header, payload) = peer.next().unwrap();
    assert_eq!(header.kind, kind::PING);
    peer.send(&frame::frame(kind::PING, flag::ACK, 0, &payload));
    assert_eq!(peer.wait(), timeouts.ping_interval);
    peer.next().unwrap();
    assert_eq!(peer.wait(), timeouts.ping_answer);
    assert_eq!(peer.error, Some(ErrorCode::NoError));
}

#[test]
fn a_client_that_takes_bytes_is_not_silent() {
    let mut peer = Peer::start();
    peer.acknowledge_settings();
    peer.send_head(COMPLETE, 1, "/wait");
    while peer.next().is_some() {}
    for _ in 0..10 {
        peer.now += Timeouts::default().ping_interval / 2;
        peer.connection.handle_timeout(peer.now).unwrap();
        peer.connection.send_response(1, StatusCode::CONTINUE, &HeaderMap::new(), false);
        // While something waits to be written, the socket is what is slow.
        assert_eq!(peer.connection.next_timeout(), None);
        assert_eq!(peer.next().unwrap().0.kind, kind::HEADERS);
        assert!(peer.next().is_none());
    }
}

#[test]
fn a_graceful_end_does_not_wait_for_the_client() {
    let mut peer = Peer::start();
    peer.acknowledge_settings();
    peer.send_head(flag::END_HEADERS, 1, "/whole");
    while peer.next().is_some() {}
    peer.connection.shut_down(peer.now);
    assert_eq!(peer.next().unwrap().0.kind, kind::GOAWAY);
    assert_eq!(peer.next().unwrap().0.kind, kind::PING);
    assert_eq!(peer.wait(), Timeouts::default().goodbye);
    let (header, payload) = peer.next().unwrap();
    assert_eq!((header.kind, &payload[..4]), (kind::GOAWAY, &[0, 0, 0, 1][..]));
    assert!(!peer.connection.is_closed());
    peer.send(&frame::frame(kind::DATA, flag::END_STREAM, 1, b"abc"));
    assert!(peer.connection.is_closed());
}

#[test]
fn a_client_that_does_not_read_the_end_is_left() {
    let timeouts = Timeouts::default();
    let mut peer = Peer::start();
    peer.send(&frame::window_update(0, 0));
    peer.connection.handle_timeout(peer.now + timeouts.close - MS).unwrap();
    assert!(!peer.connection.is_given_up());
    peer.connection.handle_timeout(peer.now + timeouts.close).unwrap();
    assert!(peer.connection.is_given_up() && peer.connection.next_timeout().is_none());

    // After a graceful end, as long as it takes nothing of what is left.
    let mut peer = Peer::start();
    peer.connection.shut_down(peer.now);
    peer.connection.handle_timeout(peer.now + timeouts.goodbye).unwrap();
    assert!(peer.connection.is_closed() && peer.connection.queued_bytes() > 1);
    peer.now += timeouts.drain - MS;
    peer.connection.transmitted(1, peer.now);
    peer.connection.handle_timeout(peer.now + timeouts.drain - MS).unwrap();
    assert!(!peer.connection.is_given_up());
    peer.connection.handle_timeout(peer.now + timeouts.drain).unwrap();
    assert!(peer.connection.is_given_up());
}

#[test]
fn no_time_is_too_long() {
    let ages = Duration::MAX;
    let timeouts = Timeouts {
        settings_ack: ages,
        ping_interval: ages,
        ping_idle: true,
        ping_answer: ages,
        goodbye: ages,
        drain: ages,
        close: ages,
    };
    let mut peer = Peer::start();
    peer.connection = Connection::new(Limits::default(), timeouts, peer.now);
    peer.send(&[PREFACE, &frame::settings(&[])].concat());
    peer.send_head(COMPLETE, 1, "/wait");
    while peer.next().is_some() {}
    peer.connection.shut_down(peer.now);
    assert_eq!(peer.connection.next_timeout(), None);
    peer.connection.handle_timeout(peer.now + Duration::from_secs(1 << 30)).unwrap();
    peer.send(&frame::window_update(0, 0));
    assert_eq!(peer.connection.next_timeout(), None);
}
