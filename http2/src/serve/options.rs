//! How a connection is served.

use crate::connection::{Limits, Timeouts};

/// How a connection is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What the client may do.
    pub limits: Limits,
    /// How long the server waits for the client.
    pub timeouts: Timeouts,
}
