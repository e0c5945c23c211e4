//! Loading a model in three stages: plan (from its configuration), open (the model file), start (and warm its
//! instances). Built-in backends and ensembles have the same stages.

mod builtin;
mod file_plan;
mod load;
mod model_file;
mod options;
mod placement;
mod plan;
mod start;

pub use self::options::Loader;
