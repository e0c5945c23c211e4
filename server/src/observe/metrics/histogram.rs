//! Histograms that cost two atomic additions a sample.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use metrics_exporter_prometheus::LabelSet;

use super::text::Family;

/// The distribution of one kind of duration.
pub(super) struct Histogram {
    /// What a duration is written in.
    unit: Duration,
    /// The upper bounds of the buckets in that unit, ascending; a bucket contains its bound.
    bounds: &'static [u64],
    /// One more than there are bounds: the last is for longer durations.
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn new(unit: Duration, bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { unit, bounds, buckets, sum_ns: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, duration: Duration) {
        let (ns, unit_ns) = (duration.as_nanos() as u64, self.unit.as_nanos() as u64);
        let index = self.bounds.partition_point(|bound| bound * unit_ns < ns);
        self.buckets[index].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// Adds its samples to a metric.
    pub(super) fn write(&self, family: &mut Family, labels: &LabelSet) {
        // Read before the buckets: each of its durations is then in one of them.
        let sum = self.sum_ns.load(Relaxed) as f64 / self.unit.as_nanos() as f64;
        let mut count = 0;
        let bounds = self.bounds.iter().map(|&bound| bound as f64).chain([f64::INFINITY]);
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Relaxed);
            family.bucket(labels, bound, count);
        }
        family.totals(labels, sum, count);
    }
}

#[cfg(test)]
mod tests {
    use metrics::Label;
    use proptest::prelude::*;

    use super::{
        super::{Format, text},
        *,
    };

    fn render(histogram: &Histogram) -> String {
        let mut family = Family::new(Format::Text, "histogram", ("h_us", "A histogram"));
        histogram.write(&mut family, &text::labels(vec![Label::new("model", "m")]));
        family.into_text().unwrap()
    }

    #[test]
    fn a_bucket_contains_its_bound() {
        let histogram = Histogram::new(Duration::from_micros(1), &[10, 100]);
        for ns in [0, 10_000, 10_001, 100_000, 100_500] {
            histogram.record(Duration::from_nanos(ns));
        }
        insta::assert_snapshot!(render(&histogram), @r#"
        # HELP h_us A histogram
        # TYPE h_us histogram
        h_us_bucket{model="m",le="10"} 2
        h_us_bucket{model="m",le="100"} 4
        h_us_bucket{model="m",le="+Inf"} 5
        h_us_sum{model="m"} 220.501
        h_us_count{model="m"} 5
        "#);
    }

    proptest! {
        #[test]
        fn buckets_count_the_samples_up_to_their_bound(us in prop::collection::vec(0u64..20_000, 0..100)) {
            let histogram = Histogram::new(Duration::from_micros(1), &[1, 50, 1000, 10_000]);
            us.iter().for_each(|&us| histogram.record(Duration::from_micros(us)));
            let text = render(&histogram);
            for bound in [1, 50, 1000, 10_000] {
                let count = us.iter().filter(|&&us| us <= bound).count();
                let line = format!("h_us_bucket{{model=\"m\",le=\"{bound}\"}} {count}\n");
                prop_assert!(text.contains(&line), "{}: {}", line, text);
            }
            let sum = format!("h_us_sum{{model=\"m\"}} {}\n", us.iter().sum::<u64>());
            prop_assert!(text.contains(&sum), "{}", text);
        }
    }
}
