//! Metrics and logging.

pub mod device_metrics;
pub mod gpu;
pub mod gpu_fault;
pub mod logging;
pub mod memory_metrics;
pub mod metrics;
