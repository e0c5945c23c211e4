//! Whether a queue is overloaded, that is, whether clients give up while requests stand in it. Pure: the time is an
//! argument.
//!
//! First in, first out collapses under overload: each request reaches an instance just when its client gives up. A long
//! queue alone is no overload: a closed loop of patient clients keeps one for ever, and loses nothing by it. So the order
//! changes when a client leaves that had waited as long as others do, and only for as long as that goes on. As in CoDel
//! (RFC 8289) and adaptive LIFO, the newest request is then the one worth running.

use std::time::{Duration, Instant};

/// A client that leaves sooner, counted in runs of the model, did not leave because of the queue.
const STANDING_RUNS: u32 = 2;
/// How long the longest wait is remembered, at least; at most twice as long.
const MEMORY: Duration = Duration::from_secs(10);
/// A request that waits for more than this many times the patience of clients is refused: its turn may never come.
const PATIENCES: u32 = 2;

/// What is known of the time that runs take and that clients wait.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Time of a run, as a moving average; `None` before the first.
    run: Option<Duration>,
    /// Longest time that a client waited lately, whether it got its answer or left.
    patience: Duration,
    /// The same in the period before.
    patience_before: Duration,
    /// When the present period began.
    since: Option<Instant>,
    newest_first: Option<Period>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    from: Instant,
    until: Instant,
}

impl Overload {
    /// A client got its answer after `age`, of which the run took `run`.
    pub(super) fn answered(&mut self, now: Instant, age: Duration, run: Duration) {
        self.run = Some(self.run.map_or(run, |mean| (mean * 7 + run) / 8));
        // Else each request that an overloaded queue has let wait for long would let later ones wait longer still.
        if !self.is_newest_first(now) {
            self.was_patient(now, age);
        }
    }

    /// A client left without an answer, `age` after its request came.
    pub(super) fn left(&mut self, now: Instant, age: Duration) {
        let waited = self.run.is_some_and(|run| age >= run * STANDING_RUNS) && age * 2 >= self.patience();
        self.was_patient(now, age);
        if waited {
            self.goes_on(now);
        }
    }

    /// Requests were refused because of overload.
    pub(super) fn refused(&mut self, now: Instant) {
        self.goes_on(now);
    }

    /// No request waits any more.
    pub(super) fn emptied(&mut self) {
        self.newest_first = None;
    }

    /// Whether the newest request runs first.
    pub(super) fn is_newest_first(&self, now: Instant) -> bool {
        self.newest_first.is_some_and(|period| now < period.until)
    }

    /// How many requests can be answered before the last of them loses patience, while `running` are run at a time. By
    /// Little's law, `running` requests per time of a run are answered. A queue that has been overloaded for less than
    /// the patience of clients may be about to empty: there is no limit then.
    pub(super) fn room(&self, now: Instant, running: usize) -> usize {
        let running = running.max(1);
        let lasts = self.newest_first.is_some_and(|period| now >= period.from + self.patience());
        let Some(run) = self.run.filter(|run| lasts && !run.is_zero()) else { return usize::MAX };
        let rounds = self.patience().as_secs_f64() / run.as_secs_f64();
        ((rounds * running as f64) as usize).max(2 * running)
    }

    /// The longest time that a request may wait while the newest one runs first.
    pub(super) fn longest_wait(&self) -> Duration {
        self.patience() * PATIENCES
    }

    fn patience(&self) -> Duration {
        self.patience.max(self.patience_before)
    }

    fn was_patient(&mut self, now: Instant, age: Duration) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= MEMORY) {
            self.patience_before = std::mem::take(&mut self.patience);
            self.since = Some(now);
        }
        self.patience = self.patience.max(age);
    }

    fn goes_on(&mut self, now: Instant) {
        let from = self.newest_first.filter(|period| now < period.until).map_or(now, |period| period.from);
        self.newest_first = Some(Period { from, until: now + self.longest_wait() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Duration = Duration::from_millis(50);

    #[test]
    fn clients_that_leave_a_standing_queue_change_the_order_until_they_stop() {
        let mut overload = Overload::default();
        let start = Instant::now();
        overload.left(start, 10 * RUN);
        assert!(!overload.is_newest_first(start), "nothing is known of the runs");
        overload.answered(start, RUN, RUN);
        overload.left(start, RUN);
        assert!(!overload.is_newest_first(start), "it did not wait");
        overload.left(start, 10 * RUN);
        assert!(overload.is_newest_first(start) && overload.is_newest_first(start + 19 * RUN));
        assert!(!overload.is_newest_first(start + 20 * RUN));
        overload.emptied();
        assert!(!overload.is_newest_first(start));
    }

    #[test]
    fn a_hasty_client_does_not_change_the_order_of_patient_ones() {
        let mut overload = Overload::default();
        let start = Instant::now();
        overload.answered(start, 60 * RUN, RUN);
        overload.left(start, 10 * RUN);
        assert!(!overload.is_newest_first(start));
        let later = start + 3 * MEMORY;
        overload.answered(later, RUN, RUN);
        overload.answered(later + MEMORY, RUN, RUN);
        overload.left(later + MEMORY, 10 * RUN);
        assert!(overload.is_newest_first(later + MEMORY), "the patient ones are gone");
    }

    #[test]
    fn the_room_is_what_can_be_answered_in_time() {
        let mut overload = Overload::default();
        let start = Instant::now();
        overload.answered(start, RUN, RUN);
        overload.left(start, 10 * RUN);
        let lasts = start + 10 * RUN;
        assert_eq!(overload.room(lasts - RUN, 1), usize::MAX, "the queue may be about to empty");
        assert_eq!([overload.room(lasts, 0), overload.room(lasts, 1), overload.room(lasts, 16)], [10, 10, 160]);
        overload.answered(start, RUN, 100 * RUN);
        assert_eq!(overload.room(lasts, 4), 8, "some always wait, so that no instance does");
        overload.emptied();
        assert_eq!(overload.room(lasts, 1), usize::MAX);
    }
}
