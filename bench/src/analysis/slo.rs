//! Searches for the highest rate within a bound on p99, and judges probes. Pure functions.

use std::time::Duration;

use crate::{
    analysis::{
        checks::load::LAG_BOUND_MS,
        stats::{conservative_quantile, fewest_for_verdict, quantile, quantile_exceeds},
    },
    model::{
        arrivals::{Arrivals, Rate},
        cell::{Cell, OpenLoopFigures},
        lane::Lane,
        load::Load,
        slo::{Answer, Goal, Probe, Verdict},
    },
};

/// Steps in which a rate doubles: the search ends when the bracket is one step wide, 4.4 %. Because all lanes use the same
/// steps, those whose brackets agree are measured at the same rate.
const STEPS: i32 = 16;

/// The quantile that is bounded.
const P99: f64 = 0.99;

/// Part of the bound that the client may be late without an effect on the verdict.
const LATE_SHARE: f64 = 0.1;

/// Brackets the highest rate within the bound: doubles the rate until it fails, then halves the bracket.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    goal: Goal,
    holds: Option<i32>,
    fails: Option<i32>,
    /// Whether the client was late at the current step once.
    late: bool,
    probes: usize,
}

impl Search {
    /// A search before its first probe.
    pub fn new(goal: Goal) -> Self {
        Self { goal, holds: None, fails: None, late: false, probes: 0 }
    }

    /// The rate to try next; `None` when the bracket is narrow or the probes are used up.
    pub fn next(&self) -> Option<Rate> {
        let rate = self.rate(self.step()?).min(self.goal.most.get());
        Rate::per_second(rate).ok()
    }

    /// Records what a probe at the rate of [`Search::next`] showed; `held` is what the measured p99 suggests, decided or
    /// not. A rate at which the client was late is tried once more.
    pub fn record(&mut self, verdict: Verdict, held: bool) {
        self.probes += 1;
        let Some(step) = self.step_of_next_probe() else { return };
        if verdict == Verdict::ClientLate && !self.late {
            self.late = true;
            return;
        }
        self.late = false;
        let end = if held { &mut self.holds } else { &mut self.fails };
        *end = Some(step);
    }

    fn step(&self) -> Option<i32> {
        if self.probes >= self.goal.probes { None } else { self.step_of_next_probe() }
    }

    fn step_of_next_probe(&self) -> Option<i32> {
        // The first step at or above the highest rate.
        let last = (f64::from(STEPS) * (self.goal.most.get() / self.goal.start.get()).log2()).ceil() as i32;
        match (self.holds, self.fails) {
            (None, None) => Some(last.min(0)),
            (Some(holds), None) if holds >= last => None,
            (Some(holds), None) => Some((holds + STEPS).min(last)),
            (None, Some(fails)) => Some(fails - STEPS),
            (Some(holds), Some(fails)) if fails - holds <= 1 => None,
            (Some(holds), Some(fails)) => Some(holds + (fails - holds) / 2),
        }
    }

    fn rate(&self, step: i32) -> f64 {
        self.goal.start.get() * 2_f64.powf(f64::from(step) / f64::from(STEPS))
    }
}

/// The measured time of a probe that has the requests for a verdict on p99, between `least` and `longest`.
pub fn probe_length(rate: Rate, arrivals: Arrivals, least: Duration, longest: Duration) -> Duration {
    let fewest = fewest_for_verdict(P99) as f64;
    // One more request, because the last may fall on the end; random arrivals may be fewer by three standard deviations.
    let more = if arrivals == Arrivals::Poisson { 3.0 * fewest.sqrt() } else { 1.0 };
    Duration::from_secs_f64((fewest + more) / rate.get()).min(longest).max(least)
}

/// Whether the client was too late for a verdict on a bound in ms. Requests that waited for others in flight are late
/// because of the server.
pub fn client_late(open: &OpenLoopFigures, bound_ms: f64) -> bool {
    let late = |lag_ms: f64| lag_ms >= LAG_BOUND_MS.max(LATE_SHARE * bound_ms);
    open.schedule.waited == 0 && open.lag_ms.is_some_and(|[_, p99, _]| late(p99))
}

/// What ascending latencies show about a bound on p99, in the same unit, if `lost` requests have none.
pub fn verdict(latencies: &[f64], lost: u64, bound: f64) -> Verdict {
    let above = latencies.iter().filter(|&&latency| latency > bound).count();
    match conservative_quantile(latencies, P99) {
        _ if lost > 0 || quantile_exceeds(latencies.len(), above, P99) => Verdict::Missed,
        Some(p99) if p99 <= bound => Verdict::Met,
        _ => Verdict::Undecided,
    }
}

/// Whether the bound held in the cell of a probe.
pub fn judge(cell: &Cell, bound_ms: f64) -> Probe {
    let mut latencies: Vec<f64> = cell.samples.latency_us.iter().map(|us| us / 1e3).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let open = cell.open.as_ref();
    let lost = cell.failures.count + open.map_or(0, |open| open.schedule.unsent) + cell.abandoned;
    let verdict = match verdict(&latencies, lost, bound_ms) {
        // The latency counts the lag, so a bound that was met was met in spite of it.
        Verdict::Met => Verdict::Met,
        _ if open.is_some_and(|open| client_late(open, bound_ms)) => Verdict::ClientLate,
        verdict => verdict,
    };
    Probe {
        rate_per_s: match cell.load {
            Load::Open { rate, .. } => rate.get(),
            Load::Serial { .. } | Load::Concurrent { .. } => 0.0,
        },
        achieved_per_s: open.map_or(0.0, |open| open.achieved_per_s),
        p99_ms: quantile(&latencies, P99),
        p99_at_most_ms: conservative_quantile(&latencies, P99),
        lag_p99_ms: open.and_then(|open| open.lag_ms).map(|[_, p99, _]| p99),
        requests: latencies.len(),
        lost,
        verdict,
    }
}

impl Probe {
    /// Whether the bound held, as far as the probe's own requests show.
    pub fn seems_to_hold(&self, bound_ms: f64) -> bool {
        let held = self.lost == 0 && self.p99_ms.is_some_and(|ms| ms <= bound_ms);
        self.verdict == Verdict::Met || self.verdict == Verdict::Undecided && held
    }
}

impl Answer {
    /// The answer of a lane after its last probe.
    pub fn new(lane: Lane, probes: Vec<Probe>) -> Self {
        let rates = |verdict| probes.iter().filter(move |probe| probe.verdict == verdict).map(|probe| probe.rate_per_s);
        let late_twice = probes
            .windows(2)
            .filter(|pair| pair.iter().all(|probe| probe.verdict == Verdict::ClientLate))
            .map(|pair| pair[1].rate_per_s);
        Self {
            lane,
            highest_per_s: rates(Verdict::Met).reduce(f64::max),
            fails_at_per_s: rates(Verdict::Missed).reduce(f64::min),
            client_limited_at_per_s: late_twice.reduce(f64::min),
            probes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::block::Offered};
    use proptest::prelude::*;

    fn rate(rate: f64) -> Rate {
        Rate::per_second(rate).unwrap()
    }

    fn goal(start: f64, most: f64, probes: usize) -> Goal {
        let (p99, longest) = (Duration::from_millis(50), Duration::MAX);
        Goal { p99, arrivals: Arrivals::Poisson, start: rate(start), most: rate(most), probes, longest }
    }

    /// The rates that a search tries at a server that holds the bound up to `limit`.
    fn tried(goal: Goal, limit: f64) -> Vec<f64> {
        let (mut search, mut tried) = (Search::new(goal), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate.get());
            let held = rate.get() <= limit;
            search.record(if held { Verdict::Met } else { Verdict::Missed }, held);
        }
        tried
    }

    proptest! {
        /// The bracket contains the limit of the server, and is narrow unless the probes ran out.
        #[test]
        fn the_bracket_contains_the_limit(limit in 1.0..5e4_f64, start in 1.0..1e3_f64, probes in 1_usize..40) {
            let tried = tried(goal(start, 1e5, probes), limit);
            prop_assert!(tried.len() <= probes);
            if tried.len() < probes {
                let holds = tried.iter().copied().filter(|rate| *rate <= limit).reduce(f64::max).unwrap();
                let fails = tried.iter().copied().filter(|rate| *rate > limit).reduce(f64::min).unwrap();
                prop_assert!(fails <= 1.05 * holds + 2e-3, "{holds} {fails}");
            }
        }

        /// Two lanes are measured at the same rates until one holds a rate that the other does not.
        #[test]
        fn lanes_share_the_rates_until_they_differ(a in 1.0..5e3_f64, b in 1.0..5e3_f64) {
            let (of_a, of_b) = (tried(goal(10.0, 1e5, 40), a), tried(goal(10.0, 1e5, 40), b));
            let (low, high) = (a.min(b), a.max(b));
            let differs = of_a.iter().position(|rate| low < *rate && *rate <= high).unwrap_or(of_a.len() - 1);
            prop_assert_eq!(&of_a[..=differs], &of_b[..=differs]);
        }
    }

    #[test]
    fn a_lane_that_never_fails_ends_at_the_highest_rate() {
        assert_eq!(tried(goal(10.0, 100.0, 20), f64::MAX), [10.0, 20.0, 40.0, 80.0, 100.0]);
        assert_eq!(tried(goal(10.0, 5.0, 20), f64::MAX), [5.0], "the first rate is above the highest");
    }

    #[test]
    fn a_rate_at_which_the_client_was_late_is_tried_once_more() {
        let mut search = Search::new(goal(10.0, 1_000.0, 20));
        let mut probe = |verdict, held| {
            search.record(verdict, held);
            search.next().unwrap().get()
        };
        assert_eq!(probe(Verdict::Met, true), 20.0);
        assert_eq!(probe(Verdict::ClientLate, false), 20.0, "again");
        assert_eq!(probe(Verdict::Met, true), 40.0, "the second time the client was on time");
        assert_eq!(probe(Verdict::ClientLate, false), 40.0);
        assert!(probe(Verdict::ClientLate, false) < 40.0, "twice late: what is above is not tried");
    }

    /// The first window at 10 requests per second had 40 requests, whose p99 is about the largest of them.
    #[test]
    fn few_requests_decide_nothing_but_a_clear_miss() {
        let latencies =
            |n: usize, slow: usize| (0..n).map(|i| if i + slow < n { 10.0 } else { 100.0 }).collect::<Vec<f64>>();
        assert_eq!(verdict(&latencies(40, 0), 0, 50.0), Verdict::Undecided);
        assert_eq!(verdict(&latencies(661, 0), 0, 50.0), Verdict::Undecided);
        assert_eq!(verdict(&latencies(662, 1), 0, 50.0), Verdict::Met);
        assert_eq!(verdict(&latencies(662, 4), 0, 50.0), Verdict::Undecided, "0.6 % may be 1 %");
        assert_eq!(verdict(&latencies(40, 6), 0, 50.0), Verdict::Missed);
        assert_eq!(verdict(&latencies(662, 0), 1, 50.0), Verdict::Missed, "a lost request misses the bound");
    }

    #[test]
    fn a_probe_lasts_until_a_verdict_is_possible() {
        let seconds = Duration::from_secs;
        let length = |per_s, arrivals, longest| probe_length(rate(per_s), arrivals, seconds(4), seconds(longest));
        assert_eq!(length(10.0, Arrivals::Constant, 600), Duration::from_millis(66_300));
        assert_eq!(length(10.0, Arrivals::Constant, 60), seconds(60));
        assert_eq!(length(1_000.0, Arrivals::Constant, 60), seconds(4));
        assert!(length(10.0, Arrivals::Poisson, 600) > seconds(73), "by chance fewer may arrive");
    }

    /// A cell of an open loop in which `n` requests took 10 ms, but for `slow` of them, and were sent `lag_ms` late.
    fn cell(n: usize, slow: usize, lag_ms: f64, waited: u64) -> Cell {
        let mut cell = fixture::report().cells.remove(0);
        cell.load = Load::Open { arrivals: Arrivals::Poisson, rate: rate(100.0), batch: 1 };
        cell.samples.latency_us = (0..n).map(|i| if i < slow { 80_000.0 } else { 10_000.0 }).collect();
        cell.open = Some(OpenLoopFigures {
            offered_per_s: 100.0,
            achieved_per_s: 100.0,
            schedule: Offered { scheduled: n as u64, completed_meanwhile: n as u64, waited, unsent: 0 },
            service_ms: None,
            lag_ms: Some([0.0, lag_ms, lag_ms]),
        });
        cell
    }

    #[test]
    fn a_late_client_is_not_the_servers_fault() {
        let verdict = |slow, lag_ms, waited| judge(&cell(700, slow, lag_ms, waited), 50.0).verdict;
        assert_eq!(verdict(30, 0.1, 0), Verdict::Missed);
        assert_eq!(verdict(30, 4.9, 0), Verdict::Missed, "a tenth of the bound does not matter");
        assert_eq!(verdict(30, 5.1, 0), Verdict::ClientLate);
        assert_eq!(verdict(30, 5.1, 1), Verdict::Missed, "requests waited for the server");
        assert_eq!(verdict(0, 5.1, 0), Verdict::Met, "in spite of the client");
    }

    #[test]
    fn an_answer_names_the_rate_where_the_client_ended() {
        let probe = |rate_per_s, verdict| Probe { rate_per_s, verdict, ..judge(&cell(700, 0, 0.0, 0), 50.0) };
        let answer = |verdicts: &[(f64, Verdict)]| {
            Answer::new(Lane::JPEG, verdicts.iter().map(|&(rate, verdict)| probe(rate, verdict)).collect())
        };
        let found = answer(&[(10.0, Verdict::Met), (20.0, Verdict::ClientLate), (20.1, Verdict::ClientLate)]);
        assert_eq!((found.highest_per_s, found.fails_at_per_s), (Some(10.0), None));
        assert_eq!(found.client_limited_at_per_s, Some(20.1));
        let found = answer(&[(10.0, Verdict::ClientLate), (10.0, Verdict::Met), (20.0, Verdict::Missed)]);
        assert_eq!((found.fails_at_per_s, found.client_limited_at_per_s), (Some(20.0), None));
    }
}
