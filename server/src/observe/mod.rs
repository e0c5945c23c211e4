//! Metrics and logging.

pub mod device_metrics;
pub mod gpu;
pub mod logging;
pub mod metrics;
