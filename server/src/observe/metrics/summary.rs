//! Quantiles of the last minute, as in Triton's summaries.
//!
//! They are computed from an HdrHistogram. (The exporter's own summaries lose samples: of those recorded between two
//! readings, only the newest count.)

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use metrics_exporter_prometheus::LabelSet;
use parking_lot::Mutex;

use super::text::Family;

/// Length of a window; quantiles cover the last [`WINDOWS`] windows.
const WINDOW: Duration = Duration::from_secs(20);
const WINDOWS: usize = 3;
/// The largest value; longer times count as this.
const MAX: Duration = Duration::from_secs(3600);
/// Values are within 1 %.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The distribution of one kind of duration, written in microseconds.
pub(super) struct Summary {
    quantiles: Vec<f64>,
    /// An empty window.
    empty: Histogram<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest first, each with its start. Values are nanoseconds.
    windows: VecDeque<(Instant, Histogram<u64>)>,
    sum: Duration,
    count: u64,
}

impl Summary {
    pub(super) fn new(quantiles: Vec<f64>) -> Self {
        Self { quantiles, empty: empty(), state: Mutex::default() }
    }

    pub(super) fn record(&self, duration: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.sum += duration;
        state.count += 1;
        if state.windows.front().is_none_or(|(begin, _)| now.saturating_duration_since(*begin) >= WINDOW) {
            state.windows.truncate(WINDOWS - 1);
            state.windows.push_front((now, Histogram::new_from(&self.empty)));
        }
        if let Some((_, histogram)) = state.windows.front_mut() {
            histogram.saturating_record(duration.as_nanos() as u64);
        }
    }

    /// Whether nothing was recorded yet.
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().count == 0
    }

    /// Adds its samples to a metric. Without a recent duration, quantiles are NaN, as the format requires.
    pub(super) fn write(&self, family: &mut Family, labels: &LabelSet, now: Instant) {
        let mut recent = Histogram::new_from(&self.empty);
        let (sum, count) = {
            let state = self.state.lock();
            let is_recent = |begin: Instant| now.saturating_duration_since(begin) < WINDOW * WINDOWS as u32;
            for (_, window) in state.windows.iter().filter(|(begin, _)| is_recent(*begin)) {
                // Both have the same bounds, so no value is out of range.
                let _ = recent.add(window);
            }
            (state.sum, state.count)
        };
        for &quantile in &self.quantiles {
            let us = if recent.is_empty() { f64::NAN } else { recent.value_at_quantile(quantile) as f64 / 1e3 };
            family.quantile(labels, quantile, us);
        }
        family.totals(labels, sum.as_nanos() as f64 / 1e3, count);
    }
}

fn empty() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "constant bounds, which every test here uses")]
    Histogram::new_with_bounds(1, MAX.as_nanos() as u64, SIGNIFICANT_DIGITS).expect("the bounds are right")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use metrics::Label;

    use super::{
        super::{Format, text},
        *,
    };

    fn summary() -> Summary {
        Summary::new(vec![0.5, 0.99])
    }

    fn render(summary: &Summary, now: Instant) -> String {
        let mut family = Family::new(Format::Text, "summary", ("s_us", "A summary"));
        summary.write(&mut family, &text::labels(vec![Label::new("model", "m")]), now);
        family.into_text().unwrap()
    }

    /// The value of the line with this start.
    fn value(text: &str, start: &str) -> f64 {
        text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok()).unwrap()
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_samples(mut us in proptest::collection::vec(1u64..10_000_000, 1..300)) {
            let (summary, now) = (summary(), Instant::now());
            us.iter().for_each(|&us| summary.record(Duration::from_micros(us), now));
            let text = render(&summary, now);
            us.sort_unstable();
            for quantile in [0.5, 0.99] {
                let rank = (quantile * us.len() as f64).ceil() as usize;
                let (exact, found) = (us[rank - 1] as f64, value(&text, &format!("s_us{{model=\"m\",quantile=\"{quantile}\"}}")));
                prop_assert!((found / exact - 1.0).abs() < 0.01, "{quantile}: {found} for {exact}");
            }
            prop_assert_eq!(value(&text, "s_us_count{model=\"m\"}"), us.len() as f64);
            prop_assert_eq!(value(&text, "s_us_sum{model=\"m\"}"), us.iter().sum::<u64>() as f64);
        }
    }

    #[test]
    fn samples_older_than_a_minute_only_count_in_the_sum() {
        let (summary, begin) = (summary(), Instant::now());
        summary.record(Duration::from_micros(1), begin);
        summary.record(Duration::from_micros(100), begin + Duration::from_secs(30));
        let median = |seconds| {
            value(&render(&summary, begin + Duration::from_secs(seconds)), "s_us{model=\"m\",quantile=\"0.5\"}")
        };
        assert!((median(31) - 1.0).abs() < 0.02, "{}", median(31));
        assert!((median(61) - 100.0).abs() < 1.0, "{}", median(61));
        assert!(median(91).is_nan());
        assert!(render(&summary, begin + Duration::from_secs(91)).contains("s_us_count{model=\"m\"} 2\n"));
    }
}
