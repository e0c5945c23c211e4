//! Runs one stage of the plan: every lane under one load, block by block.

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

/// A lane in a stage.
struct LaneWork<'a> {
    client: &'a mut LaneClient,
    requests: Arc<[Prepared]>,
    measured: Measured,
}

/// The result of a stage.
pub(super) struct StageResult {
    /// The measurements of every lane.
    pub(super) measured: Vec<Measured>,
    /// Whether all blocks are complete.
    pub(super) complete: bool,
}

/// Runs the stages of a plan.
pub(super) struct Driver<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) clock: RunClock,
}

impl Driver<'_> {
    /// Runs one stage, or its remaining blocks when the run is resumed.
    pub(super) async fn stage(
        &self,
        index: usize,
        stage: &Stage,
        clients: &mut [LaneClient],
        journal: &mut Journal,
    ) -> Result<StageResult, RunError> {
        let mut lanes = Vec::with_capacity(clients.len());
        for client in clients {
            let requests = self.run.prepare(client, stage.load.batch())?;
            let measured = Run::empty_cell(client, stage.load, &requests);
            lanes.push(LaneWork { client, requests, measured });
        }
        let earlier = |block| self.run.resume.as_ref().and_then(|resume| resume.entry(index, block));
        let was_complete = (0..stage.blocks.len()).all(|block| earlier(block).is_some());
        let mut complete = true;
        for (number, block) in stage.blocks.iter().enumerate() {
            let Some(lane) = lanes.iter_mut().find(|lane| lane.client.variant == block.variant) else { continue };
            let earlier = earlier(number);
            // If blocks of the stage remain, warm up the lanes again.
            if let Some(entry) = earlier.filter(|entry| was_complete || matches!(entry.done, Done::Block(_))) {
                self.run.progress.advance(block.variant.lane, block.effort(stage.load), entry.took);
                entry.done.clone().add_to(&mut lane.measured);
                continue;
            }
            if self.run.stop.soon.is_cancelled() {
                complete = false;
                continue;
            }
            let began = self.clock.elapsed();
            let mut done = self.block(block, stage.load, lane).await?;
            if let (Done::WarmUp(again), Some(Entry { done: Done::WarmUp(first), .. })) = (&mut done, earlier) {
                again.follows(first.clone());
            }
            let elapsed = self.clock.elapsed();
            if self.clock.cancel.is_cancelled() {
                complete = false;
            } else {
                let (took, done) = (elapsed - began, done.clone());
                journal.add(&Entry { stage: index, block: number, took, elapsed, done })?;
            }
            done.add_to(&mut lane.measured);
        }
        Ok(StageResult { measured: lanes.into_iter().map(|lane| lane.measured).collect(), complete })
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
