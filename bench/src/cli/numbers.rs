//! Parses counts on the command line and checks their bounds.

/// Most images in one request.
pub(crate) const MAX_BATCH: u16 = 256;
/// Most workers, and most requests in flight.
pub(crate) const MAX_CONCURRENCY: u16 = 1_024;

/// Parses a count from 1 to `most`.
pub(crate) fn counts(most: u16) -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=i64::from(most))
}
