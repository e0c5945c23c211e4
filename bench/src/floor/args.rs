//! The flags of `quintet-bench floor`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    floor::{payload::Size, target::Target},
    model::duration::parse_duration,
};

/// Flags of `floor`.
#[derive(Clone, Debug, Args)]
pub struct FloorArgs {
    /// Server to measure: a name and one or more addresses; repeatable.
    ///
    /// Addresses are http://HOST:PORT and grpc://HOST:PORT (KServe), http+unix:PATH and grpc+unix:PATH (Unix domain socket),
    /// http+shm://HOST:PORT (tensors in shared memory) and jpeg://HOST:PORT (the jpeg lane).
    #[arg(long, value_name = "NAME=URL,...", required = true)]
    pub target: Vec<Target>,
    /// Name of the model. Its input `x` has FP32 rows of any width; its output `y` has the first elements of each row.
    #[arg(long, value_name = "NAME", default_value = "identity")]
    pub model: String,
    /// Name of the model's input if it takes FP32 images `[batch, 3, 224, 224]` instead of rows `x`.
    #[arg(long, value_name = "INPUT")]
    pub images: Option<String>,
    /// Name of the model's output, needed for shared memory.
    #[arg(long, value_name = "OUTPUT", default_value = "y")]
    pub output: String,
    /// Also measure the model without a server, by a command that runs it once for each line on stdin and prints the seconds
    /// it took, e.g. "quintet-models time --repository DIR --model NAME". --shape or --photo is appended to the command.
    #[arg(long, value_name = "COMMAND")]
    pub in_process: Option<String>,
    /// Maximum number of elements that the model returns for each row, over all outputs [as many as the row has].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reply_elements: Option<u32>,
    /// Payloads to send: tiny (64 bytes), a number of images of 602,112 bytes each, or photo (to the jpeg lane only).
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "tiny,1,32")]
    pub payload: Vec<Size>,
    /// Photograph to send as the payload photo.
    #[arg(long, value_name = "FILE")]
    pub photo: Option<PathBuf>,
    /// Numbers of concurrent connections.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,32",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Vec<u16>,
    /// Number of rounds; in each, every lane has one window, in random order.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub rounds: u16,
    /// Length of a window.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    pub window: Duration,
    /// Seed for random choices: order of lanes, confidence intervals.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}
