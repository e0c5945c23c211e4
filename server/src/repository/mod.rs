//! Triton's model repository on disk, or in an object store with a copy on disk: `<root>/<model>/config.pbtxt`, `<root>/<model>/<version>/model.onnx` or `model.pt`.

mod accelerators;
mod backend;
mod batching;
mod config;
mod control;
mod defaults;
mod error;
mod fields;
mod fingerprint;
mod folders;
mod index;
mod loader;
mod overrides;
mod remote;
mod source;
mod spec;
mod tensors;
mod text_format;
mod tuning;
mod warmup;
mod wire;

pub use self::{
    config::{from_json as config_from_json, parse as parse_config, to_json as config_to_json},
    control::{Mode, Options, Repository, not_controlled},
    defaults::AUTO_COMPLETE_MAX_BATCH_SIZE,
    error::{ConfigError, RepositoryError},
    folders::{ModelFolders, find, find_in, model_folders, model_names},
    index::{IndexEntry, index_of},
    loader::Loader,
    overrides::{FILE_PREFIX, Overrides},
    remote::{Copied, CopyOptions, RemoteError, Roots},
    source::{ConfigOrigin, ModelSource},
    spec::{SpecDetails, complete},
    text_format::{Position, SyntaxError},
};
