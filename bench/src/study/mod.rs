//! The study that this suite redoes: raw data, tables, hypotheses H1 to H5.

pub mod hypotheses;
pub mod import;
pub mod tables;
