//! What one run is asked to do: presets, limits, and their defaults.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::claims::Hypothesis,
    client::Policy,
    link::LinkSpec,
    model::{arrivals::LoadSpec, encoding::Encoding, transport::Transport},
};

/// Ready-made sizes of a run; single flags override them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Five lanes within five minutes on two CPU cores with a ResNet-18.
    Quick,
    /// The study's: 30 iterations for each batch size, windows for well over 60 requests.
    ///
    /// Both deal them into many blocks: differences are paired by block, and few blocks make wide intervals.
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
    /// Model asked for.
    pub model: String,
    /// Batch sizes of the serial part, in images.
    pub batches: Vec<usize>,
    /// Numbers of workers of the concurrent part; each sends one image at a time.
    pub concurrency: Vec<usize>,
    /// Measured requests for each lane and batch size.
    pub iterations: usize,
    /// Requests before each batch size's measurement, for each lane, at least.
    pub warmup: usize,
    /// Most of them: warm-up goes on until it is steady (the medians of two groups in a row within 10 %), or up to here.
    #[serde(default)]
    pub max_warmup: usize,
    /// Blocks that the iterations are dealt into; lanes alternate block by block.
    pub blocks: usize,
    /// Length of a concurrent window.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub duration: Duration,
    /// Load before a concurrent window opens; not measured.
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
    /// Whose connections requests go out on; each is measured.
    #[serde(default = "reused")]
    pub connections: Vec<Policy>,
    /// In which forms images are sent; each lane is measured with those it can carry. Empty: its usual one.
    #[serde(default)]
    pub payloads: Vec<Encoding>,
    /// On which ways tensors reach the server; each lane is measured with those it can use. None: TCP.
    #[serde(default)]
    pub transports: Vec<Transport>,
    /// Folder of the lanes' Unix domain sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uds_dir: Option<PathBuf>,
    /// Limits on every exchange.
    pub limits: Limits,
    /// The link emulated between client and lanes, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkSpec>,
}

/// Limits of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Longest time to open a connection.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub connect_timeout: Duration,
    /// Longest time for one request, from send to the last byte of the answer.
    #[serde(with = "seconds")]
    #[schemars(with = "f64")]
    pub request_timeout: Duration,
    /// Largest answer that is read, in bytes.
    pub max_response_bytes: usize,
    /// Most requests that one concurrent window sends; the window ends early there.
    pub max_window_requests: usize,
    /// Most requests in flight, and so connections, in an open loop; further ones wait, which counts.
    #[serde(default = "max_in_flight")]
    pub max_in_flight: usize,
}

fn closed() -> Vec<LoadSpec> {
    vec![LoadSpec::Closed]
}

fn reused() -> Vec<Policy> {
    vec![Policy::Reused]
}

fn max_in_flight() -> usize {
    256
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
            transports: Vec::new(),
            uds_dir: None,
            hypotheses: Vec::new(),
            limits: Limits::default(),
            link: None,
        }
    }
}

/// Warm-up goes on in groups of its least number of requests, at most so many of them unless told otherwise.
pub const MOST_WARMUP_GROUPS: usize = 5;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            max_response_bytes: 64 << 20,
            max_window_requests: 1_000_000,
            max_in_flight: max_in_flight(),
        }
    }
}

/// Reads a duration as people write it: `500ms`, `10s`, `1.5s`, `2m`.
///
/// # Errors
/// A message with the accepted forms.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("`{text}` is not a duration; write 500ms, 10s or 2m")),
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value * scale).ok())
        .filter(|duration| *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| format!("`{text}` is not a duration of at most a day; write 500ms, 10s or 2m"))
}

/// Serde form of a duration: seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        let read = |text| parse_duration(text).unwrap().as_millis();
        assert_eq!([read("500ms"), read("10s"), read("1.5s"), read("2m")], [500, 10_000, 1_500, 120_000]);
        for bad in ["", "10", "-1s", "s", "1h", "2d", "nan s", "infs", "99999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
