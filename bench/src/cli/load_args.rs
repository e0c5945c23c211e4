//! Flags of the load that `run` and `slo` share: preset, connections, payloads, transports, window, link.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;

use crate::{
    cli::{data_args::DataArgs, lane_args::LaneArgs, limit_args::LimitArgs},
    model::{
        connection::Policy,
        duration::parse_duration,
        encoding::Encoding,
        link::LinkSpec,
        settings::{MOST_WARMUP_GROUPS, Preset, Settings},
        transport::Transport,
    },
};

/// What is sent to the lanes.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Size of the run; other flags override its parts. quick: five lanes within five minutes on two cores with
    /// ResNet-18. seed: 30 iterations, as in the study, and longer windows.
    #[arg(long, value_enum, default_value = "quick", help_heading = "Load")]
    pub preset: Preset,
    /// Connection policy: fresh (a new connection for each request), reused (one connection for each worker), or a
    /// number of connections that all workers share. Several policies are measured side by side.
    #[arg(long, value_name = "POLICY,...", value_delimiter = ',', default_value = "reused", help_heading = "Load")]
    pub connection: Vec<Policy>,
    /// Form of the images; several are measured side by side. Each lane uses the forms that it supports, or else its
    /// default [jpeg lane: jpeg-base64, KServe lanes: fp32].
    #[arg(long, value_name = "FORM,...", value_delimiter = ',', help_heading = "Load")]
    pub payload: Vec<Encoding>,
    /// Transport of the tensors; several are measured side by side. Each lane uses the transports that it supports.
    #[arg(long, value_name = "TRANSPORT,...", value_delimiter = ',', default_value = "tcp", help_heading = "Load")]
    pub transport: Vec<Transport>,
    /// Measured time of a concurrent or open-loop load, divided into one window for each block [quick: 4s, seed: 15s].
    #[arg(short, long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Time under load, not measured, before the first window of a load; divided by the number of windows before each later one.
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Load", value_parser = parse_duration)]
    pub ramp: Duration,
    /// Folder of photographs to send (the first 16 by name) instead of the four built in.
    #[arg(long, value_name = "DIR", help_heading = "Load")]
    pub images: Option<PathBuf>,
    /// What is sent.
    #[command(flatten)]
    pub data: DataArgs,
    /// Seed for random choices: order of lanes, send times, jitter, confidence intervals.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
    /// Emulate a network link in front of every lane: rtt (round trip), up and down (rates), jitter, iw (initial window in
    /// segments of 1,460 bytes), queue and window (bytes). Needs no root; the server's counters are read directly.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10", help_heading = "Load")]
    pub link: Option<LinkSpec>,
}

impl LoadArgs {
    /// The settings: the preset, overridden by these flags.
    pub fn settings(&self, lanes: &LaneArgs, limits: &LimitArgs) -> Settings {
        let (iterations, warmup, blocks, duration) = self.preset.sizes();
        Settings {
            preset: self.preset,
            model: lanes.model.clone(),
            iterations,
            warmup,
            max_warmup: MOST_WARMUP_GROUPS * warmup,
            blocks,
            duration: self.duration.unwrap_or(duration),
            ramp: self.ramp,
            seed: self.seed,
            connections: once_each(&self.connection),
            payloads: once_each(&self.payload),
            transports: once_each(&self.transport),
            uds_dir: lanes.uds_dir.clone(),
            limits: limits.limits(),
            link: self.link,
            ..Settings::default()
        }
    }
}

/// Checks that the transports fit the other flags.
///
/// # Errors
/// When Unix domain sockets are requested without their folder, or together with an emulated link.
pub fn check_transports(settings: &Settings) -> anyhow::Result<()> {
    if !settings.transports.contains(&Transport::Uds) {
        return Ok(());
    }
    match (&settings.uds_dir, settings.link) {
        (None, _) => bail!("--transport uds needs --uds-dir: give the folder of the server's --uds-dir"),
        (_, Some(_)) => {
            bail!("--transport uds cannot be combined with --link: a link is emulated for TCP addresses only")
        }
        _ => Ok(()),
    }
}

/// The items in the order given, each once.
fn once_each<T: Copy + PartialEq>(items: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for item in items {
        if !once.contains(item) {
            once.push(*item);
        }
    }
    once
}
