//! The report: everything a run found out, and the exporters that write it down.

pub mod axes;
pub mod compare;
pub mod csv;
pub mod explained;
pub mod exporter;
pub mod files;
pub mod html;
pub mod json;
pub mod markdown;
pub mod samples;
pub mod schema;
pub mod svg;
pub mod table;
pub mod tables;
