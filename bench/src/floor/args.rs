//! Flags of `floor`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    floor::{payload::Size, target::Target},
    model::duration::parse_duration,
};

/// Flags of `floor`.
#[derive(Clone, Debug, Args)]
pub struct FloorArgs {
    /// A server and the ways into it, of which one is enough; repeatable:
    /// name=http://HOST:PORT,grpc://HOST:PORT,http+unix:PATH,grpc+unix:PATH,http+shm://HOST:PORT,jpeg://HOST:PORT.
    #[arg(long, value_name = "NAME=WAY,...", required = true)]
    pub target: Vec<Target>,
    /// Model to ask for: input `x` of FP32 rows of any width; it answers each row with its first elements, as `y`.
    #[arg(long, value_name = "NAME", default_value = "identity")]
    pub model: String,
    /// The model takes FP32 images `[batch, 3, 224, 224]` under this name instead.
    #[arg(long, value_name = "INPUT")]
    pub images: Option<String>,
    /// Name of the model's output, for shared memory.
    #[arg(long, value_name = "OUTPUT", default_value = "y")]
    pub output: String,
    /// The model without a server: a command that runs it for each line of stdin and prints the seconds. It gets
    /// --shape (or --photo) at its end: "quintet-models time --repository DIR --model NAME".
    #[arg(long, value_name = "COMMAND")]
    pub in_process: Option<String>,
    /// Elements of a row that the model answers at most, of all outputs together; all without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reply_elements: Option<u32>,
    /// What to send: tiny (64 bytes), a number of images of 602,112 bytes, or photo, which goes to ways into the jpeg
    /// lane only.
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "tiny,1,32")]
    pub payload: Vec<Size>,
    /// The photograph that is sent.
    #[arg(long, value_name = "FILE")]
    pub photo: Option<PathBuf>,
    /// Connections at once.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,32",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: Vec<u16>,
    /// Rounds; in each, every lane has one window, in random order.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub rounds: u16,
    /// Length of a window.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = parse_duration)]
    pub window: Duration,
    /// Seed of the order and of the intervals.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}
