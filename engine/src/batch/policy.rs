//! When an idle instance should run, and with how many requests. Pure: the clock is an argument.

use std::time::Instant;

use crate::spec::BatchPolicy;

/// What an idle instance sees of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueView<'a> {
    /// Rows of the requests that may run together with the first one, in order, itself included.
    pub rows: &'a [usize],
    /// Whether other requests wait behind these.
    pub others_wait: bool,
    /// When the first one began to wait.
    pub waiting_since: Instant,
}

/// What an idle instance should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Run this many of the requests in view now.
    Dispatch(usize),
    /// Look again at this time, or when a request comes.
    WaitUntil(Instant),
    /// Nothing waits.
    Idle,
}

/// Decides for one idle instance.
///
/// A batch is run as soon as waiting cannot make it fuller: when the next request would not fit, when
/// other requests are held up behind it, or when the first one has waited for `max_queue_delay`.
pub fn decide(now: Instant, view: &QueueView<'_>, policy: &BatchPolicy) -> Decision {
    if view.rows.is_empty() {
        return Decision::Idle;
    }
    if !policy.dynamic || policy.max_batch_size == 0 {
        return Decision::Dispatch(1);
    }
    let mut total = 0;
    let fitting = view
        .rows
        .iter()
        .take_while(|&&rows| {
            total += rows;
            total <= policy.max_batch_size
        })
        .count()
        // A request over the maximum is refused at admission, so one always fits.
        .max(1);
    let full = fitting < view.rows.len() || total >= policy.max_batch_size;
    let due = view.waiting_since + policy.max_queue_delay;
    if full || view.others_wait || now >= due { Decision::Dispatch(fitting) } else { Decision::WaitUntil(due) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn policy(max_batch_size: usize, delay_ms: u64) -> BatchPolicy {
        BatchPolicy {
            max_batch_size,
            dynamic: true,
            max_queue_delay: Duration::from_millis(delay_ms),
            max_queue_size: 1024,
        }
    }

    proptest! {
        #[test]
        fn a_batch_never_exceeds_its_maximum(
            rows in prop::collection::vec(1usize..=8, 0..40), delay_ms in 0u64..20, waited_ms in 0u64..40,
            others_wait: bool,
        ) {
            let start = Instant::now();
            let now = start + Duration::from_millis(waited_ms);
            let view = QueueView { rows: &rows, others_wait, waiting_since: start };
            let policy = policy(8, delay_ms);
            match decide(now, &view, &policy) {
                Decision::Idle => prop_assert!(rows.is_empty()),
                Decision::Dispatch(n) => {
                    prop_assert!(n >= 1 && n <= rows.len());
                    prop_assert!(rows[..n].iter().sum::<usize>() <= 8);
                    // Never less than would have fitted.
                    prop_assert!(n == rows.len() || rows[..=n].iter().sum::<usize>() > 8);
                }
                Decision::WaitUntil(due) => {
                    prop_assert!(waited_ms < delay_ms, "no request waits past the delay while an instance is idle");
                    prop_assert_eq!(due, start + policy.max_queue_delay);
                    prop_assert!(rows.iter().sum::<usize>() < 8, "a full batch does not wait");
                    prop_assert!(!others_wait);
                }
            }
        }
    }

    #[test]
    fn a_lone_request_is_dispatched_at_once_without_a_delay() {
        let now = Instant::now();
        let view = QueueView { rows: &[1], others_wait: false, waiting_since: now };
        assert_eq!(decide(now, &view, &policy(8, 0)), Decision::Dispatch(1));
    }

    #[test]
    fn without_dynamic_batching_requests_run_alone() {
        let now = Instant::now();
        let view = QueueView { rows: &[1, 1], others_wait: false, waiting_since: now };
        assert_eq!(decide(now, &view, &BatchPolicy { dynamic: false, ..policy(8, 5) }), Decision::Dispatch(1));
        assert_eq!(decide(now, &view, &policy(0, 5)), Decision::Dispatch(1));
    }
}
