//! What ran a lane's model, and the state of its GPUs and of the client's machine while a block was measured.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The setting of the CUDA provider for how it chooses cuDNN's convolutions.
pub const CONVOLUTION_SEARCH: &str = "cudnn_conv_algo_search";

/// What runs a lane's model, as far as its server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// The GPUs: that of the model, or all of the server if it does not say which one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Versions of the software by name: server, `onnxruntime`, `cuda`, `tensorrt`, `nvidia-driver`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub software: BTreeMap<String, String>,
    /// The commit that the server was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// CPU threads that run one operator together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The model's platform or backend, e.g. `onnxruntime_onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Instances by the model's configuration, with accelerators, e.g. `2 × KIND_GPU, tensorrt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<String>,
    /// What the model's configuration says of speed, by name, e.g. `instances` or `tensorrt: precision_mode`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The state of a GPU when a block ended, still under load in a concurrent window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuState {
    /// Its UUID or number.
    pub gpu: String,
    /// Share of time in which a kernel ran, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
    /// Memory in use by all processes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<f64>,
    /// Clock of the multiprocessors, in MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<f64>,
    /// Power, in watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
    /// Temperature, in °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_celsius: Option<f64>,
    /// Reasons for which the clocks were lowered, e.g. `thermal`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttled_by: Vec<String>,
}

/// The state of the machines in a block, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockMachines {
    /// The server's GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuState>,
    /// Share of CPU time that the client's hypervisor gave to other guests, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_steal: Option<f64>,
}

impl BlockMachines {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
