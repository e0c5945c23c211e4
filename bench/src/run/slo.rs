//! Finds the highest rate at which p99 stays within a bound, by windows of an open loop.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    analysis::stats::{conservative_quantile, fewest_for_verdict, quantile, quantile_exceeds},
    client::call::Prepared,
    model::{
        arrivals::{Arrivals, Rate},
        cell::Cell,
        lane::Lane,
        load::Load,
        report::Report,
    },
    run::{clock::RunClock, error::RunError, folder::save, lane_client::LaneClient, setup::Run, timed::Timed},
};

/// The search ends when the bracket is at most this wide, relative to its lower end.
const PRECISION: f64 = 0.05;
/// Factor by which the rate grows until a window fails.
const GROWTH: f64 = 2.0;

/// The quantile that is bounded.
const P99: f64 = 0.99;

/// The goal of a search.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Bound on p99 from the intended send time.
    pub p99: Duration,
    /// The first rate to try.
    pub start: Rate,
    /// The highest rate to try.
    pub most: Rate,
    /// Most windows for each lane.
    pub probes: usize,
    /// Longest window; a window lasts at least until it has the requests that a verdict needs, but no longer.
    pub longest: Duration,
}

/// Brackets the highest rate within the bound: doubles the rate until it fails, then halves the bracket.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    goal: Goal,
    holds: Option<f64>,
    fails: Option<f64>,
    probes: usize,
}

impl Search {
    /// A search before its first window.
    pub fn new(goal: Goal) -> Self {
        Self { goal, holds: None, fails: None, probes: 0 }
    }

    /// The rate to try next; `None` when the bracket is narrow or the probes are used up.
    pub fn next(&self) -> Option<Rate> {
        if self.probes >= self.goal.probes {
            return None;
        }
        let most = self.goal.most.get();
        let rate = match (self.holds, self.fails) {
            (None, None) => self.goal.start.get(),
            (Some(holds), None) if holds >= most => return None,
            (Some(holds), None) => holds * GROWTH,
            (None, Some(fails)) => fails / GROWTH,
            (Some(holds), Some(fails)) if fails - holds <= PRECISION * holds => return None,
            (Some(holds), Some(fails)) => (holds + fails) / 2.0,
        };
        Rate::per_second(rate.min(most)).ok()
    }

    /// Records whether the bound seems to hold at a rate, decided or not.
    pub fn record(&mut self, rate: Rate, held: bool) {
        self.probes += 1;
        let end = if held { &mut self.holds } else { &mut self.fails };
        *end = Some(rate.get());
    }

    /// The highest rate that held, and the lowest that did not.
    pub fn bracket(&self) -> (Option<f64>, Option<f64>) {
        (self.holds, self.fails)
    }
}

/// One window of a search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Requests per second offered.
    pub rate_per_s: f64,
    /// Requests per second completed.
    pub achieved_per_s: f64,
    /// p99 from the intended send time, in ms.
    pub p99_ms: Option<f64>,
    /// A value that the true p99 does not exceed with 99 % probability, in ms; `None` with too few requests.
    pub p99_at_most_ms: Option<f64>,
    /// Requests with a latency.
    pub requests: usize,
    /// Requests that failed or were never sent.
    pub lost: u64,
    /// Whether the bound held.
    pub verdict: Verdict,
}

/// What a window shows about the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No request was lost, and the true p99 is within the bound with 99 % probability.
    Met,
    /// A request was lost, or the true p99 is above the bound with 99 % probability.
    Missed,
    /// Neither: too few requests, or a p99 too close to the bound.
    Undecided,
}

/// The result of the search for one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The lane.
    pub lane: Lane,
    /// The highest rate that certainly held, in requests per second.
    pub highest_per_s: Option<f64>,
    /// The lowest rate that certainly did not hold.
    pub fails_at_per_s: Option<f64>,
    /// All windows, in order.
    pub probes: Vec<Probe>,
}

impl Run<'_> {
    /// Searches lane by lane. Every window is a cell of the report, which is written to a folder as for a run.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn search(&self, goal: Goal) -> Result<(Report, Vec<Answer>), RunError> {
        let clock = RunClock::start(self.stop.now.clone());
        let (mut report, folder, mut clients) = self.begin(&clock).await?;
        let mut answers = Vec::new();
        for client in &mut clients {
            let requests = self.prepare(client, 1)?;
            let mut search = Search::new(goal);
            let mut probes = Vec::new();
            while let Some(rate) = search.next().filter(|_| !self.stop.soon.is_cancelled()) {
                let Some(cell) = self.probe(client, &requests, rate, goal.longest).await? else { break };
                let probe = judge(&cell, goal.p99);
                search.record(rate, probe.seems_to_hold(goal.p99));
                probes.push(probe);
                self.progress.cell(&cell);
                report.cells.push(cell);
                report.interrupted = self.stop.soon.is_cancelled();
                save(&mut report, &clock, &folder)?;
            }
            let decided = |verdict| probes.iter().filter(move |p: &&Probe| p.verdict == verdict).map(|p| p.rate_per_s);
            let highest_per_s = decided(Verdict::Met).reduce(f64::max);
            let fails_at_per_s = decided(Verdict::Missed).reduce(f64::min);
            answers.push(Answer { lane: client.variant.lane, highest_per_s, fails_at_per_s, probes });
        }
        for client in &mut clients {
            client.unshare().await;
        }
        self.progress.finish();
        Ok((report, answers))
    }

    /// Measures one window at a rate; `None` when nothing was sent.
    async fn probe(
        &self,
        client: &mut LaneClient,
        requests: &Arc<[Prepared]>,
        rate: Rate,
        longest: Duration,
    ) -> Result<Option<Cell>, RunError> {
        let load = Load::Open { arrivals: Arrivals::Constant, rate, batch: 1 };
        self.progress.begin(client.variant.lane, load);
        let least = self.settings.duration;
        let window = Timed::single(self.settings.ramp, window_length(rate, least, longest));
        let schedule = self.schedule(load, window);
        let block = client.open_window(Arc::clone(requests), schedule, window, |_| {}).await?;
        let mut measured = Run::empty_cell(client, load, requests);
        measured.blocks.push(block);
        Ok(Cell::new(measured, None, self.settings.seed))
    }
}

/// The length of a window that has the requests for a verdict on p99, between `least` and `longest`.
fn window_length(rate: Rate, least: Duration, longest: Duration) -> Duration {
    // One more request, because the last may fall on the end of the window.
    let needed = Duration::from_secs_f64((fewest_for_verdict(P99) + 1) as f64 / rate.get());
    needed.min(longest).max(least)
}

impl Probe {
    /// Whether the bound held, as far as the window's own requests show.
    fn seems_to_hold(&self, bound: Duration) -> bool {
        self.lost == 0 && self.p99_ms.is_some_and(|ms| ms <= bound.as_secs_f64() * 1e3)
    }
}

/// What ascending latencies show about a bound on p99, in the same unit, if `lost` requests have none.
fn verdict(latencies: &[f64], lost: u64, bound: f64) -> Verdict {
    let above = latencies.iter().filter(|&&latency| latency > bound).count();
    match conservative_quantile(latencies, P99) {
        _ if lost > 0 || quantile_exceeds(latencies.len(), above, P99) => Verdict::Missed,
        Some(p99) if p99 <= bound => Verdict::Met,
        _ => Verdict::Undecided,
    }
}

/// Whether the bound held in a window.
fn judge(cell: &Cell, bound: Duration) -> Probe {
    let mut latencies: Vec<f64> = cell.samples.latency_us.iter().map(|us| us / 1e3).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let (unsent, offered, achieved) = cell
        .open
        .as_ref()
        .map_or((0, 0.0, 0.0), |open| (open.schedule.unsent, open.offered_per_s, open.achieved_per_s));
    let lost = cell.failures.count + unsent + cell.abandoned;
    Probe {
        rate_per_s: offered,
        achieved_per_s: achieved,
        p99_ms: quantile(&latencies, P99),
        p99_at_most_ms: conservative_quantile(&latencies, P99),
        requests: latencies.len(),
        lost,
        verdict: verdict(&latencies, lost, bound.as_secs_f64() * 1e3),
    }
}

/// The answers as tables.
pub fn table(answers: &[Answer], goal: Goal) -> String {
    use std::fmt::Write as _;
    let bound = goal.p99.as_secs_f64() * 1e3;
    let rate = |rate: Option<f64>| rate.map_or("–".into(), |rate| format!("{rate:.1}"));
    let mut text = format!(
        "# Highest rate with p99 within {bound} ms\n\n| Lane | highest rate that met the bound (req/s) | lowest rate that missed it (req/s) |\n|---|---:|---:|\n"
    );
    for answer in answers {
        let _ =
            writeln!(text, "| {} | {} | {} |", answer.lane, rate(answer.highest_per_s), rate(answer.fails_at_per_s));
    }
    text += "\n## Probes\n\n| Lane | offered (req/s) | achieved (req/s) | requests | p99 (ms) | p99 at most (ms) | failed or not sent | bound met |\n|---|---:|---:|---:|---:|---:|---:|---|\n";
    for answer in answers {
        for probe in &answer.probes {
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {} | {} | {} | {} | {} |",
                answer.lane,
                probe.rate_per_s,
                probe.achieved_per_s,
                probe.requests,
                rate(probe.p99_ms),
                rate(probe.p99_at_most_ms),
                probe.lost,
                match probe.verdict {
                    Verdict::Met => "yes",
                    Verdict::Missed => "no",
                    Verdict::Undecided => "undecided",
                }
            );
        }
    }
    let _ = writeln!(
        text,
        "\nThe true p99 is at most the value given with 99 % probability. A verdict needs {} requests, or so many above \
         the bound that chance cannot be the cause; --longest-window allows longer windows.",
        fewest_for_verdict(P99)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(rate: f64) -> Rate {
        Rate::per_second(rate).unwrap()
    }

    proptest! {
        /// The bracket contains the limit of the server, and is narrow unless the probes ran out.
        #[test]
        fn the_bracket_contains_the_limit(limit in 1.0..5e4_f64, start in 1.0..1e3_f64, probes in 1_usize..40) {
            let goal = Goal { p99: Duration::from_millis(50), start: rate(start), most: rate(1e5), probes, longest: Duration::MAX };
            let mut search = Search::new(goal);
            let mut tried = 0;
            while let Some(rate) = search.next() {
                tried += 1;
                search.record(rate, rate.get() <= limit);
            }
            prop_assert!(tried <= probes);
            let (holds, fails) = search.bracket();
            prop_assert!(holds.is_none_or(|rate| rate <= limit) && fails.is_none_or(|rate| rate > limit));
            if tried < probes {
                let (holds, fails) = (holds.unwrap(), fails.unwrap());
                prop_assert!(fails - holds <= PRECISION * holds + 1e-3);
            }
        }
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
    fn a_window_lasts_until_a_verdict_is_possible() {
        let seconds = Duration::from_secs;
        assert_eq!(window_length(rate(10.0), seconds(4), seconds(600)), Duration::from_millis(66_300));
        assert_eq!(window_length(rate(10.0), seconds(4), seconds(60)), seconds(60));
        assert_eq!(window_length(rate(1_000.0), seconds(4), seconds(60)), seconds(4));
    }

    #[test]
    fn a_lane_that_never_fails_ends_at_the_highest_rate() {
        let goal = Goal {
            p99: Duration::from_millis(50),
            start: rate(10.0),
            most: rate(100.0),
            probes: 20,
            longest: Duration::MAX,
        };
        let mut search = Search::new(goal);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate.get());
            search.record(rate, true);
        }
        assert_eq!(tried, [10.0, 20.0, 40.0, 80.0, 100.0]);
    }
}
