//! Settings that the suite and Triton's place have in common.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use crate::{
    backend::onnx::ProviderPolicy,
    kserve::shared_memory::{self, SharedMemory},
};

settings! {
    CommonFlags {}
    Common {}
    defaults {}
    /// Let clients on this machine send tensors through shared memory; trust them: they can end the server [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    allow_client_shm: bool = false, "QUINTET_ALLOW_CLIENT_SHM";
    /// Regions of shared memory that clients may register with a service [default: 1024]
    #[arg(value_name = "N")]
    shared_memory_max_regions: usize = 1024, "QUINTET_SHARED_MEMORY_MAX_REGIONS";
    /// Bytes of all regions of shared memory of a service together [default: 17179869184, 16 GiB]
    #[arg(value_name = "BYTES")]
    shared_memory_max_bytes: u64 = 16 << 30, "QUINTET_SHARED_MEMORY_MAX_BYTES";
    /// Whether a model falls back to the next of its providers where the first does not work (in Triton's place: a GPU that it asks for by name), or is not loaded [default: fallback]
    #[arg(value_enum)]
    provider_policy: ProviderPolicy = ProviderPolicy::Fallback, "QUINTET_PROVIDER_POLICY";
    /// Folder for TensorRT's engines, which take minutes to build; one inside for each model, GPU and ONNX Runtime [default: .quintet/engines; in Triton's place only what a model's configuration says]
    #[arg(value_name = "DIR")]
    engine_cache: PathBuf = ".quintet/engines".into(), "QUINTET_ENGINE_CACHE";
    /// The ONNX Runtime library, or a folder that holds it [default: ORT_DYLIB_PATH, beside the program, or .quintet/onnxruntime]
    #[arg(value_name = "PATH")]
    onnxruntime: PathBuf = PathBuf::new(), "QUINTET_ONNXRUNTIME";
    /// Threads that work on one operator of models that do not say; all services share them [default: 0, one for each core]
    intra_op_threads: usize = 0, "QUINTET_INTRA_OP_THREADS";
    /// Connections of one listener at most; more wait to be accepted [default: 1024]
    #[arg(value_name = "N")]
    max_connections: usize = 1024, "QUINTET_MAX_CONNECTIONS";
    /// Bytes of unused buffers that a service keeps for later requests [default: 268435456, 256 MiB]
    #[arg(value_name = "BYTES")]
    buffer_pool_bytes: usize = 256 << 20, "QUINTET_BUFFER_POOL_BYTES";
    /// Seconds that accepted requests have to finish after SIGTERM [default: 30]
    #[arg(value_name = "SECONDS")]
    exit_timeout_secs: u64 = 30, "QUINTET_EXIT_TIMEOUT_SECS";
    /// Write the listeners' ports as JSON to this file once ready; for ports given as 0
    #[arg(value_name = "FILE")]
    ports_file: PathBuf = PathBuf::new(), "QUINTET_PORTS_FILE";
}

impl CommonFlags {
    /// The settings in force: these flags over the defaults.
    ///
    /// # Errors
    /// When a flag does not have the form of its setting.
    pub fn resolve(&self) -> anyhow::Result<Common> {
        let given = toml::Table::try_from(self).context("cannot read the flags")?;
        given.try_into().context("wrong flags")
    }
}

impl Common {
    /// The shared memory of a service.
    pub fn shared_memory(&self) -> SharedMemory {
        SharedMemory::new(self.allow_client_shm.then_some(shared_memory::Limits {
            max_regions: self.shared_memory_max_regions,
            max_bytes: self.shared_memory_max_bytes,
        }))
    }

    /// How long accepted requests have to finish after a signal.
    pub fn exit_timeout(&self) -> Duration {
        Duration::from_secs(self.exit_timeout_secs)
    }
}

/// Triton's spellings of yes and no.
///
/// # Errors
/// Which spellings there are.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("use true, false, 1 or 0".into()),
    }
}

/// `count`, or the number of cores where it is 0.
pub fn or_cores(count: usize) -> usize {
    if count > 0 { count } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
