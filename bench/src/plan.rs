//! From settings to a plan: which lane does what, in which order. Pure.
//!
//! Lanes are interleaved in blocks whose order is drawn anew each time (seeded), so that a machine
//! that slows down, or a cache that warms up, hits all lanes alike.

use std::time::Duration;

use quintet_proto::lanes::Lane;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

/// How a lane is loaded in one cell of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Load {
    /// One worker, one request after the other.
    Serial {
        /// Images in a request.
        batch: usize,
    },
    /// Several workers, each with one request in flight (closed loop).
    Concurrent {
        /// Workers.
        concurrency: usize,
        /// Images in a request.
        batch: usize,
    },
}

impl Load {
    /// Images in a request.
    pub fn batch(self) -> usize {
        match self {
            Self::Serial { batch } | Self::Concurrent { batch, .. } => batch,
        }
    }

    /// Workers, that is, connections.
    pub fn workers(self) -> usize {
        match self {
            Self::Serial { .. } => 1,
            Self::Concurrent { concurrency, .. } => concurrency,
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial { batch } => write!(f, "serial b={batch}"),
            Self::Concurrent { concurrency, .. } => write!(f, "concurrent c={concurrency}"),
        }
    }
}

/// What a turn consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests that are not measured.
    WarmUp(usize),
    /// A block of measured requests, one after the other.
    Block(usize),
    /// A timed window behind a ramp.
    Window {
        /// Load before the window opens.
        ramp: Duration,
        /// The window's length.
        length: Duration,
    },
}

/// One lane at work on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The lane.
    pub lane: Lane,
    /// What it does.
    pub work: Work,
}

/// All lanes under one load: their cells are complete when the stage is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The load.
    pub load: Load,
    /// The turns, in order.
    pub turns: Vec<Turn>,
}

/// The whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// What a lane has ahead of it: for progress and `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Requests sent one after the other, warm-up included.
    pub requests: usize,
    /// Images in those.
    pub images: usize,
    /// Time in concurrent windows, ramps included.
    pub windows: Duration,
}

impl Effort {
    /// What one turn takes.
    pub fn of(turn: Turn, load: Load) -> Self {
        match turn.work {
            Work::WarmUp(n) | Work::Block(n) => Self { requests: n, images: n * load.batch(), windows: Duration::ZERO },
            Work::Window { ramp, length } => Self { windows: ramp + length, ..Self::default() },
        }
    }

    /// How long it takes when one image takes `image`.
    pub fn at(self, image: Duration) -> Duration {
        self.windows + image.mul_f64(self.images as f64)
    }
}

impl std::ops::AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.images += other.images;
        self.windows += other.windows;
    }
}

impl Plan {
    /// Plans a run of `lanes`.
    pub fn new(settings: &Settings, lanes: &[Lane]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut order = lanes.to_vec();
        let mut round = |work: Work| -> Vec<Turn> {
            order.shuffle(&mut rng);
            order.iter().map(|&lane| Turn { lane, work }).collect()
        };
        let serial = settings.batches.iter().map(|&batch| {
            let blocks = deal(settings.iterations, settings.blocks);
            let works = std::iter::once(Work::WarmUp(settings.warmup)).chain(blocks.into_iter().map(Work::Block));
            (Load::Serial { batch }, works.collect::<Vec<_>>())
        });
        let window = Work::Window { ramp: settings.ramp, length: settings.duration };
        let concurrent =
            settings.concurrency.iter().map(|&concurrency| (Load::Concurrent { concurrency, batch: 1 }, vec![window]));
        let stages = serial
            .chain(concurrent)
            .map(|(load, works)| Stage { load, turns: works.into_iter().flat_map(&mut round).collect() })
            .collect();
        Self { stages }
    }

    /// What lies ahead of one lane.
    pub fn effort(&self, lane: Lane) -> Effort {
        let mut effort = Effort::default();
        for stage in &self.stages {
            for turn in stage.turns.iter().filter(|turn| turn.lane == lane) {
                effort += Effort::of(*turn, stage.load);
            }
        }
        effort
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Limits, Preset};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn settings(iterations: usize, blocks: usize, seed: u64) -> Settings {
        Settings {
            preset: Preset::Quick,
            model: "resnet18".into(),
            batches: vec![1, 4],
            concurrency: vec![8],
            iterations,
            warmup: 2,
            blocks,
            duration: Duration::from_secs(4),
            ramp: Duration::from_secs(1),
            seed,
            hypotheses: Vec::new(),
            limits: Limits::default(),
            link: None,
        }
    }

    #[test]
    fn effort_counts_warm_up_and_windows() {
        let effort = Plan::new(&settings(10, 3, 1), &Lane::ALL).effort(Lane::TrtGrpc);
        assert_eq!(effort, Effort { requests: 24, images: 12 + 48, windows: Duration::from_secs(5) });
        assert_eq!(effort.at(Duration::from_millis(100)), Duration::from_secs(11));
    }

    #[test]
    fn order_varies_within_a_run_and_repeats_with_the_seed() {
        let plan = Plan::new(&settings(30, 5, 1), &Lane::ALL);
        let rounds: HashSet<Vec<Lane>> =
            plan.stages[0].turns.chunks(5).map(|round| round.iter().map(|turn| turn.lane).collect()).collect();
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
                    let works: Vec<Work> = stage.turns.iter().filter(|t| t.lane == lane).map(|t| t.work).collect();
                    match stage.load {
                        Load::Serial { .. } => {
                            prop_assert_eq!(works[0], Work::WarmUp(2), "warm-up comes first");
                            let dealt: Vec<usize> = works[1..]
                                .iter()
                                .map(|work| if let Work::Block(n) = work { *n } else { 0 })
                                .collect();
                            prop_assert_eq!(dealt.iter().sum::<usize>(), iterations);
                            prop_assert!(dealt.iter().max().unwrap() - dealt.iter().min().unwrap() <= 1);
                        }
                        Load::Concurrent { .. } => prop_assert_eq!(works.len(), 1),
                    }
                }
            }
        }
    }
}
