//! Whether a queue is overloaded, that is, whether clients give up while requests stand in it. Pure: the time is an
//! argument.
//!
//! First in, first out collapses under overload: each request reaches an instance just when its client gives up. A long
//! queue alone is no overload: a closed loop of patient clients keeps one for ever, and loses nothing by it. So the order
//! changes when a client leaves that had waited about as long as others do, and only for as long as that goes on. As in CoDel
//! (RFC 8289) and adaptive LIFO, the newest request is then the one worth running.

use std::time::{Duration, Instant};

/// A client that leaves sooner, counted in the time that an instance spends on a request, did not leave because of the
/// queue.
const STANDING_RUNS: u32 = 2;
/// A run may take the patience of clients divided by this: the rest is for the wait before it.
const PARTS: u32 = 4;
/// How long the longest wait is remembered, at least; at most twice as long.
const MEMORY: Duration = Duration::from_secs(10);
/// A request that waits for more than this many times the patience of clients is refused: its turn may never come.
const PATIENCES: u32 = 2;

/// What is known of the time that runs take and that clients wait.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Time of a run by each of its requests, as a moving average; `None` before the first.
    run_each: Option<Duration>,
    /// The same of the last run alone.
    last_each: Duration,
    /// Longest time that a client waited lately, whether it got its answer or left.
    patience: Duration,
    /// The same in the period before.
    patience_before: Duration,
    /// When the present period began.
    since: Option<Instant>,
    newest_first: Option<Period>,
    /// When a client left because of the queue, or was refused, for the last time.
    lost: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    from: Instant,
    until: Instant,
}

impl Overload {
    /// A client got its answer after `age`, of which a run of `batch` requests took `run`.
    pub(super) fn answered(&mut self, now: Instant, age: Duration, run: Duration, batch: usize) {
        let each = run / batch.clamp(1, u32::MAX as usize) as u32;
        self.last_each = each;
        self.run_each = Some(self.run_each.map_or(each, |mean| (mean * 7 + each) / 8));
        // Else each request that an overloaded queue has let wait for long would let later ones wait longer still.
        if !self.is_newest_first(now) {
            self.was_patient(now, age);
        }
    }

    /// A client left without an answer, `age` after its request came.
    pub(super) fn left(&mut self, now: Instant, age: Duration) {
        let waited = self.run_each.is_some_and(|each| age >= each * STANDING_RUNS) && age * 2 >= self.patience();
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

    /// How many requests `instances` can answer before the last of them loses patience. A queue that has been overloaded
    /// for less than the patience of clients may be about to empty: there is no limit then.
    pub(super) fn room(&self, now: Instant, instances: usize) -> usize {
        let instances = instances.max(1);
        let lasts = self.newest_first.is_some_and(|period| now >= period.from + self.patience());
        let Some(each) = self.run_each.filter(|each| lasts && !each.is_zero()) else { return usize::MAX };
        let of_one = (self.patience().as_secs_f64() / each.as_secs_f64()) as usize;
        instances.saturating_mul(of_one.max(2))
    }

    /// Whether a request of this age can be one of `batch` requests to run together, so that all are answered before
    /// their clients lose patience. Where larger batches take less time by each request, this learns it batch by batch.
    pub(super) fn fits(&self, age: Duration, batch: usize) -> bool {
        let Some(each) = self.run_each else { return true };
        let run = each.saturating_mul(u32::try_from(batch).unwrap_or(u32::MAX));
        let patience = self.patience();
        run <= patience / PARTS && age.saturating_add(run) <= patience
    }

    /// Whether `instances` that begin now can answer `requests` until `deadline`, as far as is known.
    pub(super) fn meets(&self, now: Instant, deadline: Instant, requests: usize, instances: usize) -> bool {
        self.run_of(requests) / u32::try_from(instances.max(1)).unwrap_or(u32::MAX)
            <= deadline.saturating_duration_since(now)
    }

    /// The time that a run of this many requests takes at least: by the shorter of the mean time and the last one, so that
    /// one slow run keeps nothing out for long. Zero if nothing is known.
    pub(super) fn run_of(&self, requests: usize) -> Duration {
        let each = self.run_each.map_or(Duration::ZERO, |mean| mean.min(self.last_each));
        each.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX))
    }

    /// Whether clients have left lately, so that batches must be small enough for those who remain ([`Self::fits`]).
    pub(super) fn limits_batches(&self, now: Instant) -> bool {
        self.lost.is_some_and(|lost| now.saturating_duration_since(lost) < MEMORY)
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
        self.lost = Some(now);
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
        overload.answered(start, RUN, RUN, 1);
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
        overload.answered(start, 60 * RUN, RUN, 1);
        overload.left(start, 10 * RUN);
        assert!(!overload.is_newest_first(start));
        let later = start + 3 * MEMORY;
        overload.answered(later, RUN, RUN, 1);
        overload.answered(later + MEMORY, RUN, RUN, 1);
        overload.left(later + MEMORY, 10 * RUN);
        assert!(overload.is_newest_first(later + MEMORY), "the patient ones are gone");
    }

    #[test]
    fn the_room_is_what_can_be_answered_in_time() {
        let mut overload = Overload::default();
        let start = Instant::now();
        overload.answered(start, RUN, RUN, 1);
        overload.left(start, 10 * RUN);
        let lasts = start + 10 * RUN;
        assert_eq!(overload.room(lasts - RUN, 1), usize::MAX, "the queue may be about to empty");
        assert_eq!([overload.room(lasts, 0), overload.room(lasts, 1), overload.room(lasts, 16)], [10, 10, 160]);
        overload.answered(start, RUN, 100 * RUN, 1);
        assert_eq!(overload.room(lasts, 4), 8, "some always wait, so that no instance does");
        overload.emptied();
        assert_eq!(overload.room(lasts, 1), usize::MAX);
    }

    #[test]
    fn a_deadline_is_met_if_the_runs_before_it_are_short_enough() {
        let mut overload = Overload::default();
        let start = Instant::now();
        assert!(overload.meets(start, start, 1000, 1), "nothing is known");
        overload.answered(start, RUN, RUN, 1);
        let deadline = start + 4 * RUN;
        assert!(overload.meets(start, deadline, 4, 1) && !overload.meets(start, deadline, 5, 1));
        assert!(overload.meets(start, deadline, 8, 2) && !overload.meets(start, deadline, 9, 2));
        overload.answered(start, 100 * RUN, 100 * RUN, 1);
        assert!(!overload.meets(start, deadline, 1, 1));
        overload.answered(start, RUN, RUN, 1);
        assert!(overload.meets(start, deadline, 4, 1), "the slow run was an exception");
    }

    #[test]
    fn a_batch_is_as_large_as_its_clients_can_wait_for() {
        let mut overload = Overload::default();
        let start = Instant::now();
        assert!(overload.fits(RUN, 100), "nothing is known");
        overload.answered(start, 10 * RUN, 8 * RUN, 8);
        assert!(overload.fits(Duration::ZERO, 2) && !overload.fits(Duration::ZERO, 3));
        assert!(overload.fits(8 * RUN, 2) && !overload.fits(9 * RUN, 2));
        assert!(!overload.limits_batches(start), "nobody has left");
        overload.left(start, 9 * RUN);
        assert!(overload.limits_batches(start) && !overload.limits_batches(start + MEMORY));
    }
}
