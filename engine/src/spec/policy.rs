//! How the requests to a model wait and share batches.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What happens to a request whose time in the queue is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    /// It fails with `DeadlineExceeded`.
    #[default]
    Reject,
    /// It is served after the other requests of its priority.
    Delay,
}

/// How requests of one priority wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// What happens to a request whose time is over.
    pub timeout_action: TimeoutAction,
    /// How long a request may wait; `None` is without a limit.
    pub default_timeout: Option<Duration>,
    /// Whether a request may ask for less than that.
    pub allow_timeout_override: bool,
    /// Number of requests that may wait at once.
    pub max_queue_size: usize,
}

impl QueuePolicy {
    /// The default of `max_queue_size`.
    pub const DEFAULT_MAX_QUEUE_SIZE: usize = 1024;

    /// The deadline of a request that arrives `now` and asks for the deadline `wish`.
    pub fn deadline(&self, now: Instant, wish: Option<Instant>) -> Option<Instant> {
        let default = self.default_timeout.and_then(|timeout| now.checked_add(timeout));
        let wish = wish.filter(|_| self.allow_timeout_override);
        default.into_iter().chain(wish).min()
    }

    fn delays(&self) -> bool {
        self.timeout_action == TimeoutAction::Delay && (self.default_timeout.is_some() || self.allow_timeout_override)
    }
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            timeout_action: TimeoutAction::Reject,
            default_timeout: None,
            allow_timeout_override: false,
            max_queue_size: Self::DEFAULT_MAX_QUEUE_SIZE,
        }
    }
}

/// Which of the requests of one priority runs next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// The oldest.
    #[default]
    Fifo,
    /// The oldest, but the newest while clients give up on a queue that stands; the oldest are then refused with
    /// [`crate::InferError::Overloaded`].
    Adaptive,
}

/// How requests wait and share batches. By default, they share none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Rows of a batch at most; 0 for a model without a batch dimension.
    pub max_batch_size: usize,
    /// Whether requests may share a batch.
    pub dynamic: bool,
    /// How long a request may wait for others to share a batch with while an instance is idle.
    pub max_queue_delay: Duration,
    /// Batch sizes that run as soon as they are reached; only the largest batch if empty.
    pub preferred_batch_sizes: Vec<usize>,
    /// Which of them runs next.
    pub discipline: Discipline,
    /// Whether responses are sent in the order of their requests.
    pub preserve_ordering: bool,
    /// Number of priority levels; 1 is the highest. 0 if requests have no priority.
    pub priority_levels: u32,
    /// The priority of requests without a valid one.
    pub default_priority: u32,
    /// How requests wait.
    pub queue: QueuePolicy,
    /// Exceptions from `queue` by priority level.
    pub priority_queues: BTreeMap<u32, QueuePolicy>,
}

/// A contradiction in a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A queue that holds no request.
    #[error("max_queue_size must be at least 1")]
    NoRoom,
    /// A preferred size that no batch can have.
    #[error("preferred batch size {size} is not between 1 and the maximum batch size {max}")]
    Preferred {
        /// The preferred batch size.
        size: usize,
        /// The maximum.
        max: usize,
    },
    /// Too many priority levels.
    #[error("{0} priority levels; at most {max} are supported", max = BatchPolicy::MAX_PRIORITY_LEVELS)]
    Levels(u32),
    /// A priority level that does not exist.
    #[error("{what} {level} is not between 1 and the {levels} priority levels")]
    Level {
        /// The field that names the level.
        what: &'static str,
        /// The level.
        level: u32,
        /// The number of levels.
        levels: u32,
    },
    /// A setting that breaks the order of responses.
    #[error("the order of requests cannot be preserved with {0}")]
    Ordering(&'static str),
    /// An order that an adaptive queue breaks.
    #[error("an adaptive queue cannot have several priority levels, timeout_action DELAY or preserve_ordering")]
    Adaptive,
}

impl BatchPolicy {
    /// The largest number of priority levels.
    pub const MAX_PRIORITY_LEVELS: u32 = 256;

    /// The level of a request's priority.
    pub fn level(&self, priority: u32) -> u32 {
        if (1..=self.priority_levels).contains(&priority) { priority } else { self.default_priority }
    }

    /// How requests of a level wait.
    pub fn queue_of(&self, level: u32) -> &QueuePolicy {
        self.priority_queues.get(&level).unwrap_or(&self.queue)
    }

    /// Finds contradictions.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let mut queues = self.priority_queues.values().chain([&self.queue]);
        if queues.clone().any(|queue| queue.max_queue_size == 0) {
            return Err(PolicyError::NoRoom);
        }
        let max = self.max_batch_size;
        if let Some(&size) = self.preferred_batch_sizes.iter().find(|size| !(1..=max).contains(size)) {
            return Err(PolicyError::Preferred { size, max });
        }
        let levels = self.priority_levels;
        if levels > Self::MAX_PRIORITY_LEVELS {
            return Err(PolicyError::Levels(levels));
        }
        let default = (levels > 0).then_some(("default_priority_level", self.default_priority));
        let named = self.priority_queues.keys().map(|&level| ("priority_queue_policy", level));
        if let Some((what, level)) = default.into_iter().chain(named).find(|(_, level)| !(1..=levels).contains(level)) {
            return Err(PolicyError::Level { what, level, levels });
        }
        let is_ordered = self.preserve_ordering || levels > 1 || queues.clone().any(QueuePolicy::delays);
        if self.discipline == Discipline::Adaptive && is_ordered {
            return Err(PolicyError::Adaptive);
        }
        match self.preserve_ordering {
            true if levels > 1 => Err(PolicyError::Ordering("several priority levels")),
            true if queues.any(QueuePolicy::delays) => Err(PolicyError::Ordering("timeout_action DELAY")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        let refusal = |policy: BatchPolicy| policy.check().unwrap_err().to_string();
        let good = || BatchPolicy { max_batch_size: 8, priority_levels: 2, default_priority: 1, ..Default::default() };
        let delay =
            QueuePolicy { timeout_action: TimeoutAction::Delay, allow_timeout_override: true, ..Default::default() };
        good().check().unwrap();
        assert_eq!(
            refusal(BatchPolicy { preferred_batch_sizes: vec![4, 9], ..good() }),
            "preferred batch size 9 is not between 1 and the maximum batch size 8"
        );
        assert_eq!(
            refusal(BatchPolicy { default_priority: 0, ..good() }),
            "default_priority_level 0 is not between 1 and the 2 priority levels"
        );
        assert_eq!(
            refusal(BatchPolicy { priority_queues: [(3, delay.clone())].into(), ..good() }),
            "priority_queue_policy 3 is not between 1 and the 2 priority levels"
        );
        assert_eq!(
            refusal(BatchPolicy { preserve_ordering: true, ..good() }),
            "the order of requests cannot be preserved with several priority levels"
        );
        assert_eq!(
            refusal(BatchPolicy { preserve_ordering: true, queue: delay.clone(), priority_levels: 0, ..good() }),
            "the order of requests cannot be preserved with timeout_action DELAY"
        );
        assert_eq!(
            refusal(BatchPolicy { priority_levels: 257, ..good() }),
            "257 priority levels; at most 256 are supported"
        );
        for ordered in [
            BatchPolicy { preserve_ordering: true, priority_levels: 0, ..good() },
            good(),
            BatchPolicy { queue: delay, priority_levels: 0, ..good() },
        ] {
            let adaptive = BatchPolicy { discipline: Discipline::Adaptive, ..ordered };
            assert_eq!(adaptive.check(), Err(PolicyError::Adaptive));
        }
        let no_room = QueuePolicy { max_queue_size: 0, ..Default::default() };
        assert_eq!(refusal(BatchPolicy { queue: no_room, ..good() }), "max_queue_size must be at least 1");
    }

    #[test]
    fn a_request_may_ask_for_an_earlier_deadline_if_allowed() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let deadline = |default: Option<u64>, allow_timeout_override, wish: Option<u64>| {
            let default_timeout = default.map(Duration::from_millis);
            QueuePolicy { default_timeout, allow_timeout_override, ..Default::default() }.deadline(now, wish.map(after))
        };
        assert_eq!(deadline(None, false, Some(1)), None);
        assert_eq!(deadline(None, true, Some(1)), Some(after(1)));
        assert_eq!(deadline(Some(5), true, Some(1)), Some(after(1)));
        assert_eq!(deadline(Some(5), true, Some(9)), Some(after(5)), "never for more");
        assert_eq!(deadline(Some(5), false, Some(1)), Some(after(5)));
    }

    #[test]
    fn a_priority_that_does_not_exist_is_the_default() {
        let policy = BatchPolicy { priority_levels: 3, default_priority: 2, ..Default::default() };
        assert_eq!([0, 1, 3, 4, u32::MAX].map(|priority| policy.level(priority)), [2, 1, 3, 2, 2]);
        assert_eq!(BatchPolicy::default().level(99), 0);
    }
}
