//! What the server measures and logs.

pub mod device_metrics;
pub mod gpu;
pub mod logging;
pub mod metrics;
