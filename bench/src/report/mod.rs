//! The forms that a report is written in: tables, HTML, SVG, Markdown, CSV, JSON, samples. Renders `model`, drives nothing.
//!
//! [`tables`] has the tables in their order, and [`table`] how values are written; [`markdown`], [`html`], [`csv`] and
//! [`json`] write them; [`files`] is a report's folder. A new column goes into the function of its table: in [`tables`],
//! [`axes`], [`differences`], [`waterfalls`] or [`verdicts`].

pub mod axes;
pub mod columns;
pub mod compare;
pub mod csv;
pub mod differences;
pub mod explained;
pub mod exporter;
pub mod files;
pub mod html;
pub mod json;
pub mod markdown;
pub mod plots;
pub mod samples;
pub mod schema;
pub mod svg;
pub mod table;
pub mod tables;
pub mod verdicts;
pub mod waterfalls;
