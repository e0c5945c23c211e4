//! Warm-up: sends requests that are not measured until latency is steady.

use std::time::Duration;

use hdrhistogram::CreationError;

use crate::{
    analysis::stats,
    client::call::Prepared,
    model::{block::WarmUp, record::Recorder},
    run::{lane_client::LaneClient, request::send},
};

/// Latency is steady when the medians of the last groups differ by at most this part of the smallest one.
const STEADY: f64 = 0.1;
/// Groups that are compared: of two, each could be a little faster than the one before, without an end.
const GROUPS: usize = 3;

impl LaneClient {
    /// Sends at least `least` requests, then more until latency is steady, but at most `most`.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn warm_up(
        &mut self,
        requests: &[Prepared],
        (least, most): (usize, usize),
        mut progress: impl FnMut(usize),
    ) -> Result<WarmUp, CreationError> {
        let mut recorder = Recorder::new()?;
        let mut steady = None;
        let clock = self.clock.clone();
        for client in self.workers(1).await {
            for (number, request) in requests.iter().cycle().take(most).enumerate() {
                let latencies = || recorder.samples().iter().map(|s| s.latency.as_secs_f64()).collect::<Vec<_>>();
                if number >= least && number % least.max(1) == 0 {
                    steady = Some(is_steady(&latencies(), least.max(1)));
                }
                if clock.cancel.is_cancelled() || steady == Some(true) {
                    break;
                }
                send(client, request, &mut recorder, &clock).await;
                if number < least {
                    progress(1);
                }
            }
        }
        let us = |latency: Duration| latency.as_micros() as u64;
        let mut last: Vec<f64> =
            recorder.samples().iter().rev().take(least.max(1)).map(|s| s.latency.as_secs_f64()).collect();
        Ok(WarmUp {
            sent: recorder.sent(),
            first_us: recorder.samples().first().map(|sample| us(sample.latency)),
            last_us: stats::median(&mut last).map(|seconds| (seconds * 1e6) as u64),
            steady,
            failures: recorder.failures,
        })
    }
}

/// Whether the medians of the last three groups of `size` samples are within 10 % of each other.
pub fn is_steady(samples: &[f64], size: usize) -> bool {
    let Some(from) = samples.len().checked_sub(GROUPS * size).filter(|_| size > 0) else { return false };
    let medians = samples[from..].chunks(size).filter_map(|group| stats::median(&mut group.to_vec()));
    let (least, most) = medians.fold((f64::INFINITY, 0.0_f64), |(least, most), m| (least.min(m), most.max(m)));
    most - least <= STEADY * least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_needs_three_similar_groups() {
        assert!(!is_steady(&[10.0; 4], 2), "four requests are too few");
        assert!(!is_steady(&[90.0, 30.0, 10.0, 10.0, 10.0, 10.0], 2), "still falling");
        assert!(is_steady(&[90.0, 30.0, 10.0, 10.4, 10.5, 10.9, 10.2, 10.3], 2));
        assert!(!is_steady(&[], 1) && !is_steady(&[], 0));
    }

    /// Each group is 8 % faster than the one before.
    #[test]
    fn a_steady_fall_is_not_steady() {
        let falling: Vec<f64> = (0..12).map(|i| 100.0 * 0.92_f64.powi(i / 2)).collect();
        assert!((1..=falling.len()).all(|n| !is_steady(&falling[..n], 2)));
    }
}
