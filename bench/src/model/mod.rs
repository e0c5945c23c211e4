//! Plain data that every layer shares: lanes, loads, settings, samples, reports.

pub mod arrivals;
pub mod encoding;
pub mod hypothesis_text;
pub mod lane;
pub mod link;
pub mod record;
pub mod settings;
pub mod transport;
pub mod warning;
