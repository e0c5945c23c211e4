//! Decides when an idle instance runs, and how many requests. Pure: the time is an argument.

use std::time::Instant;

use crate::spec::BatchPolicy;

/// What an idle instance sees of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueView<R> {
    /// Rows of each request that may share a batch with the first one, itself included, in order. At most
    /// one more than fit into a batch is looked at.
    pub rows: R,
    /// Whether requests wait that may not share a batch with these.
    pub others_wait: bool,
    /// When the oldest of them began to wait.
    pub waiting_since: Instant,
    /// Whether more requests are expected while these wait.
    pub more_expected: bool,
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
/// A batch runs as soon as it would gain nothing by waiting: when it has a preferred size, when the next
/// request does not fit, when other requests wait for it to run, when no more requests are expected, or
/// when one of its requests has waited for `max_queue_delay`.
pub fn decide<R>(now: Instant, view: QueueView<R>, policy: &BatchPolicy) -> Decision
where
    R: IntoIterator<Item = usize>,
{
    let batches = policy.dynamic && policy.max_batch_size > 0;
    let largest_preferred = policy.preferred_batch_sizes.iter().copied().max().unwrap_or(policy.max_batch_size);
    let (mut total, mut fitting, mut preferred, mut full) = (0, 0, None, false);
    for rows in view.rows {
        // A request over the maximum is refused at admission, so the first one always fits.
        full = fitting > 0 && (!batches || total + rows > policy.max_batch_size);
        if full {
            break;
        }
        if fitting > 0 && total + rows > largest_preferred && preferred.is_none() {
            preferred = Some(fitting);
        }
        total += rows;
        fitting += 1;
        if policy.preferred_batch_sizes.contains(&total) {
            preferred = Some(fitting);
        }
    }
    if fitting == 0 {
        return Decision::Idle;
    }
    let due = view.waiting_since + policy.max_queue_delay;
    let overdue = now >= due;
    match preferred {
        Some(n) if batches && (!overdue || policy.max_queue_delay.is_zero()) => Decision::Dispatch(n),
        _ if !batches || full || total >= largest_preferred => Decision::Dispatch(fitting),
        _ if view.others_wait || overdue || !view.more_expected => Decision::Dispatch(fitting),
        _ => Decision::WaitUntil(due),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn policy(max_batch_size: usize, delay_ms: u64) -> BatchPolicy {
        let max_queue_delay = Duration::from_millis(delay_ms);
        BatchPolicy { max_batch_size, dynamic: true, max_queue_delay, ..BatchPolicy::default() }
    }

    /// The decision about requests with these rows when the oldest has waited for `waited_ms`.
    fn after(waited_ms: u64, rows: &[usize], more_expected: bool, policy: &BatchPolicy) -> Decision {
        let start = Instant::now();
        let rows = rows.iter().copied();
        let view = QueueView { rows, others_wait: false, waiting_since: start, more_expected };
        match decide(start + Duration::from_millis(waited_ms), view, policy) {
            Decision::WaitUntil(due) => {
                assert_eq!(due, start + policy.max_queue_delay);
                Decision::WaitUntil(due)
            }
            decision => decision,
        }
    }

    proptest! {
        #[test]
        fn a_batch_never_exceeds_its_maximum(
            rows in prop::collection::vec(1usize..=8, 0..40), delay_ms in 0u64..20, waited_ms in 0u64..40,
            preferred in prop::collection::vec(1usize..=8, 0..3), others_wait: bool, more_expected: bool,
        ) {
            let start = Instant::now();
            let now = start + Duration::from_millis(waited_ms);
            let view = QueueView { rows: rows.iter().copied(), others_wait, waiting_since: start, more_expected };
            let policy = BatchPolicy { preferred_batch_sizes: preferred, ..policy(8, delay_ms) };
            match decide(now, view, &policy) {
                Decision::Idle => prop_assert!(rows.is_empty()),
                Decision::Dispatch(n) => {
                    prop_assert!(n >= 1 && n <= rows.len());
                    prop_assert!(rows[..n].iter().sum::<usize>() <= 8);
                    // Fewer than fit only for a preferred size.
                    let fitted = n == rows.len() || rows[..=n].iter().sum::<usize>() > 8;
                    prop_assert!(fitted || !policy.preferred_batch_sizes.is_empty());
                }
                Decision::WaitUntil(due) => {
                    prop_assert!(waited_ms < delay_ms, "no request waits past the delay while an instance is idle");
                    prop_assert_eq!(due, start + policy.max_queue_delay);
                    prop_assert!(rows.iter().sum::<usize>() < 8, "a full batch does not wait");
                    prop_assert!(!others_wait && more_expected);
                }
            }
        }
    }

    #[test]
    fn a_lone_request_is_dispatched_at_once_when_waiting_cannot_help() {
        assert_eq!(after(0, &[1], true, &policy(8, 0)), Decision::Dispatch(1), "no delay");
        assert_eq!(after(0, &[1], false, &policy(8, 5)), Decision::Dispatch(1), "no more requests are expected");
        assert!(matches!(after(0, &[1], true, &policy(8, 5)), Decision::WaitUntil(_)));
        assert_eq!(after(5, &[1], true, &policy(8, 5)), Decision::Dispatch(1));
    }

    #[test]
    fn a_batch_of_a_preferred_size_runs_at_once() {
        let policy = BatchPolicy { preferred_batch_sizes: vec![4, 6], ..policy(8, 5) };
        assert!(matches!(after(0, &[1; 3], true, &policy), Decision::WaitUntil(_)));
        assert_eq!(after(0, &[1; 4], true, &policy), Decision::Dispatch(4));
        assert_eq!(after(0, &[1; 5], true, &policy), Decision::Dispatch(4));
        assert_eq!(after(0, &[1; 9], true, &policy), Decision::Dispatch(6));
        assert_eq!(after(5, &[1; 9], true, &policy), Decision::Dispatch(8), "late: as many as fit");
        assert_eq!(
            after(0, &[3, 5], true, &policy),
            Decision::Dispatch(1),
            "no preferred size can be reached any more"
        );
        assert_eq!(after(0, &[7], true, &policy), Decision::Dispatch(1));
        let at_once = BatchPolicy { max_queue_delay: Duration::ZERO, ..policy };
        assert_eq!(after(9, &[1; 5], true, &at_once), Decision::Dispatch(4));
        assert_eq!(after(9, &[1; 3], true, &at_once), Decision::Dispatch(3));
    }

    #[test]
    fn without_dynamic_batching_requests_run_alone() {
        assert_eq!(after(0, &[1, 1], true, &BatchPolicy { dynamic: false, ..policy(8, 5) }), Decision::Dispatch(1));
        assert_eq!(after(0, &[1, 1], true, &policy(0, 5)), Decision::Dispatch(1));
        assert_eq!(after(0, &[1], true, &policy(0, 5)), Decision::Dispatch(1));
    }
}
