//! Finds the highest rate at which p99 stays within a bound, by probes of an open loop.
//!
//! All lanes are probed in rounds. In a round the windows of the lanes take turns in random order, so that a machine that
//! slows down slows all of them; lanes that need the same rate get the same schedule.

use std::{path::Path, sync::Arc};

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    analysis::slo::{Search, judge, probe_length},
    client::call::Prepared,
    model::{
        block::Measured,
        cell::Cell,
        load::Load,
        report::Report,
        slo::{Answer, Goal, Probe},
    },
    run::{clock::RunClock, error::RunError, folder::save, lane_client::LaneClient, setup::Run, timed::Timed},
};

/// A lane in the search.
struct Candidate<'a> {
    client: &'a mut LaneClient,
    requests: Arc<[Prepared]>,
    search: Search,
    probes: Vec<Probe>,
    /// The probe of this round, until it is judged.
    current: Option<Current>,
}

/// A probe that is being measured.
struct Current {
    load: Load,
    windows: Vec<Timed>,
    measured: Measured,
}

impl Run<'_> {
    /// Searches. The last probe at each rate is a cell of the report, which is written to a folder as for a run.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn search(&self, goal: Goal) -> Result<(Report, Vec<Answer>), RunError> {
        let clock = RunClock::start(self.stop.now.clone());
        let (mut report, folder, mut clients) = self.begin(&clock).await?;
        let answers =
            self.search_lanes(goal, &mut clients, |cells| self.keep(cells, &mut report, &clock, &folder)).await?;
        for client in &mut clients {
            client.unshare().await;
        }
        self.progress.finish();
        Ok((report, answers))
    }

    /// Searches for the rate of each lane; passes on the cells of each round.
    pub(super) async fn search_lanes(
        &self,
        goal: Goal,
        clients: &mut [LaneClient],
        mut keep: impl FnMut(Vec<Cell>) -> Result<(), RunError>,
    ) -> Result<Vec<Answer>, RunError> {
        let mut candidates = Vec::with_capacity(clients.len());
        for client in clients {
            let requests = self.prepare(client, 1)?;
            candidates.push(Candidate {
                client,
                requests,
                search: Search::new(goal),
                probes: Vec::new(),
                current: None,
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        while !self.stop.soon.is_cancelled() && self.begin_round(goal, &mut candidates).await? {
            self.probe(&mut candidates, &mut rng).await?;
            let judged = |candidate: &mut Candidate<'_>| {
                let cell = Cell::new(candidate.current.take()?.measured, None, self.settings.seed)?;
                let probe = judge(&cell, goal.bound_ms());
                candidate.search.record(probe.verdict, probe.seems_to_hold(goal.bound_ms()));
                candidate.probes.push(probe);
                Some(cell)
            };
            keep(candidates.iter_mut().filter_map(judged).collect())?;
        }
        let answer = |candidate: Candidate<'_>| Answer::new(candidate.client.variant.lane, candidate.probes);
        Ok(candidates.into_iter().map(answer).collect())
    }

    /// Plans the next probe of each lane and warms the lane up. Returns whether any lane has one.
    async fn begin_round(&self, goal: Goal, candidates: &mut [Candidate<'_>]) -> Result<bool, RunError> {
        let mut any = false;
        for Candidate { client, requests, search, current, .. } in candidates {
            let Some(rate) = search.next() else { continue };
            let load = Load::Open { arrivals: goal.arrivals, rate, batch: 1 };
            self.progress.begin(client.variant.lane, load);
            let length = probe_length(rate, goal.arrivals, self.settings.duration, goal.longest);
            let mut measured = Self::empty_cell(client, load, requests);
            // It also waits until the server has worked off a probe that was too fast for it.
            let warm_up = (self.settings.warmup, self.settings.max_warmup);
            measured.warm_up = client.warm_up(requests, warm_up, |_| {}).await?;
            let windows = Timed::deal(length, self.settings.ramp, self.settings.blocks);
            *current = Some(Current { load, windows, measured });
            any = true;
        }
        Ok(any)
    }

    /// Measures the probes of a round, the lanes in turns.
    async fn probe(&self, candidates: &mut [Candidate<'_>], rng: &mut ChaCha8Rng) -> Result<(), RunError> {
        let windows = |candidate: &Candidate<'_>| candidate.current.as_ref().map_or(0, |probe| probe.windows.len());
        let turns = candidates.iter().map(windows).max().unwrap_or(0);
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        for turn in 0..turns {
            order.shuffle(rng);
            for &index in &order {
                let Candidate { client, requests, current, .. } = &mut candidates[index];
                let Some(Current { load, windows, measured }) = current else { continue };
                if let (Some(&window), false) = (windows.get(turn), self.stop.soon.is_cancelled()) {
                    let schedule = self.schedule(*load, window);
                    let block = client.open_window(Arc::clone(requests), schedule, window, |_| {}).await?;
                    measured.blocks.push(block);
                }
            }
        }
        Ok(())
    }

    /// Puts the cells of a round into the report, in the place of an earlier probe at the same rate, and writes it.
    fn keep(&self, cells: Vec<Cell>, report: &mut Report, clock: &RunClock, folder: &Path) -> Result<(), RunError> {
        let key = |cell: &Cell| (cell.lane, cell.load, cell.connection, cell.payload, cell.transport);
        for cell in cells {
            self.progress.cell(&cell);
            report.cells.retain(|earlier| key(earlier) != key(&cell));
            report.cells.push(cell);
        }
        report.interrupted = self.stop.soon.is_cancelled();
        save(report, clock, folder)
    }
}
