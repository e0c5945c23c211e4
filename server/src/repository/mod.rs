//! Triton's model repository on disk: `<root>/<model>/config.pbtxt`, `<root>/<model>/<version>/model.onnx` or `model.pt`.

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
    source::{ConfigOrigin, ModelSource},
    spec::{SpecDetails, complete},
    text_format::{Position, SyntaxError},
};
