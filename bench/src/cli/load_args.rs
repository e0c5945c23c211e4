//! Flags of the load that `run` and `slo` share: preset, connections, payloads, transports, window, link.

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;

use crate::{
    cli::{lane_args::LaneArgs, limit_args::LimitArgs},
    model::{
        connection::Policy,
        duration::parse_duration,
        encoding::Encoding,
        link::LinkSpec,
        settings::{MOST_WARMUP_GROUPS, Preset, Settings},
        transport::Transport,
    },
};

/// What the lanes are sent.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Size of the run; the flags below override it. quick: five lanes within five minutes on two cores
    /// (ResNet-18). seed: the study's 30 iterations, longer windows.
    #[arg(long, value_enum, default_value = "quick", help_heading = "Load")]
    pub preset: Preset,
    /// Connection policy: fresh (a connection for each request), reused (one for each worker), or a number of connections
    /// that all workers share. Several are measured side by side.
    #[arg(long, value_name = "POLICY,...", value_delimiter = ',', default_value = "reused", help_heading = "Load")]
    pub connection: Vec<Policy>,
    /// Form of the images; a lane is measured with those that it supports, or with its default [jpeg lane: jpeg-base64,
    /// KServe lanes: fp32].
    #[arg(long, value_name = "FORM,...", value_delimiter = ',', help_heading = "Load")]
    pub payload: Vec<Encoding>,
    /// Transport of tensors; several are measured side by side, and a lane uses those that it supports.
    #[arg(long, value_name = "WAY,...", value_delimiter = ',', default_value = "tcp", help_heading = "Load")]
    pub transport: Vec<Transport>,
    /// Length of a concurrent window [quick: 4s, seed: 15s].
    #[arg(long, value_name = "TIME", help_heading = "Load", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Load before a concurrent window opens; not measured.
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Load", value_parser = parse_duration)]
    pub ramp: Duration,
    /// Folder of photographs to send (the first 16 by name) instead of the four that are built in.
    #[arg(long, value_name = "DIR", help_heading = "Load")]
    pub images: Option<PathBuf>,
    /// Seed of the lanes' order and of the intervals.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Load")]
    pub seed: u64,
    /// Put an emulated link in front of every lane: round trip, rates, jitter, initial window (in segments
    /// of 1,460 bytes); also queue= and window= in bytes. No root needed; counters are read directly.
    #[arg(long, value_name = "rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10", help_heading = "Load")]
    pub link: Option<LinkSpec>,
}

impl LoadArgs {
    /// The settings that these flags make: the preset, and what overrides it.
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

/// Whether the transports can be used with the other flags.
///
/// # Errors
/// When Unix domain sockets are asked for without their folder, or together with an emulated link.
pub fn check_transports(settings: &Settings) -> anyhow::Result<()> {
    if !settings.transports.contains(&Transport::Uds) {
        return Ok(());
    }
    match (&settings.uds_dir, settings.link) {
        (None, _) => bail!("--transport uds: where are the sockets? Give the server's --uds-dir with --uds-dir"),
        (_, Some(_)) => bail!("--transport uds: an emulated link (--link) is in front of TCP addresses only"),
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
