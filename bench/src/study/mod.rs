//! The study that this suite redoes: its raw data, its tables, its hypotheses H1 to H5.

pub mod hypotheses;
pub mod import;
pub mod tables;
