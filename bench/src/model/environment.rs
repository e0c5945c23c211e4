//! The client's machine, system, program and command line.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The client's machine and program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// CPU model, or `unknown`.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
    /// Operating system and kernel.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Load average over the minute before the run, where known.
    pub load_average: Option<f64>,
    /// How the kernel chooses the CPUs' clocks, e.g. `performance`, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Whether CPUs may exceed their nominal clock, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turbo: Option<bool>,
    /// NVIDIA GPUs of this machine. (The server's own are in its metrics, where it has any.)
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Version of their driver.
    #[serde(default)]
    pub gpu_driver: Option<String>,
    /// Version of quintet-bench.
    pub version: String,
    /// The commit that it was built from, where known.
    #[serde(default)]
    pub commit: Option<String>,
    /// Versions of the libraries that send and measure.
    #[serde(default)]
    pub libraries: BTreeMap<String, String>,
    /// Whether the program was built with optimisation.
    pub optimised: bool,
    /// The command line.
    pub command_line: Vec<String>,
}
