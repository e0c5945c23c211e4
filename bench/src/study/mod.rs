//! The study that this project repeats: its raw data, tables and hypotheses H1 to H5.

pub mod hypotheses;
pub mod import;
pub mod tables;
