//! Writes reports as HTML, SVG, Markdown, CSV and JSON.
//!
//! [`answer`] is the few lines for the terminal, [`answers`] those of several runs. [`tables`] builds the tables in their order
//! and [`table`] formats values; [`markdown`], [`html`], [`csv`] and [`json`] write them; [`files`] writes and reads a report's files. To add a column, change the function of its table
//! in [`tables`], [`axes`], [`differences`], [`waterfalls`] or [`verdicts`]. [`compare`] and [`changes`] compare saved runs.

pub mod accuracy;
pub mod answer;
pub mod answers;
pub mod axes;
pub mod capacity;
pub mod changes;
pub mod columns;
pub mod compare;
pub mod csv;
pub mod differences;
pub mod exporter;
pub mod extent;
pub mod files;
pub mod hdr;
pub mod html;
pub mod json;
pub mod machines;
pub mod markdown;
pub mod plots;
pub mod predicted;
pub mod samples;
pub mod scaling;
pub mod scenario;
pub mod schema;
pub mod slo;
pub mod svg;
pub mod table;
pub mod tables;
pub mod verdicts;
pub mod waterfalls;
