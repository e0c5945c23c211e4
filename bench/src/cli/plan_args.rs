//! Flags of `run` alone: loads, batch sizes, iterations, warm-up, hypotheses.

use clap::Args;

use crate::{
    cli::numbers::{MAX_BATCH, MAX_CONCURRENCY, counts},
    model::{
        arrivals::LoadSpec,
        hypothesis::Hypothesis,
        settings::{MOST_WARMUP_GROUPS, Settings},
    },
};

/// Sizes of a run and claims to test.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Batch sizes of the serial part; give none to skip it [1,4,8,16,32, as far as the model takes them].
    #[arg(long, value_name = "N,...", value_delimiter = ',', help_heading = "Load", value_parser = counts(MAX_BATCH),
          num_args = 0..)]
    pub batches: Option<Vec<u16>>,
    /// Numbers of workers of the concurrent part, each with one image in flight; give none to skip it.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,16", help_heading = "Load",
          value_parser = counts(MAX_CONCURRENCY), num_args = 0..)]
    pub concurrency: Vec<u16>,
    /// Measured requests for each lane and batch size [quick: 16, seed: 30].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: Option<u32>,
    /// Kind of load; repeatable. closed: the serial and the concurrent part. An open loop sends single images at set times
    /// without waiting for responses: constant:RATE, poisson:RATE (requests per second), steps:RATE,RATE,... or
    /// replay:FILE (one send time in seconds per line).
    #[arg(long, value_name = "LOAD", default_value = "closed", help_heading = "Load")]
    pub load: Vec<LoadSpec>,
    /// Minimum number of warm-up requests for each lane and batch size [quick: 2, seed: 5]. Warm-up continues until the
    /// medians of three successive groups of this size differ by at most 10 %.
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warmup: Option<u32>,
    /// Maximum number of warm-up requests for each lane and batch size [five times --warmup].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_warmup: Option<u32>,
    /// Number of blocks to divide the iterations and the duration into; lanes take turns block by block [quick: 8, seed: 10].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub blocks: Option<u32>,
    /// Claim to test, e.g. 'p50(onnx-http) < p50(onnx-grpc) @ batch=1'; repeatable.
    ///
    /// Compares p50, mean, p95, p99, throughput or a part of the latency (infer, queue, network, ...) by <, > or ~ 5%
    /// (equal within 5 %), at @ batch=N or @ concurrency=N.
    #[arg(long, value_name = "CLAIM", help_heading = "Load")]
    pub hypothesis: Vec<Hypothesis>,
}

impl PlanArgs {
    /// The settings of the preset, overridden by these flags.
    pub fn apply(&self, preset: Settings) -> Settings {
        let or = |given: Option<u32>, preset: usize| given.map_or(preset, |n| n as usize);
        let warmup = or(self.warmup, preset.warmup);
        Settings {
            batches: self.batches.as_deref().map_or(preset.batches, distinct),
            concurrency: distinct(&self.concurrency),
            iterations: or(self.iterations, preset.iterations),
            warmup,
            max_warmup: or(self.max_warmup, MOST_WARMUP_GROUPS * warmup),
            blocks: or(self.blocks, preset.blocks),
            hypotheses: self.hypothesis.clone(),
            loads: self.load.clone(),
            ..preset
        }
    }
}

fn distinct(counts: &[u16]) -> Vec<usize> {
    let mut counts: Vec<usize> = counts.iter().map(|&n| n.into()).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}
