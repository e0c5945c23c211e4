//! Finds the highest rate at which p99 stays within a bound, by windows of an open loop.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    analysis::stats::quantile,
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

    /// Records whether the bound held at a rate.
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
    /// Requests that failed or were never sent.
    pub lost: u64,
    /// Whether no request was lost and p99 was within the bound.
    pub held: bool,
}

/// The result of the search for one lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The lane.
    pub lane: Lane,
    /// The highest rate that held, in requests per second.
    pub highest_per_s: Option<f64>,
    /// The lowest rate that did not hold.
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
                let Some(cell) = self.probe(client, &requests, rate).await? else { break };
                let probe = judge(&cell, goal.p99);
                search.record(rate, probe.held);
                probes.push(probe);
                self.progress.cell(&cell);
                report.cells.push(cell);
                report.interrupted = self.stop.soon.is_cancelled();
                save(&mut report, &clock, &folder)?;
            }
            let (highest_per_s, fails_at_per_s) = search.bracket();
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
    ) -> Result<Option<Cell>, RunError> {
        let load = Load::Open { arrivals: Arrivals::Constant, rate, batch: 1 };
        self.progress.begin(client.variant.lane, load);
        let window = Timed::single(self.settings.ramp, self.settings.duration);
        let schedule = self.schedule(load, window);
        let block = client.open_window(Arc::clone(requests), schedule, window, |_| {}).await?;
        let mut measured = Run::empty_cell(client, load, requests);
        measured.blocks.push(block);
        Ok(Cell::new(measured, None, self.settings.seed))
    }
}

/// Whether the bound held in a window.
fn judge(cell: &Cell, bound: Duration) -> Probe {
    let mut latencies = cell.samples.latency_us.clone();
    latencies.sort_unstable_by(f64::total_cmp);
    let p99_ms = quantile(&latencies, 0.99).map(|us| us / 1e3);
    let (unsent, offered, achieved) = cell
        .open
        .as_ref()
        .map_or((0, 0.0, 0.0), |open| (open.schedule.unsent, open.offered_per_s, open.achieved_per_s));
    let lost = cell.failures.count + unsent + cell.abandoned;
    let held = lost == 0 && p99_ms.is_some_and(|ms| ms <= bound.as_secs_f64() * 1e3);
    Probe { rate_per_s: offered, achieved_per_s: achieved, p99_ms, lost, held }
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
    text += "\n## Probes\n\n| Lane | offered (req/s) | achieved (req/s) | p99 (ms) | failed or not sent | bound met |\n|---|---:|---:|---:|---:|---|\n";
    for answer in answers {
        for probe in &answer.probes {
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {} | {} | {} |",
                answer.lane,
                probe.rate_per_s,
                probe.achieved_per_s,
                rate(probe.p99_ms),
                probe.lost,
                if probe.held { "yes" } else { "no" }
            );
        }
    }
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
            let goal = Goal { p99: Duration::from_millis(50), start: rate(start), most: rate(1e5), probes };
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

    #[test]
    fn a_lane_that_never_fails_ends_at_the_highest_rate() {
        let goal = Goal { p99: Duration::from_millis(50), start: rate(10.0), most: rate(100.0), probes: 20 };
        let mut search = Search::new(goal);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate.get());
            search.record(rate, true);
        }
        assert_eq!(tried, [10.0, 20.0, 40.0, 80.0, 100.0]);
    }
}
