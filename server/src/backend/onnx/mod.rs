//! The ONNX Runtime backend: sessions on the first provider that works, and their runs.

mod bound;
mod commit;
mod content;
mod engine_cache;
mod graphs;
mod handle;
mod idle_memory;
mod instance;
mod loaded;
mod opened;
mod option_table;
mod options;
mod outputs;
mod pinned;
mod plugin;
mod profile;
mod provider;
mod run_options;
mod session;
mod shared;
mod tensorrt;
mod tuning;
mod values;
mod versions;

pub use engine_cache::EngineCache;
pub use idle_memory::{release_idle, release_now};
pub use loaded::{LoadError, LoadOptions, LoadedSession};
pub use option_table::{OptionError, touches_files};
pub use options::{Accelerator, ProviderOptions};
pub use pinned::pinned;
pub use profile::Profile;
pub use provider::{Plugin, Provider, ProviderPolicy};
pub use session::load;
pub use tuning::{GraphLevel, Tuning};
