//! The load of a cell: serial, concurrent (closed loop) or an open loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::arrivals::{Arrivals, Rate};

/// The load of a lane in one cell of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Load {
    /// One worker, one request after the other.
    Serial {
        /// Images in a request.
        batch: usize,
    },
    /// Several workers, each with one request in flight (closed loop).
    Concurrent {
        /// Workers.
        concurrency: usize,
        /// Images in a request.
        batch: usize,
    },
    /// Requests at scheduled times, independent of earlier responses (open loop).
    Open {
        /// How the send times are distributed.
        arrivals: Arrivals,
        /// Requests per second; the mean for a trace.
        rate: Rate,
        /// Images in a request.
        batch: usize,
    },
}

impl Load {
    /// Images in a request.
    pub fn batch(self) -> usize {
        match self {
            Self::Serial { batch } | Self::Concurrent { batch, .. } | Self::Open { batch, .. } => batch,
        }
    }

    /// The same load with requests of `batch` images.
    #[must_use]
    pub fn with_batch(self, batch: usize) -> Self {
        match self {
            Self::Serial { .. } => Self::Serial { batch },
            Self::Concurrent { concurrency, .. } => Self::Concurrent { concurrency, batch },
            Self::Open { arrivals, rate, .. } => Self::Open { arrivals, rate, batch },
        }
    }

    /// Workers; 1 for an open loop, which uses as many as it needs.
    pub fn workers(self) -> usize {
        match self {
            Self::Serial { .. } | Self::Open { .. } => 1,
            Self::Concurrent { concurrency, .. } => concurrency,
        }
    }

    /// Requests per second of an open loop.
    pub fn rate(self) -> Option<f64> {
        match self {
            Self::Open { rate, .. } => Some(rate.get()),
            Self::Serial { .. } | Self::Concurrent { .. } => None,
        }
    }

    /// How the send times of an open loop are distributed.
    pub fn arrivals(self) -> Option<Arrivals> {
        match self {
            Self::Open { arrivals, .. } => Some(arrivals),
            Self::Serial { .. } | Self::Concurrent { .. } => None,
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial { batch } => write!(f, "serial b={batch}"),
            Self::Concurrent { concurrency, .. } => write!(f, "concurrent c={concurrency}"),
            Self::Open { arrivals, rate, .. } => write!(f, "{arrivals} {rate}"),
        }?;
        match self {
            Self::Serial { .. } => Ok(()),
            Self::Concurrent { batch, .. } | Self::Open { batch, .. } => match batch {
                1 => Ok(()),
                _ => write!(f, " b={batch}"),
            },
        }
    }
}
