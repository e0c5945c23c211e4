//! Goes on with the stages of a plan until every claim is decided, or until the time is up.

use std::time::{Duration, Instant};

use crate::{
    analysis::{
        claims::sequential::{Standing, pairs, time_of_block},
        sequence::is_due,
    },
    model::{
        block::Measured,
        duration::duration_text,
        hypothesis::{Hypothesis, Verdict},
        lane::Lane,
    },
    run::{
        error::RunError,
        journal::Journal,
        lane_client::LaneClient,
        plan::{Plan, Stage},
        progress::Progress,
        stage::{Driver, UnderWay},
    },
};

/// Shortest time between two reports of what is open.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Blocks after which a claim is given up if its lanes have answered in less than half of them.
const GIVE_UP_AFTER: usize = 8;

/// The values of one side of a claim, block by block.
#[derive(Default)]
struct Side {
    values: Vec<Vec<f64>>,
    /// Whether a block does not have the metric.
    unknown: bool,
}

/// A claim that is measured, with its values so far.
pub struct Watched {
    /// The claim.
    pub claim: Hypothesis,
    left: Side,
    right: Side,
    standing: Option<Standing>,
    /// Why no verdict is possible.
    hopeless: Option<&'static str>,
}

impl Watched {
    /// A claim without measurements.
    pub fn new(claim: Hypothesis) -> Self {
        Self { claim, left: Side::default(), right: Side::default(), standing: None, hopeless: None }
    }

    /// Whether blocks of its lanes are still needed.
    pub fn is_open(&self) -> bool {
        self.hopeless.is_none() && !self.standing.as_ref().is_some_and(Standing::is_decided)
    }

    /// Whether it needs a lane.
    fn needs(&self, lane: Lane) -> bool {
        self.is_open() && (self.claim.left == lane || self.claim.right == lane)
    }

    /// Adds the values of a lane's next block; `None` if the block does not have the metric.
    pub fn add(&mut self, lane: Lane, values: Option<Vec<f64>>) {
        let side = if lane == self.claim.left { &mut self.left } else { &mut self.right };
        side.unknown |= values.is_none();
        side.values.push(values.unwrap_or_default());
    }

    /// Looks at the blocks so far. Returns whether the claim needs no more from now on.
    pub fn look(&mut self, margin: f64) -> bool {
        if !self.is_open() {
            return false;
        }
        let pairs = pairs(&self.left.values, &self.right.values);
        let rounds = self.left.values.len().min(self.right.values.len());
        if is_due(pairs.len()) && self.standing.as_ref().is_none_or(|standing| standing.blocks < pairs.len()) {
            self.standing = Some(Standing::at(&self.claim, margin, &pairs));
        }
        if self.left.unknown || self.right.unknown {
            self.hopeless = Some("not known on both lanes");
        } else if rounds >= GIVE_UP_AFTER && pairs.len() * 2 < rounds {
            self.hopeless = Some("its lanes do not answer");
        }
        !self.is_open()
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Verdict {
        self.standing.as_ref().map_or(Verdict::Inconclusive, |standing| standing.verdict)
    }

    /// How it stands, in words; `of_block` is the time of a block.
    pub fn text(&self, of_block: Option<Duration>) -> String {
        let claim = &self.claim;
        match (&self.standing, self.hopeless) {
            (_, Some(reason)) => format!("no verdict: {claim}: {reason}"),
            (None, _) => format!("open: {claim}"),
            (Some(standing), _) if standing.is_decided() => {
                format!("{} after {} blocks: {claim}", standing.verdict.name(), standing.blocks)
            }
            (Some(standing), _) => {
                format!("open after {} blocks: {claim}: {}", standing.blocks, standing.remaining(of_block))
            }
        }
    }
}

/// A stage with the claims about it.
pub(super) struct Followed<'a> {
    under_way: UnderWay<'a>,
    claims: Vec<Watched>,
    margin: f64,
    /// Number of blocks of each variant that the claims have.
    seen: Vec<usize>,
    reported: Instant,
}

impl<'a> Followed<'a> {
    /// The stages of a plan that a claim is about.
    pub(super) fn all(plan: &'a Plan, claims: &[Hypothesis], margin: f64) -> Vec<Self> {
        let stages = plan.stages.iter().enumerate();
        stages.filter_map(|(index, stage)| Self::new(index, stage, claims, margin)).collect()
    }

    /// `None` if no claim is about the stage.
    fn new(index: usize, stage: &'a Stage, claims: &[Hypothesis], margin: f64) -> Option<Self> {
        let about = |claim: &&Hypothesis| {
            let measured = |lane| stage.blocks.iter().any(|block| block.variant.lane == lane);
            claim.load == stage.load && measured(claim.left) && measured(claim.right)
        };
        let claims: Vec<Watched> = claims.iter().filter(about).cloned().map(Watched::new).collect();
        let under_way = UnderWay::new(index, stage);
        (!claims.is_empty()).then(|| Self { under_way, claims, margin, seen: Vec::new(), reported: Instant::now() })
    }

    fn is_open(&self) -> bool {
        self.claims.iter().any(Watched::is_open)
    }

    fn needs(&self, lane: Lane) -> bool {
        self.claims.iter().any(|claim| claim.needs(lane))
    }

    /// Looks at the claims after a round.
    fn look(&mut self, progress: &dyn Progress) {
        let Self { under_way: UnderWay { measured, .. }, claims, seen, margin, .. } = self;
        seen.resize(measured.len(), 0);
        for (i, (cell, seen)) in measured.iter().zip(seen).enumerate() {
            let lane = cell.variant.lane;
            // A claim is about the first variant of its lanes.
            let first = measured[..i].iter().all(|other| other.variant.lane != lane);
            for block in cell.blocks.iter().skip(*seen).filter(|_| first) {
                for claim in
                    claims.iter_mut().filter(|watched| [watched.claim.left, watched.claim.right].contains(&lane))
                {
                    claim.add(lane, claim.claim.metric.of_block(cell.load, block));
                }
            }
            *seen = cell.blocks.len();
        }
        for claim in claims {
            if claim.look(*margin) {
                progress.say(&claim.text(None));
            }
        }
    }

    /// Says what is open, unless that was said less than `interval` ago.
    fn report(&mut self, progress: &dyn Progress, interval: Duration) {
        if self.reported.elapsed() < interval {
            return;
        }
        self.reported = Instant::now();
        let starts = |cell: &Measured| cell.blocks.iter().map(|block| block.start.as_secs_f64()).collect::<Vec<_>>();
        for claim in self.claims.iter().filter(|claim| claim.is_open()) {
            let cell = self.under_way.measured.iter().find(|cell| cell.variant.lane == claim.claim.left);
            progress.say(&claim.text(cell.and_then(|cell| time_of_block(&starts(cell)))));
        }
    }
}

impl Driver<'_> {
    /// Measures the loads that the claims are about: one pass after the other through the stages that have an open claim.
    /// Returns the measurements, and whether the run was not stopped.
    pub(super) async fn until_decided(
        &self,
        mut stages: Vec<Followed<'_>>,
        clients: &mut [LaneClient],
        journal: &mut Journal,
    ) -> Result<(Vec<Measured>, bool), RunError> {
        let mut pass = 0;
        while !self.is_over(&stages, pass) {
            for stage in stages.iter_mut().filter(|stage| stage.is_open()) {
                self.pass(stage, pass, clients, journal).await?;
            }
            pass += 1;
        }
        let (open, stopped) = (stages.iter().any(Followed::is_open), self.run.stop.soon.is_cancelled());
        if open && !stopped {
            stages.iter_mut().for_each(|stage| stage.report(self.run.progress, Duration::ZERO));
            self.run.progress.say(&format!("the time is up after {}", duration_text(self.clock.elapsed())));
        }
        let complete = !(open && stopped) && stages.iter().all(|stage| stage.under_way.complete);
        Ok((stages.into_iter().flat_map(|stage| stage.under_way.measured).collect(), complete))
    }

    fn time_is_up(&self) -> bool {
        self.run.settings.until_decided.is_some_and(|until| self.clock.elapsed() >= until.most)
    }

    /// Whether the run ends before this pass. Blocks of the journal take no time.
    fn is_over(&self, stages: &[Followed<'_>], pass: usize) -> bool {
        let in_journal = |stage: &Followed<'_>| {
            let (index, planned) = (stage.under_way.index, stage.under_way.stage);
            let rounds = planned.pass(pass, self.run.settings.seed);
            rounds.iter().flatten().any(|(number, _)| self.earlier(index, *number).is_some())
        };
        let ended = self.run.stop.soon.is_cancelled() || self.time_is_up();
        !stages.iter().any(Followed::is_open) || ended && !stages.iter().any(in_journal)
    }

    /// Runs the rounds of one pass through a stage, as long as a claim needs them and there is time.
    async fn pass(
        &self,
        stage: &mut Followed<'_>,
        pass: usize,
        clients: &mut [LaneClient],
        journal: &mut Journal,
    ) -> Result<(), RunError> {
        let (index, planned) = (stage.under_way.index, stage.under_way.stage);
        let requests = self.prepare(planned, clients)?;
        let warm_up: Vec<_> = planned.warm_up().map(|(number, block)| (number, *block)).collect();
        let rounds = [warm_up].into_iter().filter(|_| pass == 0).chain(planned.pass(pass, self.run.settings.seed));
        for round in rounds {
            let needed: Vec<_> = round.into_iter().filter(|(_, block)| stage.needs(block.variant.lane)).collect();
            let mut turn = self.turn(&mut stage.under_way, clients, &requests);
            for (number, block) in needed {
                if !self.time_is_up() || self.earlier(index, number).is_some() {
                    turn.block(number, &block, journal).await?;
                }
            }
            stage.look(self.run.progress);
        }
        stage.report(self.run.progress, REPORT_INTERVAL);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(claim: &str) -> Watched {
        Watched::new(claim.parse().unwrap())
    }

    #[test]
    fn a_claim_needs_its_lanes_until_it_is_decided() {
        let mut claim = watched("throughput(onnx-http) > throughput(trt-http) @ concurrency=8");
        assert!(claim.needs(Lane::ONNX_HTTP) && claim.needs(Lane::TRT_HTTP) && !claim.needs(Lane::JPEG));
        for round in 1.. {
            claim.add(Lane::ONNX_HTTP, Some(vec![110.0 + f64::from(round % 3)]));
            assert!(!claim.look(0.02), "half a round decides nothing");
            claim.add(Lane::TRT_HTTP, Some(vec![100.0]));
            if claim.look(0.02) {
                break;
            }
            assert!(round < 8 && claim.text(None).starts_with("open"), "{}", claim.text(None));
        }
        assert_eq!(claim.verdict(), Verdict::Supported);
        assert!(!claim.is_open() && !claim.needs(Lane::ONNX_HTTP) && !claim.look(0.02));
        assert!(claim.text(None).starts_with("supported after "), "{}", claim.text(None));
    }

    #[test]
    fn claims_without_hope_do_not_go_on() {
        let mut unknown = watched("infer(onnx-http) < infer(trt-http)");
        unknown.add(Lane::ONNX_HTTP, Some(vec![1.0]));
        unknown.add(Lane::TRT_HTTP, None);
        assert!(unknown.look(0.02));
        assert_eq!(
            unknown.text(None),
            "no verdict: infer(onnx-http) < infer(trt-http) @ batch=1: not known on both lanes"
        );
        let mut silent = watched("p50(onnx-http) < p50(trt-http)");
        for block in 1..=GIVE_UP_AFTER {
            silent.add(Lane::ONNX_HTTP, Some(vec![1.0]));
            silent.add(Lane::TRT_HTTP, Some(Vec::new()));
            assert_eq!(silent.look(0.02), block == GIVE_UP_AFTER);
        }
    }
}
