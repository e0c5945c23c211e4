//! Loading a model in three stages: plan (what its configuration asks for), open (the model file), start (its
//! instances, warmed up). Built-in backends and ensembles take the same stages.

mod builtin;
mod file_plan;
mod load;
mod model_file;
mod options;
mod placement;
mod plan;
mod start;

pub use self::options::Loader;
