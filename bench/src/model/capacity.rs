//! How far a lane's throughput follows its load.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    connection::Policy, encoding::Encoding, estimate::Estimate, lane::Lane, load::Load, transport::Transport,
};

/// One lane under rising loads of one kind: more workers, or an open loop's higher rates, at one batch size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    /// The lane.
    pub lane: Lane,
    /// The connection policy.
    pub connection: Policy,
    /// The form of the images.
    pub payload: Option<Encoding>,
    /// The transport of the tensors.
    pub transport: Transport,
    /// Where throughput was highest.
    pub peak: Point,
    /// Where throughput divided by mean latency was highest (Kleinrock's power).
    pub knee: Point,
    /// Mean latency at the knee divided by that at the lowest load.
    pub knee_slowdown: f64,
    /// Where goodput was highest; `None` (null) without a bound.
    pub goodput: Option<Point>,
}

/// A measured load and the rate there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// The load.
    pub load: Load,
    /// Images per second: completed, or within the bound for goodput.
    pub images_per_s: Estimate,
    /// Mean latency, in ms.
    pub mean_ms: f64,
    /// Whether no higher load was measured: the true point may lie beyond.
    pub at_highest_load: bool,
}
