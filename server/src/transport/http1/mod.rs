//! HTTP/1.1 apart from KServe: connections, bodies and responses, for every HTTP listener.

pub mod body;
mod head;
pub mod metrics;
pub(in crate::transport) mod plain;
pub mod reply;
pub mod serve;
