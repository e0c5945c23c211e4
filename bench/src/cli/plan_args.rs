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

/// Sizes of a run, and its claims.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Batch sizes of the serial part; empty to leave it out.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,4,8,16,32", help_heading = "Load",
          value_parser = counts(MAX_BATCH), num_args = 0..)]
    pub batches: Vec<u16>,
    /// Workers of the concurrent part, one image in flight each; empty to leave it out.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,16", help_heading = "Load",
          value_parser = counts(MAX_CONCURRENCY), num_args = 0..)]
    pub concurrency: Vec<u16>,
    /// Measured requests for each lane and batch size [quick: 16, seed: 30].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: Option<u32>,
    /// Load of the lanes; repeatable. closed: the serial and the concurrent part. Open loops send at their own
    /// times, one image each: constant:RATE, poisson:RATE (per second), steps:RATE,RATE,..., replay:FILE (a time in
    /// seconds on each line).
    #[arg(long, value_name = "LOAD", default_value = "closed", help_heading = "Load")]
    pub load: Vec<LoadSpec>,
    /// Requests before each lane and batch size are measured, at least [quick: 2, seed: 5]. They go on until the
    /// medians of two such groups in a row are within 10 %.
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warmup: Option<u32>,
    /// Most requests before each lane and batch size are measured [five times --warmup].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_warmup: Option<u32>,
    /// Blocks that the iterations are dealt into; lanes take turns block by block [quick: 8, seed: 10].
    #[arg(long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub blocks: Option<u32>,
    /// A claim to judge, e.g. 'p50(onnx-http) < p50(onnx-grpc) @ batch=1'; repeatable. With <, > or ~ 5%; of p50,
    /// mean, p95, p99, throughput or a part of the latency (infer, queue, network, ...); @ batch=N or concurrency=N.
    #[arg(long, value_name = "CLAIM", help_heading = "Load")]
    pub hypothesis: Vec<Hypothesis>,
}

impl PlanArgs {
    /// The settings of the preset, with what these flags override.
    pub fn apply(&self, preset: Settings) -> Settings {
        let or = |given: Option<u32>, preset: usize| given.map_or(preset, |n| n as usize);
        let warmup = or(self.warmup, preset.warmup);
        Settings {
            batches: distinct(&self.batches),
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
