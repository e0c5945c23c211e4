//! Flags of `run` alone: loads, batch sizes, iterations, warm-up, hypotheses.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::numbers::{MAX_BATCH, MAX_CONCURRENCY, counts},
    model::{
        arrivals::{Arrivals, LoadSpec, Rate},
        duration::parse_duration,
        hypothesis::Hypothesis,
        settings::{MOST_WARMUP_GROUPS, Settings},
        until_decided::{MARGIN, UntilDecided},
    },
};

/// Sizes of a run and claims to test.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Batch sizes of the serial part; give none to skip it [1,4,8,16,32, as far as the model takes them].
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', help_heading = "Load", value_parser = counts(MAX_BATCH),
          num_args = 0..)]
    pub batches: Option<Vec<u16>>,
    /// Numbers of workers of the concurrent part, each with one request in flight; give none to skip it.
    #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,16", help_heading = "Load",
          value_parser = counts(MAX_CONCURRENCY), num_args = 0..)]
    pub concurrency: Vec<u16>,
    /// Images in each request of the concurrent part and of open loops; each size is measured.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", help_heading = "Load",
          value_parser = counts(MAX_BATCH))]
    pub concurrent_batches: Vec<u16>,
    /// Count goodput: the answers within this time, per second, beside the throughput of each concurrent load and open
    /// loop. With --scenario server, the bound on p99 [server: 15ms, MLPerf's for ResNet-50].
    #[arg(long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration)]
    pub bound: Option<Duration>,
    /// Measured requests for each lane and batch size [quick: 16, seed: 30].
    #[arg(short = 'n', long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iterations: Option<u32>,
    /// Kind of load; repeatable. closed: the serial and the concurrent part. An open loop sends requests at set times
    /// without waiting for responses: constant:RATE, poisson:RATE (requests per second), steps:RATE,RATE,... or
    /// replay:FILE (one send time in seconds per line) [default: closed, unless there is a --rate].
    #[arg(long, value_name = "LOAD", help_heading = "Load")]
    pub load: Vec<LoadSpec>,
    /// Requests per second, without waiting for responses; repeatable. Short for --load constant:RATE.
    #[arg(short = 'q', long, value_name = "RATE", help_heading = "Load")]
    pub rate: Vec<Rate>,
    /// Minimum number of warm-up requests for each lane and batch size [quick: 2, seed: 5]. Warm-up continues until the
    /// medians of three successive groups of this size differ by at most 10 %.
    #[arg(short, long, value_name = "N", help_heading = "Load", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
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
    /// Go on until every claim is decided, or for at most this time [10m].
    ///
    /// Claims are those of --hypothesis, or else the study's H1 to H4. Only loads and lanes that an open claim is about are
    /// measured. A claim is supported, refuted, or equivalent (see --margin). --iterations, --duration and --blocks give the
    /// size of a block. The intervals hold at every block at once, so looking after each one does not add false verdicts.
    #[arg(long, value_name = "MAX", help_heading = "Load", value_parser = parse_duration, num_args = 0..=1,
          require_equals = true, default_missing_value = "10m")]
    pub until_decided: Option<Duration>,
    /// With --until-decided: the two sides of a claim with < or > are equivalent if they are within this share of each
    /// other [2%].
    #[arg(long, value_name = "PERCENT", help_heading = "Load", value_parser = percent, requires = "until_decided")]
    pub margin: Option<f64>,
}

/// Parses a percentage, such as `2%` or `0.5`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    number
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("`{text}` is not a percentage above 0 and up to 100; write 2%"))
}

impl PlanArgs {
    /// The settings of the preset, overridden by these flags.
    pub fn apply(&self, preset: Settings) -> Settings {
        let or = |given: Option<u32>, preset: usize| given.map_or(preset, |n| n as usize);
        let warmup = or(self.warmup, preset.warmup);
        Settings {
            batches: self.batches.as_deref().map_or(preset.batches, distinct),
            concurrency: distinct(&self.concurrency),
            concurrent_batches: distinct(&self.concurrent_batches),
            bound_ms: self.bound.map(|bound| bound.as_secs_f64() * 1e3),
            iterations: or(self.iterations, preset.iterations),
            warmup,
            max_warmup: or(self.max_warmup, MOST_WARMUP_GROUPS * warmup),
            blocks: or(self.blocks, preset.blocks),
            hypotheses: self.hypothesis.clone(),
            loads: self.loads(),
            until_decided: self.until_decided.map(|most| UntilDecided { most, margin: self.margin.unwrap_or(MARGIN) }),
            ..preset
        }
    }

    /// The loads in the order given, those of `--rate` last.
    fn loads(&self) -> Vec<LoadSpec> {
        let constant = |rate: &Rate| LoadSpec::Open { arrivals: Arrivals::Constant, rates: vec![*rate] };
        let loads: Vec<_> = self.load.iter().cloned().chain(self.rate.iter().map(constant)).collect();
        if loads.is_empty() { vec![LoadSpec::Closed] } else { loads }
    }
}

fn distinct(counts: &[u16]) -> Vec<usize> {
    let mut counts: Vec<usize> = counts.iter().map(|&n| n.into()).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}
