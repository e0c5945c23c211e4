//! Runs until decided: the real plan and the real decision after every round, in virtual time and on real sockets.

use std::{sync::Arc, time::Duration};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    client::call::Prepared,
    model::{
        estimate::Statistic,
        hypothesis::{Hypothesis, Relation, Verdict},
        load::Load,
        metric::Metric,
        settings::Settings,
        until_decided::MARGIN,
    },
    run::{
        lane_client::LaneClient,
        plan::{Block, Plan, Stage, Work},
        timed::Timed,
        until_decided::Watched,
    },
    selftest::{
        queueing::completions,
        simulate::{LANES, Latency, Surplus},
    },
};

/// Workers of the closed loop.
const WORKERS: usize = 8;
/// Most rounds of a run.
const MOST_ROUNDS: usize = 100;
/// A window on real sockets: long enough for 70 requests of 2 ms.
const WINDOW: Duration = Duration::from_millis(150);
const RAMP: Duration = Duration::from_millis(20);

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The verdict on the claim that the first lane has the smaller latency, or the larger throughput.
    pub verdict: Verdict,
    /// Rounds that were measured.
    pub rounds: usize,
    /// Requests of both lanes.
    pub requests: usize,
}

impl Ended {
    /// The requests that the fixed length takes, in blocks of the same size.
    pub fn fixed_length(self) -> f64 {
        (self.requests * Settings::default().blocks) as f64 / self.rounds.max(1) as f64
    }
}

/// The stage of two lanes under a load, as the real plan makes it, and the claim about it.
fn planned(settings: Settings, metric: Metric, relation: Relation) -> Option<(Stage, Watched)> {
    let stage = Plan::new(&settings, &LANES).stages.into_iter().next()?;
    let [left, right] = LANES;
    let claim = Hypothesis { metric, left, relation, factor: 1.0, right, load: stage.load };
    Some((stage, Watched::new(claim)))
}

fn serial(seed: u64) -> Option<(Stage, Watched)> {
    let settings = Settings { batches: vec![1], concurrency: Vec::new(), seed, ..Settings::default() };
    planned(settings, Metric::Latency(Statistic::Median), Relation::Less)
}

fn concurrent(seed: u64) -> Option<(Stage, Watched)> {
    let settings = Settings { batches: Vec::new(), concurrency: vec![WORKERS], seed, ..Settings::default() };
    planned(settings, Metric::Throughput, Relation::Greater)
}

/// The rounds of a stage, one pass after the other.
fn rounds(stage: &Stage, seed: u64) -> impl Iterator<Item = Vec<(usize, Block)>> {
    (0..).flat_map(move |pass| stage.pass(pass, seed)).take(MOST_ROUNDS)
}

/// A run in virtual time of serial requests, or with 8 workers at a server that takes one request at a time.
pub fn trial(load: Load, latency: Latency, surplus: Surplus, margin: f64, seed: u64) -> Option<Ended> {
    let (stage, mut claim) = if load.workers() == 1 { serial(seed)? } else { concurrent(seed)? };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut ended = Ended { verdict: Verdict::Inconclusive, rounds: 0, requests: 0 };
    for round in rounds(&stage, seed) {
        for (_, block) in round {
            let lane = block.variant.lane;
            let (second, progress) = (lane == LANES[1], ended.rounds as f64 / MOST_ROUNDS as f64);
            let values: Vec<f64> = match block.work {
                Work::Requests(n) => {
                    ended.requests += n;
                    (0..n).map(|_| surplus.of(latency.draw(progress, &mut rng), second)).collect()
                }
                Work::Window(window) => {
                    let completed = completions(window, latency, (surplus, second), progress, &mut rng);
                    ended.requests += completed;
                    vec![completed as f64 / window.length.as_secs_f64()]
                }
                Work::WarmUp { .. } => continue,
            };
            claim.add(lane, Some(values));
        }
        ended.rounds += 1;
        if claim.look(margin) {
            break;
        }
    }
    Some(Ended { verdict: claim.verdict(), ..ended })
}

/// A run with 8 workers on real sockets, with short windows.
///
/// # Errors
/// If a recorder cannot be made.
pub async fn real_trial(
    lanes: &mut [(LaneClient, Arc<[Prepared]>); 2],
    seed: u64,
) -> Result<Option<Ended>, hdrhistogram::CreationError> {
    let Some((stage, mut claim)) = concurrent(seed) else { return Ok(None) };
    let mut ended = Ended { verdict: Verdict::Inconclusive, rounds: 0, requests: 0 };
    for round in rounds(&stage, seed).take(3 * Settings::default().blocks) {
        for (_, block) in round {
            let Work::Window(window) = block.work else { continue };
            let (client, requests) = &mut lanes[usize::from(block.variant.lane == LANES[1])];
            let window = Timed { ramp: RAMP, most_ramp: RAMP, length: WINDOW, ..window };
            let measured = client.window(Arc::clone(requests), WORKERS, window, |_| {}).await?;
            ended.requests += measured.recorder.samples().len();
            claim.add(block.variant.lane, Metric::Throughput.of_block(stage.load, &measured));
        }
        ended.rounds += 1;
        if claim.look(MARGIN) {
            break;
        }
    }
    Ok(Some(Ended { verdict: claim.verdict(), ..ended }))
}
