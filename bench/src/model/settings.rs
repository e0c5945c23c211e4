//! The settings of a run, with presets and defaults.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    arrivals::LoadSpec,
    connection::Policy,
    data::{Data, InputShape},
    duration::seconds,
    encoding::Encoding,
    hypothesis::Hypothesis,
    limits::Limits,
    link::LinkSpec,
    transport::Transport,
    until_decided::UntilDecided,
};

/// Ready-made sizes of a run; single flags override them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Five lanes within five minutes on two CPU cores with a ResNet-18.
    Quick,
    /// The study's size: 30 iterations for each batch size, windows for well over 60 requests.
    ///
    /// Both presets use many blocks, because differences are paired by block and few blocks give wide intervals.
    Seed,
}

impl Preset {
    /// `(iterations, warmup, blocks, duration)` of the preset.
    pub fn sizes(self) -> (usize, usize, usize, Duration) {
        match self {
            Self::Quick => (16, 2, 8, Duration::from_secs(4)),
            Self::Seed => (30, 5, 10, Duration::from_secs(15)),
        }
    }
}

/// Everything that decides what a run measures; written into its report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// The preset that the rest started from.
    pub preset: Preset,
    /// The model.
    pub model: String,
    /// Batch sizes of the serial part, in images.
    pub batches: Vec<usize>,
    /// Numbers of workers of the concurrent part; each has one request in flight.
    pub concurrency: Vec<usize>,
    /// Images in each request of the concurrent part and of open loops; each size is measured.
    #[serde(default = "single_images")]
    pub concurrent_batches: Vec<usize>,
    /// Longest latency of an answer that counts as goodput, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_ms: Option<f64>,
    /// Measured requests for each lane and batch size.
    pub iterations: usize,
    /// Fewest warm-up requests for each lane before each batch size is measured.
    pub warmup: usize,
    /// Most warm-up requests: warm-up continues until latency is steady (the medians of three groups in a row within
    /// 10 %) or this number is reached.
    #[serde(default)]
    pub max_warmup: usize,
    /// Blocks that the iterations and the duration are divided into; lanes alternate block by block.
    pub blocks: usize,
    /// Length of a load's windows, concurrent or of an open loop.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub duration: Duration,
    /// Load before the first window opens; the later windows share the same time. Not measured.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub ramp: Duration,
    /// Seed of the lanes' order, of random schedules and of the bootstrap.
    pub seed: u64,
    /// Claims that the report judges.
    #[serde(default)]
    pub hypotheses: Vec<Hypothesis>,
    /// The loads.
    #[serde(default = "closed")]
    pub loads: Vec<LoadSpec>,
    /// Connection policies; each is measured.
    #[serde(default = "reused")]
    pub connections: Vec<Policy>,
    /// Forms of the images; each lane is measured with those that it can carry. Empty: its default.
    #[serde(default)]
    pub payloads: Vec<Encoding>,
    /// What is sent.
    #[serde(default)]
    pub data: Data,
    /// Lengths of dynamic dimensions, if no photographs are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shapes: Vec<InputShape>,
    /// Transports of the tensors; each lane is measured with those that it can use. Empty: TCP.
    #[serde(default)]
    pub transports: Vec<Transport>,
    /// Folder of the lanes' Unix domain sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uds_dir: Option<PathBuf>,
    /// Limits on every exchange.
    pub limits: Limits,
    /// Whether blocks go on until the claims are decided; `iterations`, `duration` and `blocks` then give the size of a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_decided: Option<UntilDecided>,
    /// The link emulated between client and lanes, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkSpec>,
}

fn closed() -> Vec<LoadSpec> {
    vec![LoadSpec::Closed]
}

fn single_images() -> Vec<usize> {
    vec![1]
}

fn reused() -> Vec<Policy> {
    vec![Policy::Reused]
}

/// The quick preset.
impl Default for Settings {
    fn default() -> Self {
        let preset = Preset::Quick;
        let (iterations, warmup, blocks, duration) = preset.sizes();
        Self {
            preset,
            model: "resnet50".into(),
            batches: vec![1, 4, 8, 16, 32],
            concurrency: vec![1, 8, 16],
            concurrent_batches: single_images(),
            bound_ms: None,
            iterations,
            warmup,
            max_warmup: MOST_WARMUP_GROUPS * warmup,
            blocks,
            duration,
            ramp: Duration::from_secs(1),
            seed: 1,
            loads: closed(),
            connections: reused(),
            payloads: Vec::new(),
            data: Data::Photos,
            shapes: Vec::new(),
            transports: Vec::new(),
            uds_dir: None,
            hypotheses: Vec::new(),
            limits: Limits::default(),
            until_decided: None,
            link: None,
        }
    }
}

/// The default of `--max-warmup`, as a multiple of `--warmup`.
pub const MOST_WARMUP_GROUPS: usize = 5;
