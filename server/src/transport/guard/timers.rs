//! The timers of a connection: from what it does, and the time, to when it ends. No clock, no I/O.

use std::time::Duration;

use tokio::time::Instant;

/// How long a phase that needs no answer may last once a connection is to end.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// The time limits of a reserve connection, which is only for a probe.
const RESERVE_LIMIT: Duration = Duration::from_secs(5);

/// What a connection does, as its protocol reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client has sent nothing yet.
    FirstByte,
    /// The client sends the head of a request.
    Head,
    /// The client sends the body of a request.
    Body,
    /// All that was requested has arrived: the server computes or answers.
    Answer,
    /// No request is open.
    Idle,
    /// Streams are open, such as `ModelStreamInfer` or `Watch`, and none has a request in progress.
    Quiet,
}

/// Why a connection ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// [`Timeouts::first_byte`].
    #[error("the client sent nothing (--first-byte-timeout-secs)")]
    FirstByte,
    /// [`Timeouts::head`].
    #[error("the head of a request was not complete in time (--head-timeout-secs)")]
    Head,
    /// [`Timeouts::receive`].
    #[error("the body of a request came too slowly (--min-receive-rate)")]
    Body,
    /// [`Timeouts::send`].
    #[error("the client took its answer too slowly (--min-send-rate)")]
    Answer,
    /// [`Timeouts::idle`].
    #[error("no request was open for long (--idle-timeout-secs)")]
    Idle,
    /// The server or the listener asked it to end, and it had no request in progress.
    #[error("the server ended a connection without a request")]
    Leaving,
}

/// The least rate of a transfer, as an average over the time that the server waits for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes for each second; 0 for no limit.
    pub bytes_per_second: u64,
    /// The time over which it is averaged: a client may stop for almost as long.
    pub window: Duration,
}

impl Rate {
    /// Bytes of its window; 0 for no limit.
    fn enough(self) -> u64 {
        self.bytes_per_second.saturating_mul(self.window.as_millis() as u64) / 1000
    }
}

/// The time limits of a connection; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start to the first byte.
    pub first_byte: Option<Duration>,
    /// From the first byte of a head to its end.
    pub head: Option<Duration>,
    /// Between two requests.
    pub idle: Option<Duration>,
    /// Of a request's body.
    pub receive: Rate,
    /// Of an answer.
    pub send: Rate,
    /// From an HTTP/2 client's preface to its acknowledgement of the server's SETTINGS.
    pub settings_ack: Option<Duration>,
    /// Silence on an HTTP/2 connection with open streams, after which the client must answer a PING.
    pub ping_interval: Option<Duration>,
    /// Whether a connection without open streams gets that PING, too.
    pub ping_idle: bool,
    /// From that PING to its answer.
    pub ping_answer: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let rate = Rate { bytes_per_second: 256, window: Duration::from_secs(60) };
        let minute = Some(Duration::from_secs(60));
        Self {
            first_byte: minute,
            head: minute,
            idle: Some(Duration::from_secs(300)),
            receive: rate,
            send: rate,
            settings_ack: Some(Duration::from_secs(30)),
            ping_interval: minute,
            ping_idle: false,
            ping_answer: minute,
        }
    }
}

impl Timeouts {
    /// The limits of a connection that is only for a probe: at most some seconds, and the same rates.
    #[must_use]
    pub fn of_reserve(self) -> Self {
        let short = |limit: Option<Duration>| Some(limit.map_or(RESERVE_LIMIT, |limit| limit.min(RESERVE_LIMIT)));
        let window = |rate: Rate| Rate {
            bytes_per_second: rate.bytes_per_second.max(1),
            window: rate.window.min(RESERVE_LIMIT),
        };
        Self {
            first_byte: short(self.first_byte),
            head: short(self.head),
            idle: short(self.idle),
            receive: window(self.receive),
            send: window(self.send),
            settings_ack: short(self.settings_ack),
            ping_interval: short(self.ping_interval),
            ping_idle: self.ping_idle,
            ping_answer: short(self.ping_answer),
        }
    }
}

/// What a connection has done since the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// The phase.
    pub phase: Phase,
    /// When the phase began.
    pub since: Instant,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Whether the server can do nothing until the client sends more of a body.
    pub waits_for_body: bool,
    /// Whether a part of an answer waits for the client to take it.
    pub waits_for_taking: bool,
    /// Bodies that have begun and are received side by side.
    pub bodies: usize,
}

/// The timers of one connection.
#[derive(Debug)]
pub(super) struct Timers {
    timeouts: Timeouts,
    receive: Progress,
    send: Progress,
    leaving: Option<Instant>,
    /// When to look at each body that is received.
    bodies_at: Option<Instant>,
}

impl Timers {
    /// Timers of a new connection.
    pub(super) fn new(timeouts: Timeouts) -> Self {
        Self { timeouts, receive: Progress::default(), send: Progress::default(), leaving: None, bodies_at: None }
    }

    /// The bytes that bodies which are received side by side must have received together since this was due the last time;
    /// `None` if it is not due. The connection's rate alone does not show one that has stopped beside others.
    pub(super) fn each_body_needs(&mut self, now: Instant) -> Option<u64> {
        self.bodies_at.take_if(|at| *at <= now).map(|_| self.timeouts.receive.enough())
    }

    /// From now on the connection ends as soon as it has no request in progress.
    pub(super) fn leave(&mut self, now: Instant) {
        self.leaving.get_or_insert(now);
    }

    /// Called when the connection has done all that it can for now. Returns when to look again; `None` for not before
    /// something happens.
    ///
    /// # Errors
    /// The reason to end the connection.
    pub(super) fn look(&mut self, seen: Observed, now: Instant) -> Result<Option<Instant>, Reason> {
        let receive =
            self.receive.look(seen.waits_for_body, seen.received, self.timeouts.receive, now).ok_or(Reason::Body)?;
        let send = self.send.look(seen.waits_for_taking, seen.sent, self.timeouts.send, now).ok_or(Reason::Answer)?;
        self.bodies_at = match self.timeouts.receive.enough() {
            enough if enough > 0 && seen.bodies > 0 => {
                self.bodies_at.or_else(|| now.checked_add(self.timeouts.receive.window))
            }
            _ => None,
        };
        let (limit, reason) = match seen.phase {
            Phase::FirstByte => (self.timeouts.first_byte, Reason::FirstByte),
            Phase::Head => (self.timeouts.head, Reason::Head),
            Phase::Idle => (self.timeouts.idle, Reason::Idle),
            Phase::Quiet | Phase::Body | Phase::Answer => (None, Reason::Idle),
        };
        // A phase may also wait for the client to take an answer: then the rate decides.
        let busy = matches!(seen.phase, Phase::Body | Phase::Answer) || seen.waits_for_taking;
        let limit = limit.filter(|_| !seen.waits_for_taking && self.leaving.is_none());
        let phase = limit.and_then(|limit| seen.since.checked_add(limit));
        let leave = self.leaving.filter(|_| !busy).map(|leaving| match seen.phase {
            // Its request has not begun, or should have been complete by now.
            Phase::FirstByte | Phase::Head => leaving.max(seen.since + LEAVE_GRACE),
            // The client may be sending a request: it must hear first that the connection ends.
            _ => leaving.max(seen.since) + LEAVE_GRACE,
        });
        for (end, reason) in [(phase, reason), (leave, Reason::Leaving)] {
            if end.is_some_and(|end| end <= now) {
                return Err(reason);
            }
        }
        Ok([receive, send, phase, leave, self.bodies_at].into_iter().flatten().min())
    }
}

/// How much of a transfer arrives while the server waits for it.
#[derive(Debug, Default)]
struct Progress {
    waiting_since: Option<Instant>,
    /// Time waited since the rate was last reached.
    waited: Duration,
    bytes: u64,
}

impl Progress {
    /// Takes in `bytes` that were transferred since the last look. Returns when to look again: `Some(None)` if nothing is
    /// waited for, and `None` if the transfer is too slow.
    fn look(&mut self, waits: bool, bytes: u64, rate: Rate, now: Instant) -> Option<Option<Instant>> {
        let enough = rate.enough();
        if !waits || enough == 0 {
            *self = Self::default();
            return Some(None);
        }
        if let Some(since) = self.waiting_since.replace(now) {
            self.waited += now - since;
        }
        self.bytes += bytes;
        if self.bytes >= enough {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        let left = rate.window.checked_sub(self.waited).filter(|left| !left.is_zero())?;
        Some(Some(now + left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(phase: Phase, since: Instant) -> Observed {
        Observed { phase, since, received: 0, sent: 0, waits_for_body: false, waits_for_taking: false, bodies: 0 }
    }

    #[test]
    fn each_phase_without_a_transfer_has_its_limit() {
        let start = Instant::now();
        for (phase, limit) in [
            (Phase::FirstByte, Some((60, Reason::FirstByte))),
            (Phase::Head, Some((60, Reason::Head))),
            (Phase::Idle, Some((300, Reason::Idle))),
            (Phase::Answer, None),
            (Phase::Quiet, None),
        ] {
            let mut timers = Timers::new(Timeouts::default());
            let next = timers.look(seen(phase, start), start).unwrap();
            assert_eq!(next, limit.map(|(seconds, _)| start + SECOND * seconds), "{phase:?}");
            let Some((seconds, reason)) = limit else { continue };
            assert!(timers.look(seen(phase, start), start + SECOND * (seconds - 1)).is_ok());
            assert_eq!(timers.look(seen(phase, start), start + SECOND * seconds), Err(reason));
        }
    }

    #[test]
    fn a_transfer_must_reach_its_rate_over_the_time_waited() {
        let start = Instant::now();
        let (mut timers, mut now) = (Timers::new(Timeouts::default()), start);
        let body = |received| Observed { received, waits_for_body: true, ..seen(Phase::Body, start) };
        // 8 kB each second for an hour, with pauses of 50 seconds.
        for _ in 0..60 {
            for bytes in [8000; 10].into_iter().chain([0; 50]) {
                now += SECOND;
                timers.look(body(bytes), now).unwrap();
            }
        }
        // Time that the server does not wait does not count.
        timers.look(seen(Phase::Body, start), now).unwrap();
        now += SECOND * 3600;
        let next = timers.look(body(0), now).unwrap();
        assert_eq!(next, Some(now + SECOND * 60));
        for _ in 0..59 {
            now += SECOND;
            timers.look(body(1), now).unwrap();
        }
        assert_eq!(timers.look(body(1), now + SECOND), Err(Reason::Body));
    }

    #[test]
    fn an_answer_that_is_not_taken_ends_the_connection_in_any_phase() {
        let start = Instant::now();
        for phase in [Phase::Answer, Phase::Idle, Phase::Quiet] {
            let waiting = Observed { waits_for_taking: true, ..seen(phase, start) };
            let mut timers = Timers::new(Timeouts::default());
            assert_eq!(timers.look(waiting, start).unwrap(), Some(start + SECOND * 60));
            assert_eq!(timers.look(waiting, start + SECOND * 60), Err(Reason::Answer), "{phase:?}");
        }
    }

    #[test]
    fn a_leaving_connection_ends_as_soon_as_it_has_no_request() {
        let start = Instant::now();
        let later = start + SECOND * 10;
        for phase in [Phase::FirstByte, Phase::Head] {
            let mut timers = Timers::new(Timeouts::default());
            timers.leave(later);
            assert_eq!(timers.look(seen(phase, start), later), Err(Reason::Leaving), "{phase:?}");
            assert_eq!(timers.look(seen(phase, later), later).unwrap(), Some(later + LEAVE_GRACE), "{phase:?}");
        }
        for phase in [Phase::Idle, Phase::Quiet] {
            let mut timers = Timers::new(Timeouts::default());
            timers.leave(later);
            assert_eq!(timers.look(seen(phase, start), later).unwrap(), Some(later + LEAVE_GRACE), "{phase:?}");
            assert_eq!(timers.look(seen(phase, start), later + LEAVE_GRACE), Err(Reason::Leaving), "{phase:?}");
        }
        // Its time as an idle connection is over: it still hears that it ends.
        let mut timers = Timers::new(Timeouts::default());
        timers.leave(start + SECOND * 300);
        assert!(timers.look(seen(Phase::Idle, start), start + SECOND * 300).is_ok());
        let mut timers = Timers::new(Timeouts::default());
        timers.leave(start);
        assert_eq!(timers.look(seen(Phase::Answer, start), later), Ok(None));
        let next = timers.look(seen(Phase::Idle, later), later).unwrap();
        assert_eq!(next, Some(later + LEAVE_GRACE), "from the end of its request");
    }

    #[test]
    fn no_limit_is_possible() {
        let off = Rate { bytes_per_second: 0, window: SECOND };
        let timeouts =
            Timeouts { first_byte: None, head: None, idle: None, receive: off, send: off, ..Timeouts::default() };
        let (start, mut timers) = (Instant::now(), Timers::new(timeouts));
        for phase in [Phase::FirstByte, Phase::Head, Phase::Body, Phase::Answer, Phase::Idle] {
            let waiting = Observed { waits_for_body: true, waits_for_taking: true, ..seen(phase, start) };
            assert_eq!(timers.look(waiting, start + SECOND * 100_000), Ok(None));
        }
        assert_eq!(timeouts.of_reserve().idle, Some(RESERVE_LIMIT));
    }
}
