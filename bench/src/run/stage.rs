//! Runs the blocks of a stage: every lane under one load. A stage may be continued in several turns.

use std::{sync::Arc, time::Duration};

use crate::{
    client::call::Prepared,
    model::{block::Measured, load::Load},
    run::{
        clock::RunClock,
        effort::Effort,
        error::RunError,
        journal::{Done, Entry, Journal},
        lane_client::LaneClient,
        plan::{Block, Stage, Work},
        progress::Stopwatch,
        setup::Run,
    },
};

/// A stage under way.
pub(super) struct UnderWay<'a> {
    /// Its index in the plan.
    pub(super) index: usize,
    pub(super) stage: &'a Stage,
    /// The measurements of every client's variant; empty before the first turn.
    pub(super) measured: Vec<Measured>,
    /// Whether no block was left out because the run was stopped.
    pub(super) complete: bool,
    /// Warm-ups that are in the journal: they are repeated before the first block that is not.
    cold: Vec<(usize, Block)>,
}

impl<'a> UnderWay<'a> {
    /// A stage of which nothing was measured.
    pub(super) fn new(index: usize, stage: &'a Stage) -> Self {
        Self { index, stage, measured: Vec::new(), complete: true, cold: Vec::new() }
    }
}

/// Runs the stages of a plan.
pub(super) struct Driver<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) clock: RunClock,
}

impl Driver<'_> {
    /// Runs a whole stage, or its remaining blocks when the run is resumed.
    pub(super) async fn whole(
        &self,
        index: usize,
        stage: &Stage,
        clients: &mut [LaneClient],
        journal: &mut Journal,
    ) -> Result<(Vec<Measured>, bool), RunError> {
        let mut under_way = UnderWay::new(index, stage);
        let requests = self.prepare(stage, clients)?;
        let mut turn = self.turn(&mut under_way, clients, &requests);
        for (number, block) in stage.blocks.iter().enumerate() {
            turn.block(number, block, journal).await?;
        }
        Ok((under_way.measured, under_way.complete))
    }

    /// The requests of every client under the load of a stage.
    pub(super) fn prepare(&self, stage: &Stage, clients: &[LaneClient]) -> Result<Vec<Arc<[Prepared]>>, RunError> {
        clients.iter().map(|client| self.run.prepare(client, stage.load.batch())).collect()
    }

    /// Begins a turn of a stage with its prepared requests.
    pub(super) fn turn<'t>(
        &'t self,
        stage: &'t mut UnderWay<'_>,
        clients: &'t mut [LaneClient],
        requests: &'t [Arc<[Prepared]>],
    ) -> Turn<'t> {
        let UnderWay { index, stage: Stage { load, .. }, measured, complete, cold } = stage;
        if measured.is_empty() {
            let cells = clients.iter().zip(requests).map(|(client, requests)| Run::empty_cell(client, *load, requests));
            measured.extend(cells);
        }
        let lanes = clients.iter_mut().zip(requests).zip(measured);
        let lanes = lanes.map(|((client, requests), measured)| LaneWork { client, requests, measured }).collect();
        Turn { driver: self, index: *index, load: *load, lanes, cold, complete }
    }
}

/// A lane in a turn.
struct LaneWork<'a> {
    client: &'a mut LaneClient,
    requests: &'a Arc<[Prepared]>,
    measured: &'a mut Measured,
}

/// Some blocks of a stage, one after the other.
pub(super) struct Turn<'a> {
    driver: &'a Driver<'a>,
    index: usize,
    load: Load,
    lanes: Vec<LaneWork<'a>>,
    cold: &'a mut Vec<(usize, Block)>,
    complete: &'a mut bool,
}

impl Turn<'_> {
    /// Runs the block with this number, unless the run is stopped or it is in the journal.
    pub(super) async fn block(&mut self, number: usize, block: &Block, journal: &mut Journal) -> Result<(), RunError> {
        if let Some(entry) = self.driver.earlier(self.index, number) {
            if matches!(entry.done, Done::WarmUp(_)) {
                self.cold.push((number, *block));
            }
            self.driver.run.progress.advance(block.variant.lane, block.effort(self.load), entry.took);
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.client.variant == block.variant) {
                entry.done.clone().add_to(lane.measured);
            }
            return Ok(());
        }
        for (number, block) in std::mem::take(self.cold) {
            self.measure(number, &block, journal).await?;
        }
        self.measure(number, block, journal).await
    }

    /// Runs a block, unless the run is stopped.
    async fn measure(&mut self, number: usize, block: &Block, journal: &mut Journal) -> Result<(), RunError> {
        let driver = self.driver;
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.client.variant == block.variant) else { return Ok(()) };
        if driver.run.stop.soon.is_cancelled() {
            *self.complete = false;
            return Ok(());
        }
        let began = driver.clock.elapsed();
        let mut done = driver.block(block, self.load, lane).await?;
        if let (Done::WarmUp(again), Some(Entry { done: Done::WarmUp(first), .. })) =
            (&mut done, driver.earlier(self.index, number))
        {
            again.follows(first.clone());
        }
        let elapsed = driver.clock.elapsed();
        if driver.clock.cancel.is_cancelled() {
            *self.complete = false;
        } else {
            let (took, done) = (elapsed - began, done.clone());
            journal.add(&Entry { stage: self.index, block: number, took, elapsed, done })?;
        }
        done.add_to(lane.measured);
        Ok(())
    }
}

impl Driver<'_> {
    /// The block from before the run was stopped.
    pub(super) fn earlier(&self, stage: usize, block: usize) -> Option<&Entry> {
        self.run.resume.as_ref().and_then(|resume| resume.entry(stage, block))
    }

    /// Runs one block.
    async fn block(&self, block: &Block, load: Load, work: &mut LaneWork<'_>) -> Result<Done, RunError> {
        let (lane, progress) = (block.variant.lane, self.run.progress);
        let LaneWork { client, requests, measured } = work;
        progress.begin(lane, load);
        let mut watch = Stopwatch::start();
        let mut requests_done = |n: usize| {
            let done = Block { variant: block.variant, work: Work::Requests(n) }.effort(load);
            progress.advance(lane, done, watch.lap());
        };
        let mut ahead = block.effort(load).windows;
        let mut time_passed = |done: Effort| {
            ahead = ahead.saturating_sub(done.windows);
            progress.advance(lane, done, Duration::ZERO);
        };
        let block = match (block.work, load) {
            (Work::WarmUp { least, most }, _) => {
                return Ok(Done::WarmUp(client.warm_up(requests, (least, most), &mut requests_done).await?));
            }
            (Work::Requests(n), _) => {
                // Each block continues with the photograph after the last block's.
                let first = measured.requests() % requests.len().max(1);
                client.block(requests, first..first + n, &mut requests_done).await?
            }
            (Work::Window(window), Load::Open { .. }) => {
                let schedule = self.run.schedule(load, window);
                client.open_window(Arc::clone(requests), schedule, window, &mut time_passed).await?
            }
            (Work::Window(window), _) => {
                client.window(Arc::clone(requests), load.workers(), window, &mut time_passed).await?
            }
        };
        // A window may end early, with its last request or at the limit of requests.
        progress.advance(lane, Effort { windows: ahead, ..Effort::default() }, Duration::ZERO);
        Ok(Done::Block(Box::new(block)))
    }
}
