//! `dynamic_batching`: maps Triton's settings for queues and batches to the engine's.

use std::time::Duration;

use quintet_engine::{BatchPolicy, Discipline, QueuePolicy, TimeoutAction};
use quintet_proto::inference::{
    ModelConfig, ModelDynamicBatching, ModelQueuePolicy, model_config::SchedulingChoice,
    model_queue_policy::TimeoutAction as Action,
};

/// Sets Triton's default: the largest batch is the preferred one.
pub(super) fn fill_in(config: &mut ModelConfig) {
    let max_batch_size = config.max_batch_size;
    if let Some(SchedulingChoice::DynamicBatching(dynamic)) = &mut config.scheduling_choice
        && dynamic.preferred_batch_size.is_empty()
        && max_batch_size > 0
    {
        dynamic.preferred_batch_size.push(max_batch_size);
    }
}

/// The policy for the model's requests. The engine refuses contradictions.
///
/// Three things differ from Triton. Queues are bounded: a `max_queue_size` of 0 means
/// [`QueuePolicy::DEFAULT_MAX_QUEUE_SIZE`]. If `allow_timeout_override` is set without a default timeout, a request's
/// own timeout counts; Triton ignores it. And a request waits for `max_queue_delay` only while fewer requests are open
/// than were open at the same time recently; in Triton a lone request always waits the whole delay.
///
/// The queue is adaptive unless the configuration says how requests wait, by `preserve_ordering`, `priority_levels` or a
/// queue policy (an empty one, too): then it is first in, first out within a priority, as in Triton.
pub(super) fn policy(config: &ModelConfig, max_batch_size: usize) -> BatchPolicy {
    let Some(SchedulingChoice::DynamicBatching(dynamic)) = &config.scheduling_choice else {
        return BatchPolicy { max_batch_size, discipline: Discipline::Adaptive, ..BatchPolicy::default() };
    };
    let ModelDynamicBatching {
        preferred_batch_size,
        max_queue_delay_microseconds,
        preserve_ordering,
        priority_levels,
        default_priority_level,
        default_queue_policy,
        priority_queue_policy,
    } = dynamic;
    let is_ordered = *preserve_ordering
        || *priority_levels > 0
        || default_queue_policy.is_some()
        || !priority_queue_policy.is_empty();
    BatchPolicy {
        max_batch_size,
        dynamic: true,
        discipline: if is_ordered { Discipline::Fifo } else { Discipline::Adaptive },
        max_queue_delay: Duration::from_micros(*max_queue_delay_microseconds),
        // A negative size is as invalid as 0, and refused as 0.
        preferred_batch_sizes: preferred_batch_size.iter().map(|&size| size.max(0) as usize).collect(),
        preserve_ordering: *preserve_ordering,
        priority_levels: number(*priority_levels),
        default_priority: number(*default_priority_level),
        queue: default_queue_policy.as_ref().map(queue).unwrap_or_default(),
        priority_queues: priority_queue_policy.iter().map(|(&level, policy)| (number(level), queue(policy))).collect(),
    }
}

/// A level that does not fit stays above the engine's maximum.
fn number(level: u64) -> u32 {
    u32::try_from(level).unwrap_or(u32::MAX)
}

fn queue(policy: &ModelQueuePolicy) -> QueuePolicy {
    QueuePolicy {
        timeout_action: match policy.timeout_action() {
            Action::Reject => TimeoutAction::Reject,
            Action::Delay => TimeoutAction::Delay,
        },
        default_timeout: (policy.default_timeout_microseconds > 0)
            .then(|| Duration::from_micros(policy.default_timeout_microseconds)),
        allow_timeout_override: policy.allow_timeout_override,
        max_queue_size: match policy.max_queue_size {
            0 => QueuePolicy::DEFAULT_MAX_QUEUE_SIZE,
            size => size as usize,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::parse_config;

    #[test]
    fn maps_every_field() {
        let config = parse_config(
            r#"
            max_batch_size: 8
            dynamic_batching {
              preferred_batch_size: [ 4, 8 ]
              max_queue_delay_microseconds: 10000
              preserve_ordering: true
              priority_levels: 3
              default_priority_level: 2
              default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 allow_timeout_override: true max_queue_size: 7 }
              priority_queue_policy { key: 1 value { max_queue_size: 9 } }
              priority_queue_policy { key: 3 value { } }
            }
            "#,
            "m",
        )
        .unwrap();
        let reject = QueuePolicy::default();
        let expected = BatchPolicy {
            max_batch_size: 8,
            dynamic: true,
            discipline: Discipline::Fifo,
            max_queue_delay: Duration::from_millis(10),
            preferred_batch_sizes: vec![4, 8],
            preserve_ordering: true,
            priority_levels: 3,
            default_priority: 2,
            queue: QueuePolicy {
                timeout_action: TimeoutAction::Delay,
                default_timeout: Some(Duration::from_micros(5)),
                allow_timeout_override: true,
                max_queue_size: 7,
            },
            priority_queues: [(1, QueuePolicy { max_queue_size: 9, ..reject.clone() }), (3, reject)].into(),
        };
        assert_eq!(policy(&config, 8), expected);
    }

    #[test]
    fn a_configuration_that_says_how_requests_wait_fixes_their_order() {
        let discipline = |text: &str| policy(&parse_config(text, "m").unwrap(), 8).discipline;
        for text in ["", "dynamic_batching { }", "dynamic_batching { max_queue_delay_microseconds: 5 }"] {
            assert_eq!(discipline(text), Discipline::Adaptive, "{text}");
        }
        for field in [
            "preserve_ordering: true",
            "priority_levels: 1 default_priority_level: 1",
            "default_queue_policy { }",
            "default_queue_policy { max_queue_size: 8 }",
            "priority_queue_policy { key: 1 value { } }",
        ] {
            assert_eq!(discipline(&format!("dynamic_batching {{ {field} }}")), Discipline::Fifo, "{field}");
        }
    }

    #[test]
    fn the_largest_batch_is_preferred_by_default() {
        let filled = |text: &str| {
            let mut config = parse_config(text, "m").unwrap();
            fill_in(&mut config);
            match config.scheduling_choice {
                Some(SchedulingChoice::DynamicBatching(dynamic)) => dynamic.preferred_batch_size,
                _ => Vec::new(),
            }
        };
        assert_eq!(filled("max_batch_size: 8 dynamic_batching { }"), [8]);
        assert_eq!(filled("max_batch_size: 8 dynamic_batching { preferred_batch_size: 4 }"), [4]);
        assert!(filled("dynamic_batching { }").is_empty());
        assert!(filled("max_batch_size: 8").is_empty());
    }
}
