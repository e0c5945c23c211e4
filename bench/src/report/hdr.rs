//! Writes latencies for HdrHistogram's tools: an interval log (`.hlog`), and percentile distributions (`.hgrm`).
//!
//! The log has one interval for each block, tagged with its cell, in the compressed form V2 in nanoseconds. A
//! distribution has the values of one cell in ms, as HdrHistogram's `outputPercentileDistribution` prints it.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use hdrhistogram::{
    CreationError, Histogram,
    serialization::{
        V2DeflateSerializeError, V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag},
    },
};
use time::{Date, Month, PrimitiveDateTime, Time};

use crate::model::{cell::Cell, load::Load, report::Report};

/// Significant digits, as in the report's own histograms.
const DIGITS: u8 = 3;
/// Lines of a distribution for each halving of the distance to 100 %, HdrHistogram's default.
const TICKS_PER_HALVING: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// Why latencies cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HdrError {
    /// A report without samples.
    #[error("the report has no samples: samples.json.gz must be beside report.json")]
    NoSamples,
    /// The histogram cannot be made, which its constant precision rules out.
    #[error("cannot make a histogram: {0}")]
    Create(#[from] CreationError),
    /// It cannot be written.
    #[error("cannot write a histogram: {0}")]
    Write(#[from] IntervalLogWriterError<V2DeflateSerializeError>),
    /// The log cannot be written.
    #[error("cannot write the log: {0}")]
    Log(#[from] std::io::Error),
}

/// The latencies of all blocks as an interval log. Its times count from the start of the run.
///
/// # Errors
/// When the report has no samples.
pub fn log(report: &Report) -> Result<String, HdrError> {
    let mut intervals = Vec::new();
    for cell in with_samples(report)? {
        for block in &cell.blocks {
            if let Some(us) = cell.samples.latency_us.get(block.first..block.first + block.samples) {
                intervals.push((block.start_s, block.wall_s, name(cell), histogram(us)?));
            }
        }
    }
    intervals.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let (mut text, mut form) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]").with_max_value_divisor(NS_PER_MS);
    if let Some(start) = started(&report.started_at) {
        builder.with_start_time(start).with_base_time(start);
    }
    let mut writer = builder.begin_log_with(&mut text, &mut form)?;
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    for (start, length, cell, histogram) in intervals {
        writer.write_histogram(&histogram, seconds(start), seconds(length), Tag::new(&cell))?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The percentile distribution of each cell, with a name for its file.
///
/// # Errors
/// When the report has no samples.
pub fn distributions(report: &Report) -> Result<Vec<(String, String)>, HdrError> {
    let one = |cell: &Cell| {
        let file = format!("{}.hgrm", name(cell).replace('/', "-"));
        Ok((file, distribution(&histogram(&cell.samples.latency_us)?)))
    };
    with_samples(report)?.map(one).collect()
}

/// The cells that were measured.
fn with_samples(report: &Report) -> Result<impl Iterator<Item = &Cell>, HdrError> {
    let mut found = report.cells.iter().filter(|cell| !cell.samples.latency_us.is_empty()).peekable();
    if found.peek().is_none() { Err(HdrError::NoSamples) } else { Ok(found) }
}

fn histogram(us: &[f64]) -> Result<Histogram<u64>, HdrError> {
    let mut histogram = Histogram::new(DIGITS)?;
    for us in us {
        // It grows as needed; only a failed allocation would lose the value.
        let _ = histogram.record((us * 1e3).round() as u64);
    }
    Ok(histogram)
}

/// A cell's name, without spaces and commas: `onnx-grpc_b8_reused_fp32_tcp`.
fn name(cell: &Cell) -> String {
    let load = match cell.load {
        Load::Serial { batch } => format!("b{batch}"),
        Load::Concurrent { concurrency, batch: 1 } => format!("c{concurrency}"),
        Load::Concurrent { concurrency, batch } => format!("c{concurrency}_b{batch}"),
        Load::Open { arrivals, rate, batch: 1 } => format!("{arrivals}{}", rate.get()),
        Load::Open { arrivals, rate, batch } => format!("{arrivals}{}_b{batch}", rate.get()),
    };
    let payload = cell.payload.map_or(String::new(), |payload| format!("_{payload}"));
    format!("{}_{load}_{}{payload}_{}", cell.lane, cell.connection, cell.transport)
}

fn distribution(histogram: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALVING) {
        total += step.count_since_last_iteration();
        let (ms, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        let _ = match 1.0 - quantile {
            rest if rest > 0.0 => writeln!(text, "{ms:12.3} {quantile:2.12} {total:10} {:14.2}", 1.0 / rest),
            _ => writeln!(text, "{ms:12.3} {quantile:2.12} {total:10}"),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.mean() / NS_PER_MS,
        histogram.stdev() / NS_PER_MS,
        histogram.max() as f64 / NS_PER_MS,
        histogram.len(),
        histogram.buckets(),
        // The smallest power of two with the resolution of that many digits, twice.
        (2 * 10_u32.pow(u32::from(DIGITS))).next_power_of_two(),
    );
    text
}

/// The time of a report's `started_at`, `YYYYMMDDTHHMMSSZ`.
fn started(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let byte = |range| u8::try_from(number(range)?).ok();
    let date = Date::from_calendar_date(number(0..4)?.into(), Month::try_from(byte(4..6)?).ok()?, byte(6..8)?).ok()?;
    let time = Time::from_hms(byte(9..11)?, byte(11..13)?, byte(13..15)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };

    #[test]
    fn a_log_holds_every_sample_of_every_block() {
        let report = fixture::report();
        let text = log(&report).unwrap();
        let mut intervals = 0;
        let mut counts = std::collections::BTreeMap::<String, u64>::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            let bytes = base64_simd::STANDARD.decode_to_vec(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            *counts.entry(interval.tag().unwrap().as_str().to_owned()).or_default() += histogram.len();
            assert!((interval.max() - histogram.max() as f64 / NS_PER_MS).abs() < 1e-3);
            intervals += 1;
        }
        assert_eq!(intervals, report.cells.iter().map(|cell| cell.blocks.len()).sum::<usize>());
        for cell in &report.cells {
            assert_eq!(counts[&name(cell)], cell.completed, "{}", name(cell));
        }
        assert!(text.contains("#[BaseTime: 1795564800.000 (seconds since epoch)]"), "{}", &text[..200]);
    }

    #[test]
    fn a_distribution_ends_at_the_largest_value() {
        let report = fixture::report();
        let (file, text) = &distributions(&report).unwrap()[0];
        assert_eq!(file, "jpeg_b1_reused_jpeg-base64_tcp.hgrm");
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
            .collect();
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]), "{text}");
        let last = rows.last().unwrap();
        let cell = &report.cells[0];
        assert_eq!((last[1], last[2]), (1.0, cell.completed as f64));
        let most = cell.latency_ms.as_ref().unwrap().max;
        assert!((last[0] / most - 1.0).abs() < 2e-3, "{} and {most}", last[0]);
    }

    #[test]
    fn a_report_without_samples_is_refused() {
        let mut report = fixture::report();
        report.cells.iter_mut().for_each(|cell| cell.samples = Default::default());
        assert!(matches!(log(&report), Err(HdrError::NoSamples)));
    }
}
