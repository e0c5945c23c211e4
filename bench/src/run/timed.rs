//! Deals the time of a load into windows, so that lanes take turns window by window. Pure.

use std::time::Duration;

/// Shortest window that a duration is dealt into, unless it is too short for two of these.
const SHORTEST: Duration = Duration::from_millis(500);

/// A timed window: load that is not measured, then load that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Where its ramp begins in the schedule of an open loop. Each window sends the next part of the schedule, so that
    /// all lanes get the same part in the same round.
    pub from: Duration,
    /// Load before the window opens.
    pub ramp: Duration,
    /// In a closed loop, the ramp lasts until each worker has completed a request, but at most this long.
    pub most_ramp: Duration,
    /// Its measured length.
    pub length: Duration,
    /// Its number among the windows of the load, from 0.
    pub index: usize,
    /// Number of windows that the load is dealt into.
    pub windows: usize,
    /// How often these windows were repeated: each repetition has a schedule of its own.
    pub repetition: u64,
}

impl Timed {
    /// A load that is measured in a single window.
    pub fn single(ramp: Duration, length: Duration) -> Self {
        Self { from: Duration::ZERO, ramp, most_ramp: ramp, length, index: 0, windows: 1, repetition: 0 }
    }

    /// Deals `duration` into at most `blocks` windows. The first has the whole ramp, because the server may be cold; the
    /// others share a second one, because other lanes used the server in between.
    pub fn deal(duration: Duration, ramp: Duration, blocks: usize) -> Vec<Self> {
        let windows = count(duration, blocks);
        let ramps = (0..windows).map(|i| if i == 0 { ramp } else { ramp / windows as u32 });
        one_after_the_other(ramps.map(|part| Self { most_ramp: ramp, ..Self::single(part, duration / windows as u32) }))
    }

    /// Deals a trace of this `length`, whose ramp is a part of it.
    pub fn deal_trace(length: Duration, ramp: Duration, blocks: usize) -> Vec<Self> {
        let windows = count(length, blocks);
        let part = length / windows as u32;
        let ramps = (0..windows).map(|i| if i == 0 { ramp } else { ramp / windows as u32 }.min(part / 2));
        one_after_the_other(ramps.map(|ramp| Self::single(ramp, part - ramp)))
    }

    /// Its time, ramp included.
    pub fn time(&self) -> Duration {
        self.ramp + self.length
    }

    /// Its share of a number of requests; at least one.
    pub fn share_of(&self, total: usize) -> usize {
        (total / self.windows + usize::from(self.index < total % self.windows)).max(1)
    }

    /// Where it ends in the schedule of an open loop.
    pub fn end(&self) -> Duration {
        self.from + self.time()
    }

    /// The part of a schedule that belongs to it, counted from the beginning of its ramp.
    pub fn part_of(&self, schedule: &[Duration]) -> Vec<Duration> {
        let part = schedule.iter().filter(|at| (self.from..self.end()).contains(*at));
        part.map(|at| *at - self.from).collect()
    }
}

/// Number of windows for a duration: at least two if there are two blocks, because a single one is not paired.
fn count(duration: Duration, blocks: usize) -> usize {
    let most = (duration.as_nanos() / SHORTEST.as_nanos()) as usize;
    most.clamp(blocks.clamp(1, 2), blocks.max(1))
}

fn one_after_the_other(windows: impl Iterator<Item = Timed>) -> Vec<Timed> {
    let mut windows: Vec<Timed> = windows.collect();
    let (count, mut from) = (windows.len(), Duration::ZERO);
    for (index, window) in windows.iter_mut().enumerate() {
        (window.from, window.index, window.windows) = (from, index, count);
        from = window.end();
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_short_duration_still_has_two_windows() {
        assert_eq!(Timed::deal(ms(4_000), ms(1_000), 8).len(), 8);
        assert_eq!(Timed::deal(ms(1_500), ms(1_000), 8).len(), 3);
        assert_eq!(Timed::deal(ms(100), ms(0), 8).len(), 2);
        assert_eq!(Timed::deal(ms(4_000), ms(0), 1).len(), 1, "with one block there is one window");
    }

    proptest! {
        #[test]
        fn windows_share_the_duration_and_at_most_two_ramps(
            duration in 1_u64..100_000, ramp in 0_u64..5_000, blocks in 1_usize..20,
        ) {
            let windows = Timed::deal(ms(duration), ms(ramp), blocks);
            prop_assert!(windows.len() <= blocks && (blocks < 2 || windows.len() >= 2));
            let length: Duration = windows.iter().map(|window| window.length).sum();
            prop_assert!(length <= ms(duration) && ms(duration) - length < Duration::from_micros(1));
            let ramps: Duration = windows.iter().map(|window| window.ramp).sum();
            prop_assert!(ms(ramp) <= ramps && ramps <= 2 * ms(ramp));
            prop_assert_eq!(windows.iter().map(|window| window.share_of(1_000)).sum::<usize>(), 1_000);
        }

        /// Each request of a schedule is in exactly one window, at its place.
        #[test]
        fn windows_deal_the_whole_schedule(
            times in proptest::collection::vec(0_u64..10_000, 1..50), ramp in 0_u64..2_000, blocks in 1_usize..9,
        ) {
            let mut schedule: Vec<Duration> = times.into_iter().map(ms).collect();
            schedule.sort_unstable();
            let windows = Timed::deal_trace(ms(10_000), ms(ramp), blocks);
            let dealt: Vec<Duration> = windows
                .iter()
                .flat_map(|window| window.part_of(&schedule).into_iter().map(|at| at + window.from))
                .collect();
            let end = windows.last().unwrap().end();
            prop_assert!(ms(10_000) - end < Duration::from_micros(1));
            prop_assert_eq!(dealt, schedule.into_iter().filter(|at| *at < end).collect::<Vec<_>>());
        }
    }
}
