//! The plan of a run: stages of blocks, in order. Pure.
//!
//! Lanes are interleaved in blocks whose order is drawn anew each time (seeded), so that a machine
//! that slows down, or a cache that warms up, hits all lanes alike.

use std::time::Duration;

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
    run::effort::Effort,
};

/// What a block consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests that are not measured, until they are steady.
    WarmUp {
        /// Minimum.
        least: usize,
        /// Maximum.
        most: usize,
    },
    /// Measured requests, one after the other.
    Requests(usize),
    /// A timed window after a ramp.
    Window {
        /// Load before the window opens.
        ramp: Duration,
        /// The window's length.
        length: Duration,
    },
}

/// One variant at work on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The variant.
    pub variant: Variant,
    /// What it does.
    pub work: Work,
}

/// All variants under one load: their cells are complete when the stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The load.
    pub load: Load,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
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
        let window = Work::Window { ramp: settings.ramp, length: settings.duration };
        let warm_up = Work::WarmUp { least: settings.warmup, most: settings.max_warmup.max(settings.warmup) };
        let mut stages = Vec::new();
        let mut add = |load, works: Vec<Work>| {
            stages.push(Stage { load, blocks: works.into_iter().flat_map(&mut round).collect() });
        };
        for load in &settings.loads {
            match load {
                LoadSpec::Closed => {
                    for &batch in &settings.batches {
                        let blocks = deal(settings.iterations, settings.blocks).into_iter().map(Work::Requests);
                        add(Load::Serial { batch }, std::iter::once(warm_up).chain(blocks).collect());
                    }
                    for &concurrency in &settings.concurrency {
                        add(Load::Concurrent { concurrency, batch: 1 }, vec![window]);
                    }
                }
                LoadSpec::Open { arrivals, rates } => {
                    for &rate in rates {
                        add(Load::Open { arrivals: *arrivals, rate, batch: 1 }, vec![window]);
                    }
                }
                LoadSpec::Replay(trace) => {
                    let ramp = settings.ramp.min(trace.length() / 2);
                    let work = Work::Window { ramp, length: trace.length() - ramp };
                    add(Load::Open { arrivals: Arrivals::Replay, rate: trace.rate(), batch: 1 }, vec![work]);
                }
            }
        }
        Self { stages }
    }

    /// What lies ahead of one lane.
    pub fn effort(&self, lane: Lane) -> Effort {
        let mut effort = Effort::default();
        for stage in &self.stages {
            for block in stage.blocks.iter().filter(|block| block.variant.lane == lane) {
                effort += block.effort(stage.load);
            }
        }
        effort
    }

    /// The rate and length of each window of an open loop, ramp included.
    pub fn open_windows(&self) -> impl Iterator<Item = (Rate, Duration)> {
        self.stages.iter().flat_map(|stage| {
            stage.blocks.iter().filter_map(|block| match (stage.load, block.work) {
                (Load::Open { rate, .. }, Work::Window { ramp, length }) => Some((rate, ramp + length)),
                _ => None,
            })
        })
    }

    /// The most images that a request of the plan carries.
    pub fn largest_batch(&self) -> usize {
        self.stages.iter().map(|stage| stage.load.batch()).max().unwrap_or(1)
    }
}

/// Deals `total` into at most `blocks` parts that differ by at most one; none is empty.
fn deal(total: usize, blocks: usize) -> Vec<usize> {
    let blocks = blocks.clamp(1, total.max(1));
    (0..blocks).map(|i| total / blocks + usize::from(i < total % blocks)).filter(|&n| n > 0).collect()
}

impl Block {
    /// What the block takes.
    pub fn effort(self, load: Load) -> Effort {
        match self.work {
            Work::WarmUp { least: n, .. } | Work::Requests(n) => {
                Effort { requests: n, images: n * load.batch(), windows: Duration::ZERO }
            }
            Work::Window { ramp, length } => Effort { windows: ramp + length, ..Effort::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{connection::Policy, encoding::Encoding};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn settings(iterations: usize, blocks: usize, seed: u64) -> Settings {
        Settings { batches: vec![1, 4], concurrency: vec![8], iterations, blocks, seed, ..Settings::default() }
    }

    #[test]
    fn axes_multiply_and_each_lane_carries_what_it_can() {
        let settings = Settings {
            connections: vec![Policy::Fresh, Policy::Reused],
            payloads: vec![Encoding::Fp16, Encoding::Json],
            ..settings(4, 2, 1)
        };
        let variants = Variant::all(&settings, &[Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        let of = |lane| {
            variants.iter().filter(|variant| variant.lane == lane).map(|variant| variant.payload).collect::<Vec<_>>()
        };
        assert_eq!(of(Lane::JPEG), [Encoding::JpegBase64; 2], "it carries none of those asked for: its usual one");
        assert_eq!(of(Lane::ONNX_HTTP), [Encoding::Fp16, Encoding::Json, Encoding::Fp16, Encoding::Json]);
        assert_eq!(of(Lane::ONNX_GRPC), [Encoding::Fp16; 2]);
        let plan = Plan::new(&settings, &[Lane::JPEG, Lane::ONNX_HTTP, Lane::ONNX_GRPC]);
        assert!(
            plan.stages[0]
                .blocks
                .chunks(variants.len())
                .all(|round| variants.iter().all(|variant| round.iter().any(|t| t.variant == *variant)))
        );
    }

    #[test]
    fn a_lane_uses_the_transports_that_it_can() {
        use crate::model::transport::Transport::{Shm, Tcp, Uds};
        let payloads = vec![Encoding::Fp32, Encoding::Json];
        let settings = Settings { transports: vec![Shm, Uds], payloads, ..settings(4, 2, 1) };
        let of = |lane| Variant::all(&settings, &[lane]).iter().map(|variant| variant.transport).collect::<Vec<_>>();
        assert_eq!(of(Lane::JPEG), [Uds]);
        assert_eq!(of(Lane::ONNX_HTTP), [Shm, Uds, Uds], "JSON is in messages");
        assert_eq!(of(Lane::ONNX_HTTP.of("other".parse().unwrap())), [Shm, Tcp], "the sockets are the suite's");
    }

    #[test]
    fn each_rate_of_an_open_loop_is_a_stage() {
        let loads = vec!["steps:10,20".parse().unwrap(), LoadSpec::Closed];
        let plan = Plan::new(&Settings { loads, ..settings(4, 2, 1) }, &[Lane::JPEG]);
        let words: Vec<_> = plan.stages.iter().map(|stage| stage.load.to_string()).collect();
        assert_eq!(words, ["constant 10/s", "constant 20/s", "serial b=1", "serial b=4", "concurrent c=8"]);
    }

    #[test]
    fn effort_counts_warm_up_and_windows() {
        let effort = Plan::new(&settings(10, 3, 1), &Lane::ALL).effort(Lane::TRT_GRPC);
        assert_eq!(effort, Effort { requests: 24, images: 12 + 48, windows: Duration::from_secs(5) });
        assert_eq!(effort.at(Duration::from_millis(100)), Duration::from_secs(11));
    }

    #[test]
    fn order_varies_within_a_run_and_repeats_with_the_seed() {
        let plan = Plan::new(&settings(30, 5, 1), &Lane::ALL);
        let rounds: HashSet<Vec<Lane>> = plan.stages[0]
            .blocks
            .chunks(5)
            .map(|round| round.iter().map(|block| block.variant.lane).collect())
            .collect();
        assert!(rounds.len() > 1, "lanes are not always in one order");
        assert_eq!(plan, Plan::new(&settings(30, 5, 1), &Lane::ALL));
        assert_ne!(plan, Plan::new(&settings(30, 5, 2), &Lane::ALL));
    }

    proptest! {
        #[test]
        fn each_lane_gets_exactly_its_iterations(iterations in 1_usize..100, blocks in 1_usize..10, seed: u64) {
            let plan = Plan::new(&settings(iterations, blocks, seed), &Lane::ALL);
            for stage in &plan.stages {
                for lane in Lane::ALL {
                    let works: Vec<Work> = stage.blocks.iter().filter(|t| t.variant.lane == lane).map(|t| t.work).collect();
                    match stage.load {
                        Load::Serial { .. } => {
                            prop_assert_eq!(works[0], Work::WarmUp { least: 2, most: 10 }, "warm-up comes first");
                            let dealt: Vec<usize> = works[1..]
                                .iter()
                                .map(|work| if let Work::Requests(n) = work { *n } else { 0 })
                                .collect();
                            prop_assert_eq!(dealt.iter().sum::<usize>(), iterations);
                            prop_assert!(dealt.iter().max().unwrap() - dealt.iter().min().unwrap() <= 1);
                        }
                        Load::Concurrent { .. } | Load::Open { .. } => prop_assert_eq!(works.len(), 1),
                    }
                }
            }
        }
    }
}
