//! Records each request's start and latency and each failure of a worker.
//!
//! One recorder belongs to one worker, so recording takes no lock; recorders are merged afterwards.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use hdrhistogram::{CreationError, Histogram};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::sample::Sample;

/// Failures are data: their number, their kinds, and the first message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// Requests that failed.
    pub count: u64,
    /// Failures by kind, e.g. `timeout`.
    pub kinds: BTreeMap<String, u64>,
    /// The first failure's message.
    pub first: Option<String>,
}

impl Failures {
    /// Counts one failure.
    pub fn add(&mut self, kind: &str, message: &impl Display) {
        self.count += 1;
        *self.kinds.entry(kind.to_owned()).or_default() += 1;
        self.first.get_or_insert_with(|| message.to_string());
    }

    /// Adds another worker's failures; the first message stays.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        if self.first.is_none() {
            self.first = other.first;
        }
    }
}

/// The record of one worker, or of several merged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Recorder {
    histogram: Histogram<u64>,
    samples: Vec<Sample>,
    /// Requests that failed.
    pub failures: Failures,
    /// Requests given up in flight because the run was interrupted: neither completed nor failed.
    pub abandoned: u64,
    /// Bytes of the last response's body.
    pub response_bytes: usize,
}

/// A record without its histogram, which is rebuilt from the samples.
#[derive(Serialize, Deserialize)]
struct Stored {
    samples: Vec<Sample>,
    failures: Failures,
    abandoned: u64,
    response_bytes: usize,
}

impl From<Recorder> for Stored {
    fn from(Recorder { samples, failures, abandoned, response_bytes, .. }: Recorder) -> Self {
        Self { samples, failures, abandoned, response_bytes }
    }
}

impl TryFrom<Stored> for Recorder {
    type Error = CreationError;

    fn try_from(stored: Stored) -> Result<Self, CreationError> {
        let mut recorder = Self::new()?;
        let Stored { samples, failures, abandoned, response_bytes } = stored;
        samples.into_iter().for_each(|sample| recorder.add(sample));
        Ok(Self { failures, abandoned, response_bytes, ..recorder })
    }
}

impl Recorder {
    /// An empty record.
    ///
    /// # Errors
    /// When the histogram cannot be made, which its constant precision rules out.
    pub fn new() -> Result<Self, CreationError> {
        Ok(Self {
            histogram: Histogram::new(3)?, // three significant digits, grows as needed
            samples: Vec::new(),
            failures: Failures::default(),
            abandoned: 0,
            response_bytes: 0,
        })
    }

    /// Records a completed request.
    pub fn add(&mut self, sample: Sample) {
        // It grows as needed; only a failed allocation would lose the value here, and the sample stays.
        let _ = self.histogram.record(sample.latency.as_nanos().try_into().unwrap_or(u64::MAX));
        self.samples.push(sample);
    }

    /// Adds another record to this one: its samples are appended.
    pub fn merge(&mut self, other: Self) {
        self.histogram += &other.histogram;
        self.samples.extend(other.samples);
        self.failures.merge(other.failures);
        self.abandoned += other.abandoned;
        self.response_bytes = self.response_bytes.max(other.response_bytes);
    }

    /// The completed requests, in the order recorded.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Requests sent: completed, failed and abandoned.
    pub fn sent(&self) -> u64 {
        self.samples.len() as u64 + self.failures.count + self.abandoned
    }

    /// The record of the requests that were completed within `[from, to)`; failures stay.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn completed_within(&self, from: Duration, to: Duration) -> Result<Self, CreationError> {
        let mut within = Self::new()?;
        for sample in self.samples.iter().filter(|s| (from..to).contains(&s.end())) {
            within.add(*sample);
        }
        within.failures = self.failures.clone();
        within.abandoned = self.abandoned;
        within.response_bytes = self.response_bytes;
        Ok(within)
    }

    /// The filled buckets of the latency histogram: upper bound in µs and count.
    pub fn buckets_us(&self) -> Vec<(f64, u64)> {
        self.histogram.iter_recorded().map(|b| (b.value_iterated_to() as f64 / 1e3, b.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recorder(latencies_us: &[u32]) -> Recorder {
        let mut recorder = Recorder::new().unwrap();
        for (i, &us) in latencies_us.iter().enumerate() {
            let start = Duration::from_millis(i as u64);
            recorder.add(Sample { start, latency: Duration::from_micros(us.into()), ..Sample::default() });
        }
        recorder
    }

    #[test]
    fn the_message_of_the_first_failure_is_kept() {
        let mut failures = Failures::default();
        failures.add("status", &"status 503: queue is full");
        failures.add("timeout", &"no answer within 2.0 s");
        let mut other = Failures::default();
        other.add("timeout", &"no answer within 1.0 s");
        failures.merge(other);
        assert_eq!(failures.count, 3);
        assert_eq!(failures.kinds["timeout"], 2);
        assert!(failures.first.unwrap().contains("queue is full"));
    }

    #[test]
    fn a_window_has_the_requests_completed_in_it() {
        let recorder = recorder(&[500, 500, 9_000, 500]); // end at 0.5, 1.5, 11 and 3.5 ms
        let within = recorder.completed_within(Duration::from_millis(1), Duration::from_millis(11)).unwrap();
        let ends: Vec<_> = within.samples().iter().map(|s| s.end().as_micros()).collect();
        assert_eq!(ends, [1_500, 3_500]);
    }

    proptest! {
        /// The histogram has every latency to three digits.
        #[test]
        fn buckets_contain_the_latencies(mut us in proptest::collection::vec(1_u32.., 1..50)) {
            let buckets = recorder(&us).buckets_us();
            us.sort_unstable();
            let counted = buckets.iter().flat_map(|&(bound, count)| std::iter::repeat_n(bound, count as usize));
            for (bound, us) in counted.zip(&us) {
                prop_assert!((bound / f64::from(*us) - 1.0).abs() < 1e-3, "{} in {}", us, bound);
            }
            prop_assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), us.len() as u64);
        }

        #[test]
        fn a_record_survives_serialisation(us: Vec<u32>) {
            let before = recorder(&us);
            let after: Recorder = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
            prop_assert_eq!(after.samples(), before.samples());
            prop_assert_eq!(after.buckets_us(), before.buckets_us());
        }

        #[test]
        fn merging_is_concatenation(a: Vec<u32>, b: Vec<u32>) {
            let mut merged = recorder(&a);
            merged.merge(recorder(&b));
            let mut expected = recorder(&a).samples().to_vec();
            expected.extend(recorder(&b).samples());
            prop_assert_eq!(merged.samples(), &expected[..]);
            let all: Vec<u32> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(merged.buckets_us(), recorder(&all).buckets_us());
            prop_assert_eq!(merged.sent(), all.len() as u64);
        }
    }
}
