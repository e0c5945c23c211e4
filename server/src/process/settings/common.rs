//! Settings that the suite and Triton mode share.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{
    access::{Access, AccessFlags},
    boolean::boolean,
    ep_library::EpLibrary,
    gpu_fault::OnGpuFault,
    guard::{GuardFlags, GuardSettings},
    images::{ImageFlags, Images},
    intra_op_spin::IntraOpSpin,
    memory::{Memory, MemoryFlags},
    object_stores::{ObjectStoreFlags, ObjectStores},
};
use crate::{
    backend::onnx::ProviderPolicy,
    kserve::shared_memory::{self, SharedMemory},
    transport::listener::ConnectionLimits,
};

settings! {
    CommonFlags {
        /// Who may do what.
        #[command(flatten)]
        #[serde(flatten)]
        pub access: AccessFlags,
        /// Limits of a connection.
        #[command(flatten)]
        #[serde(flatten)]
        pub guard: GuardFlags,
        /// Limits of memory.
        #[command(flatten)]
        #[serde(flatten)]
        pub memory: MemoryFlags,
        /// Limits of images.
        #[command(flatten)]
        #[serde(flatten)]
        pub images: ImageFlags,
        /// Model repositories in object stores.
        #[command(flatten)]
        #[serde(flatten)]
        pub object_stores: ObjectStoreFlags,
    }
    Common {
        /// Who may do what.
        #[serde(flatten)]
        pub access: Access,
        /// Limits of a connection.
        #[serde(flatten)]
        pub guard: GuardSettings,
        /// Limits of memory.
        #[serde(flatten)]
        pub memory: Memory,
        /// Limits of images.
        #[serde(flatten)]
        pub images: Images,
        /// Model repositories in object stores.
        #[serde(flatten)]
        pub object_stores: ObjectStores,
    }
    defaults { access: Access::default(), guard: GuardSettings::default(), memory: Memory::default(), images: Images::default(), object_stores: ObjectStores::default(), }
    /// Let clients on this machine pass tensors in shared memory; only allow trusted clients, which can crash the server by shrinking a region [default: false]
    #[arg(value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    allow_client_shm: bool = false, "QUINTET_ALLOW_CLIENT_SHM";
    /// Maximum number of shared-memory regions registered with a service: each is a mapping, of which a process has a limited number [default: 1024]
    #[arg(value_name = "N", help_heading = "Limits")]
    shared_memory_max_regions: usize = 1024, "QUINTET_SHARED_MEMORY_MAX_REGIONS";
    /// Maximum total bytes of the shared-memory regions of a service, which count as its address space [default: 17179869184, 16 GiB]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    shared_memory_max_bytes: u64 = 16 << 30, "QUINTET_SHARED_MEMORY_MAX_BYTES";
    /// What to do if a model's first provider does not work (in Triton mode: a GPU that its configuration names): use the next one, or refuse to load the model [default: fallback]
    #[arg(value_enum, value_name = "POLICY")]
    provider_policy: ProviderPolicy = ProviderPolicy::Fallback, "QUINTET_PROVIDER_POLICY";
    /// What to do when a GPU fails so that only a new process can use it again (an illegal address, an ECC error, a lost device): end the process, so that whatever supervises it starts it again, or go on, not ready, with the models that run elsewhere [default: exit]
    #[arg(value_enum, value_name = "ACTION")]
    gpu_fault: OnGpuFault = OnGpuFault::Exit, "QUINTET_GPU_FAULT";
    /// Library with an execution provider (an ONNX Runtime plug-in), loaded as code when the server starts; the providers tensorrt-rtx and openvino need theirs under these names; may be repeated, separated by commas in the variable [default: tensorrt-rtx from the folder tensorrt-rtx beside ONNX Runtime's library, if it is there]
    #[arg(value_name = "NAME=PATH", value_delimiter = ',')]
    ep_library: Vec<EpLibrary> = Vec::new(), "QUINTET_EP_LIBRARY";
    /// Folder that caches what providers compile, such as TensorRT engines, which take minutes to build; it has one subfolder for each model, device and ONNX Runtime version [default: .quintet/engines; in Triton mode only as a model's configuration says]
    #[arg(value_name = "DIR")]
    engine_cache: PathBuf = ".quintet/engines".into(), "QUINTET_ENGINE_CACHE";
    /// The ONNX Runtime library, or the folder that holds it [default: ORT_DYLIB_PATH, next to the program, or .quintet/onnxruntime]
    #[arg(value_name = "PATH")]
    onnxruntime: PathBuf = PathBuf::new(), "QUINTET_ONNXRUNTIME";
    /// Threads for one operator, for models that do not set their own number; all services share them [default: 0, one for each core]
    #[arg(value_name = "N")]
    intra_op_threads: usize = 0, "QUINTET_INTRA_OP_THREADS";
    /// Whether ONNX Runtime's threads spin between the operators of a run: they start the next one sooner, but occupy cores meanwhile; between runs they never do; auto: if there is a core for each of --intra-op-threads [default: auto]
    #[arg(value_enum, value_name = "WHEN")]
    intra_op_spin: IntraOpSpin = IntraOpSpin::Auto, "QUINTET_INTRA_OP_SPIN";
    /// Seconds without a request after which a model closes its file and gives back its memory, also that of a GPU; it stays ready, and the next request waits until the file is open again; 0 keeps it open [default: 0]
    #[arg(value_name = "SECONDS", visible_alias = "idle-unload")]
    idle_unload_secs: u64 = 0, "QUINTET_IDLE_UNLOAD_SECS";
    /// Maximum number of connections of one listener; at the limit the one that has been idle the longest makes room, and while all are busy only health and metrics are answered, on 16 more [default: 1024]
    #[arg(value_name = "N", help_heading = "Limits")]
    max_connections: usize = 1024, "QUINTET_MAX_CONNECTIONS";
    /// Bytes of idle buffers that a service keeps for later requests, which are faster with them; those that are not used for a minute are given back [default: 268435456, 256 MiB]
    #[arg(value_name = "BYTES", help_heading = "Limits")]
    buffer_pool_bytes: usize = 256 << 20, "QUINTET_BUFFER_POOL_BYTES";
    /// Seconds that accepted requests may take to finish after SIGTERM or SIGINT, so that the process ends [default: 30]
    #[arg(value_name = "SECONDS", help_heading = "Limits")]
    exit_timeout_secs: u64 = 30, "QUINTET_EXIT_TIMEOUT_SECS";
    /// Seconds between the end of readiness after SIGTERM or SIGINT and the end of the listeners, so that load balancers stop sending requests first; they need none where something else waits, such as preStop in Kubernetes [default: 0]
    #[arg(value_name = "SECONDS")]
    exit_delay_secs: u64 = 0, "QUINTET_EXIT_DELAY_SECS";
    /// Write the ports of the listeners to this JSON file when the server is ready; useful with port 0 [default: not written]
    #[arg(value_name = "FILE")]
    ports_file: PathBuf = PathBuf::new(), "QUINTET_PORTS_FILE";
}

impl CommonFlags {
    /// The effective settings: these flags over the defaults.
    ///
    /// # Errors
    /// When a flag does not have the form of its setting.
    pub fn resolve(&self) -> anyhow::Result<Common> {
        let given = toml::Table::try_from(self).context("cannot read the flags")?;
        let common: Common = given.try_into().context("wrong flags")?;
        common.images.check()?;
        Ok(common)
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

    /// The limits of a listener's connections.
    pub fn connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            max: self.max_connections,
            timeouts: self.guard.timeouts(),
            max_age: None,
            tcp: self.guard.tcp(),
        }
    }

    /// How long an instance may be without a request before it closes its model file.
    pub fn idle_unload(&self) -> Option<Duration> {
        (self.idle_unload_secs > 0).then(|| Duration::from_secs(self.idle_unload_secs))
    }

    /// How long the listeners stay open after a signal.
    pub fn exit_delay(&self) -> Duration {
        Duration::from_secs(self.exit_delay_secs)
    }

    /// How long accepted requests may take to finish after a signal.
    pub fn exit_timeout(&self) -> Duration {
        Duration::from_secs(self.exit_timeout_secs)
    }
}
