//! The guard of a connection: what the connection does, and when it must end. The stream and the protocol report to it;
//! timers and the listener read it.

mod activity;
mod bodies;
mod requests;
mod stream;
mod timers;
mod watch;

pub use self::{
    activity::RequestState,
    requests::{BodyProgress, Requested},
    stream::{Guarded, linger},
    timers::{Phase, Rate, Reason, Timeouts},
    watch::Guard,
};

/// Why a listener refuses a connection.
pub const NO_ROOM: &str = "too many connections are open (--max-connections)";
