//! Plans a run: stages of blocks, in order. Pure.
//!
//! Lanes take turns by block, in a new random order each round (seeded), so that a machine that slows down or a cache
//! that warms up affects all lanes equally.

use std::{collections::BTreeSet, time::Duration};

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    model::{
        arrivals::{Arrivals, LoadSpec, Rate},
        lane::Lane,
        load::Load,
        settings::Settings,
        variant::Variant,
    },
    run::{effort::Effort, timed::Timed},
};

/// The work of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests that are not measured, until latency is steady.
    WarmUp {
        /// Minimum.
        least: usize,
        /// Maximum.
        most: usize,
    },
    /// Measured requests, one after the other.
    Requests(usize),
    /// A timed window after a ramp.
    Window(Timed),
}

/// Work of one variant, without a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The variant.
    pub variant: Variant,
    /// Its work.
    pub work: Work,
}

/// All blocks under one load; a complete stage completes its cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The load.
    pub load: Load,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
}

impl Stage {
    /// The blocks that warm up, with their numbers.
    pub fn warm_up(&self) -> impl Iterator<Item = (usize, &Block)> {
        self.blocks.iter().enumerate().take_while(|(_, block)| matches!(block.work, Work::WarmUp { .. }))
    }

    /// The measured blocks with their numbers, round by round: one block of each variant. Pass 0 is the plan's. For a stage
    /// that goes on, each further pass repeats it in an order of its own, and the numbers go on.
    pub fn pass(&self, pass: usize, seed: u64) -> Vec<Vec<(usize, Block)>> {
        let warm_ups = self.warm_up().count();
        let blocks = &self.blocks[warm_ups..];
        let variants = blocks.iter().map(|block| block.variant).collect::<BTreeSet<_>>().len();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(pass as u64);
        let mut number = warm_ups + pass * blocks.len();
        let mut round = |blocks: &[Block]| {
            let mut blocks = blocks.to_vec();
            if pass > 0 {
                blocks.shuffle(&mut rng);
            }
            let numbered = blocks.into_iter().map(|block| {
                number += 1;
                (number - 1, block.repeated(pass))
            });
            numbered.collect()
        };
        blocks.chunks(variants.max(1)).map(&mut round).collect()
    }
}

/// The whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// Plans a run of `lanes`.
    pub fn new(settings: &Settings, lanes: &[Lane]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut order = Variant::all(settings, lanes);
        let mut round = |work: Work| -> Vec<Block> {
            order.shuffle(&mut rng);
            order.iter().map(|&variant| Block { variant, work }).collect()
        };
        let windows =
            || Timed::deal(settings.duration, settings.ramp, settings.blocks).into_iter().map(Work::Window).collect();
        let warm_up = Work::WarmUp { least: settings.warmup, most: settings.max_warmup.max(settings.warmup) };
        let mut stages = Vec::new();
        let mut add = |load, works: Vec<Work>| {
            stages.push(Stage { load, blocks: works.into_iter().flat_map(&mut round).collect() });
        };
        for load in &settings.loads {
            match load {
                LoadSpec::Closed => {
                    for &batch in &settings.batches {
                        let blocks = split(settings.iterations, settings.blocks).into_iter().map(Work::Requests);
                        add(Load::Serial { batch }, std::iter::once(warm_up).chain(blocks).collect());
                    }
                    for &batch in &settings.concurrent_batches {
                        for &concurrency in &settings.concurrency {
                            add(Load::Concurrent { concurrency, batch }, windows());
                        }
                    }
                }
                LoadSpec::Open { arrivals, rates } => {
                    for &batch in &settings.concurrent_batches {
                        for &rate in rates {
                            add(Load::Open { arrivals: *arrivals, rate, batch }, windows());
                        }
                    }
                }
                LoadSpec::Replay(trace) => {
                    let windows = Timed::deal_trace(trace.length(), settings.ramp, settings.blocks);
                    for &batch in &settings.concurrent_batches {
                        let load = Load::Open { arrivals: Arrivals::Replay, rate: trace.rate(), batch };
                        add(load, windows.iter().copied().map(Work::Window).collect());
                    }
                }
            }
        }
        Self { stages }
    }

    /// The work of one lane.
    pub fn effort(&self, lane: Lane) -> Effort {
        let mut effort = Effort::default();
        for stage in &self.stages {
            for block in stage.blocks.iter().filter(|block| block.variant.lane == lane) {
                effort += block.effort(stage.load);
            }
        }
        effort
    }

    /// The rate of each window of an open loop, and where it ends in the load's schedule.
    pub fn open_windows(&self) -> impl Iterator<Item = (Rate, Duration)> {
        self.stages.iter().flat_map(|stage| {
            stage.blocks.iter().filter_map(|block| match (stage.load, block.work) {
                (Load::Open { rate, .. }, Work::Window(window)) => Some((rate, window.end())),
                _ => None,
            })
        })
    }

    /// The largest number of images in one request.
    pub fn largest_batch(&self) -> usize {
        self.stages.iter().map(|stage| stage.load.batch()).max().unwrap_or(1)
    }
}

/// Splits `total` into at most `blocks` parts whose sizes differ by at most one; none is empty.
fn split(total: usize, blocks: usize) -> Vec<usize> {
    let blocks = blocks.clamp(1, total.max(1));
    (0..blocks).map(|i| total / blocks + usize::from(i < total % blocks)).filter(|&n| n > 0).collect()
}

impl Block {
    /// The block in a later pass.
    fn repeated(self, pass: usize) -> Self {
        match self.work {
            Work::Window(window) => Self { work: Work::Window(Timed { repetition: pass as u64, ..window }), ..self },
            _ => self,
        }
    }

    /// The amount of work of the block.
    pub fn effort(self, load: Load) -> Effort {
        match self.work {
            Work::WarmUp { least: n, .. } | Work::Requests(n) => {
                Effort { requests: n, images: n * load.batch(), windows: Duration::ZERO }
            }
            Work::Window(window) => Effort { windows: window.time(), ..Effort::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{connection::Policy, encoding::Encoding, settings::Preset};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn settings(iterations: usize, blocks: usize, seed: u64) -> Settings {
        Settings { batches: vec![1, 4], concurrency: vec![8], iterations, blocks, seed, ..Settings::default() }
    }

    #[test]
    fn axes_multiply_and_each_lane_uses_the_payloads_it_supports() {
        let settings = Settings {
            connections: vec![Policy::Fresh, Policy::Reused],
            payloads: vec![Encoding::Fp16, Encoding::Json],
            ..settings(4, 2, 1)
        };
        let variants = Variant::all(&settings, &[Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        let payloads = |lane| {
            variants.iter().filter(|variant| variant.lane == lane).map(|variant| variant.payload).collect::<Vec<_>>()
        };
        assert_eq!(payloads(Lane::JPEG), [Encoding::JpegBase64; 2], "it supports none of them and uses its default");
        assert_eq!(payloads(Lane::ONNX_HTTP), [Encoding::Fp16, Encoding::Json, Encoding::Fp16, Encoding::Json]);
        assert_eq!(payloads(Lane::ONNX_GRPC), [Encoding::Fp16; 2]);
        let plan = Plan::new(&settings, &[Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        assert!(
            plan.stages[0]
                .blocks
                .chunks(variants.len())
                .all(|round| variants.iter().all(|variant| round.iter().any(|t| t.variant == *variant)))
        );
    }

    #[test]
    fn a_lane_uses_the_transports_that_it_supports() {
        use crate::model::transport::Transport::{Shm, Tcp, Uds};
        let payloads = vec![Encoding::Fp32, Encoding::Json];
        let settings = Settings { transports: vec![Shm, Uds], payloads, ..settings(4, 2, 1) };
        let transports =
            |lane| Variant::all(&settings, &[lane]).iter().map(|variant| variant.transport).collect::<Vec<_>>();
        assert_eq!(transports(Lane::JPEG), [Uds]);
        assert_eq!(transports(Lane::ONNX_HTTP), [Shm, Uds, Uds], "JSON is in messages");
        assert_eq!(transports(Lane::ONNX_HTTP.of("other".parse().unwrap())), [Shm, Tcp], "only the suite has sockets");
    }

    #[test]
    fn each_rate_of_an_open_loop_is_a_stage() {
        let loads = vec!["steps:10,20".parse().unwrap(), LoadSpec::Closed];
        let plan = Plan::new(&Settings { loads, ..settings(4, 2, 1) }, &[Lane::JPEG]);
        let loads: Vec<_> = plan.stages.iter().map(|stage| stage.load.to_string()).collect();
        assert_eq!(loads, ["constant 10/s", "constant 20/s", "serial b=1", "serial b=4", "concurrent c=8"]);
    }

    #[test]
    fn effort_counts_warm_up_and_windows() {
        let effort = Plan::new(&settings(10, 3, 1), &Lane::ALL).effort(Lane::TRT_GRPC);
        let windows = Duration::from_secs(4 + 1) + 2 * (Duration::from_secs(1) / 3);
        assert_eq!(effort.windows.as_millis(), windows.as_millis());
        assert_eq!((effort.requests, effort.images), (24, 12 + 48));
        assert_eq!(effort.at(Duration::from_millis(100)).as_millis(), windows.as_millis() + 6_000);
    }

    /// A single window of each variant would not be paired: whether a lane has more throughput could not be decided.
    #[test]
    fn all_loads_have_blocks_that_alternate() {
        let loads = vec!["steps:10,20".parse().unwrap(), LoadSpec::Closed];
        for preset in [Preset::Quick, Preset::Seed] {
            let (iterations, warmup, blocks, duration) = preset.sizes();
            let settings =
                Settings { iterations, warmup, blocks, duration, loads: loads.clone(), ..Settings::default() };
            for stage in Plan::new(&settings, &Lane::ALL).stages {
                let measured = stage.blocks.iter().filter(|block| !matches!(block.work, Work::WarmUp { .. }));
                let lanes: Vec<Lane> = measured.map(|block| block.variant.lane).collect();
                assert_eq!(lanes.len(), blocks * Lane::ALL.len(), "{}", stage.load);
                let complete = |round: &[Lane]| Lane::ALL.iter().all(|lane| round.contains(lane));
                assert!(lanes.chunks(Lane::ALL.len()).all(complete), "{}", stage.load);
            }
        }
    }

    #[test]
    fn order_varies_within_a_run_and_repeats_with_the_seed() {
        let plan = Plan::new(&settings(30, 5, 1), &Lane::ALL);
        let rounds: HashSet<Vec<Lane>> = plan.stages[0]
            .blocks
            .chunks(5)
            .map(|round| round.iter().map(|block| block.variant.lane).collect())
            .collect();
        assert!(rounds.len() > 1, "the order of lanes varies");
        assert_eq!(plan, Plan::new(&settings(30, 5, 1), &Lane::ALL));
        assert_ne!(plan, Plan::new(&settings(30, 5, 2), &Lane::ALL));
    }

    proptest! {
        /// The stage of a run until decided has no last block.
        #[test]
        fn a_stage_that_goes_on_repeats_its_rounds(iterations in 1_usize..40, blocks in 1_usize..10, seed: u64, last in 1_usize..5) {
            let stages = Plan::new(&settings(iterations, blocks, seed), &Lane::ALL).stages;
            for stage in &stages {
                let first: Vec<Block> = stage.pass(0, seed).concat().into_iter().map(|(_, block)| block).collect();
                let planned: Vec<Block> = stage.blocks[stage.warm_up().count()..].to_vec();
                prop_assert_eq!(first, planned, "the first pass is the plan");
                let passes: Vec<_> = (0..=last).flat_map(|pass| stage.pass(pass, seed)).collect();
                let numbers: Vec<usize> = passes.concat().into_iter().map(|(number, _)| number).collect();
                let start = stage.warm_up().count();
                prop_assert_eq!(&numbers, &(start..start + numbers.len()).collect::<Vec<_>>(), "numbers go on");
                for round in &passes {
                    let lanes: HashSet<Lane> = round.iter().map(|(_, block)| block.variant.lane).collect();
                    prop_assert_eq!((round.len(), lanes.len()), (5, 5), "each lane once");
                }
                let (repeated, size) = (stage.pass(last, seed), |work| if let Work::Requests(n) = work { n } else { 1 });
                let requests = |rounds: &[Vec<(usize, Block)>]| rounds.iter().flatten().map(|(_, b)| size(b.work)).sum::<usize>();
                prop_assert_eq!(requests(&repeated), requests(&stage.pass(0, seed)));
                prop_assert_eq!(&repeated, &stage.pass(last, seed), "a resumed run has the same order");
            }
        }

        #[test]
        fn each_lane_gets_exactly_its_iterations(iterations in 1_usize..100, blocks in 1_usize..10, seed: u64) {
            let plan = Plan::new(&settings(iterations, blocks, seed), &Lane::ALL);
            for stage in &plan.stages {
                for lane in Lane::ALL {
                    let works: Vec<Work> = stage.blocks.iter().filter(|t| t.variant.lane == lane).map(|t| t.work).collect();
                    match stage.load {
                        Load::Serial { .. } => {
                            prop_assert_eq!(works[0], Work::WarmUp { least: 2, most: 10 }, "warm-up comes first");
                            let parts: Vec<usize> = works[1..]
                                .iter()
                                .map(|work| if let Work::Requests(n) = work { *n } else { 0 })
                                .collect();
                            prop_assert_eq!(parts.iter().sum::<usize>(), iterations);
                            prop_assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
                        }
                        Load::Concurrent { .. } | Load::Open { .. } => {
                            prop_assert_eq!(works.len(), blocks.min(8), "windows of 500 ms, dealt like requests");
                        }
                    }
                }
            }
        }
    }
}
