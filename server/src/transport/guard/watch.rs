//! The guard itself: shared by a connection's stream, protocol and listener, it runs the connection until it must end.

use std::{
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    activity::{Activity, RequestState},
    bodies::Bodies,
    timers::{Observed, Phase, Reason, Timeouts, Timers},
};
use crate::observe::metrics::{Closed, ConnectionCounters};

/// When a new guard is looked at if nothing else happens.
const FAR: Duration = Duration::from_secs(86_400);

/// The guard of one connection, shared by its stream, its protocol and its listener. It reads the time only when the
/// connection's task is about to sleep, so that a request costs no call of the clock.
pub struct Guard {
    timeouts: Timeouts,
    pub(super) activity: Mutex<Activity>,
    leave: CancellationToken,
    is_reserve: bool,
    counters: Arc<ConnectionCounters>,
}

impl Guard {
    /// The guard of a connection that was just accepted. It is told to end by `leave`.
    pub fn new(timeouts: Timeouts, leave: CancellationToken, counters: Arc<ConnectionCounters>) -> Self {
        let activity = Activity {
            phase: Phase::FirstByte,
            since: Instant::now(),
            is_new: false,
            multiplexed: false,
            received: 0,
            sent: 0,
            waits_for_body: false,
            write_blocked: false,
            requests: [0; RequestState::COUNT],
            bodies: Bodies::default(),
        };
        Self { timeouts, activity: Mutex::new(activity), leave, is_reserve: false, counters }
    }

    /// The same guard for a connection beyond the listener's limit, which is only for probes and ends soon.
    #[must_use]
    pub fn in_reserve(self) -> Self {
        Self { is_reserve: true, timeouts: self.timeouts.of_reserve(), ..self }
    }

    /// Whether the connection is only for probes.
    pub fn is_reserve(&self) -> bool {
        self.is_reserve
    }

    /// The time limits.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Counts an end that the protocol decided on.
    pub fn count_end(&self, closed: Closed) {
        self.counters.count(closed);
    }

    /// Cancelled when the connection is to end after its open requests.
    pub fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// A protocol with one request at a time begins a phase.
    pub fn enter(&self, phase: Phase) {
        self.activity.lock().enter(phase);
    }

    /// Whether the server waits for more of the body that the client sends; it does from the start of [`Phase::Body`].
    pub fn wait_for_body(&self, waits: bool) {
        self.activity.lock().waits_for_body = waits;
    }

    /// The protocol may have several requests open at once, which it reports by [`Requested`].
    pub fn multiplex(&self) {
        let mut activity = self.activity.lock();
        activity.multiplexed = true;
        // The head was that of TLS.
        if activity.phase == Phase::Head {
            activity.enter(Phase::Idle);
        }
    }

    /// The stream received bytes.
    pub(super) fn received(&self, bytes: usize) {
        let mut activity = self.activity.lock();
        activity.received += bytes as u64;
        let phase = if activity.multiplexed { Phase::Idle } else { Phase::Head };
        let rests = matches!(activity.phase, Phase::FirstByte | Phase::Idle);
        if bytes > 0 && rests && activity.phase != phase {
            activity.enter(phase);
        }
    }

    /// The stream sent bytes, or could not (`None`).
    pub(super) fn sent(&self, bytes: Option<usize>) {
        let mut activity = self.activity.lock();
        activity.sent += bytes.unwrap_or(0) as u64;
        activity.write_blocked = bytes.is_none();
    }

    /// How soon the connection is to make room for another, and since when it rests: `None` if it has a request in
    /// progress. The first is the one with the least value.
    pub fn rest(&self, now: Instant) -> Option<(u8, Instant)> {
        /// A request that just began is not given up.
        const HEAD_GRACE: Duration = Duration::from_secs(1);
        let activity = self.activity.lock();
        // A phase that the connection's task has not looked at is new.
        let since = if activity.is_new { now } else { activity.since };
        let rank = match activity.phase {
            _ if activity.waits_for_taking() => return None,
            Phase::FirstByte => 0,
            Phase::Head if since + HEAD_GRACE <= now => 1,
            Phase::Idle => 2,
            Phase::Quiet => 3,
            Phase::Head | Phase::Body | Phase::Answer => return None,
        };
        Some((rank, since))
    }

    fn count(&self, reason: Reason) {
        let closed = match reason {
            Reason::FirstByte => Closed::FirstByte,
            Reason::Head => Closed::Head,
            Reason::Body => Closed::Body,
            Reason::Answer => Closed::Answer,
            Reason::Idle => Closed::Idle,
            Reason::Leaving => return,
        };
        self.counters.count(closed);
    }

    fn observe(&self, now: Instant) -> Observed {
        let mut activity = self.activity.lock();
        if std::mem::take(&mut activity.is_new) {
            activity.since = now;
        }
        Observed {
            phase: activity.phase,
            since: activity.since,
            received: std::mem::take(&mut activity.received),
            sent: std::mem::take(&mut activity.sent),
            waits_for_body: activity.waits_for_body,
            waits_for_taking: activity.waits_for_taking(),
            bodies: activity.bodies.len(),
        }
    }

    fn look(&self, timers: &mut Timers, now: Instant) -> Result<Option<Instant>, Reason> {
        let enough = timers.each_body_needs(now);
        if enough.is_some_and(|enough| self.activity.lock().bodies.look(enough)) {
            return Err(Reason::Body);
        }
        timers.look(self.observe(now), now)
    }

    /// Runs `serving`, which serves the connection, until it is done or a timer ends it. There is one timer of the
    /// runtime for all of the connection's life; it is set again only to end earlier, and after it has ended.
    ///
    /// # Errors
    /// The timer that ended it; it is counted.
    pub async fn watch<T>(&self, serving: impl Future<Output = T>) -> Result<T, Reason> {
        let mut timers = Timers::new(self.timeouts);
        let (mut serving, mut leave) = (pin!(serving), pin!(self.leave.cancelled()));
        let mut set_to = Instant::now() + FAR;
        let mut sleep = pin!(sleep_until(set_to));
        let mut leaves = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            loop {
                let now = Instant::now();
                if !leaves && leave.as_mut().poll(cx).is_ready() {
                    leaves = true;
                    timers.leave(now);
                }
                let next = self.look(&mut timers, now).inspect_err(|reason| self.count(*reason))?;
                if let Some(next) = next.filter(|&next| next < set_to) {
                    set_to = next;
                    sleep.as_mut().reset(next);
                }
                ready!(sleep.as_mut().poll(cx));
                set_to = now + FAR;
                sleep.as_mut().reset(set_to);
            }
        })
        .await
    }
}
