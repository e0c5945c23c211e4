//! HTTP/1.1 for every HTTP listener: connections, bodies, responses, metrics.

pub mod body;
mod checked;
mod head;
pub mod metrics;
pub(in crate::transport) mod plain;
pub mod query;
pub mod reply;
mod reporting;
mod reserve;
pub mod serve;
