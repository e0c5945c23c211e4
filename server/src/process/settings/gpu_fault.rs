//! What a failed GPU does to the process.

use serde::{Deserialize, Serialize};

/// What to do when a GPU fails so that only a new process can use it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnGpuFault {
    /// End the process with status 3 after the open requests
    Exit,
    /// Go on, alive but not ready, with the models that do not run on a GPU
    Unready,
}
