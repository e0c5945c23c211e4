//! Tests of the queue: closing, limits and the order of responses.

use bytes::Bytes;
use proptest::prelude::*;
use quintet_proto::DataType;

use super::*;
use crate::{
    request::{InferResponse, StageTimings},
    spec::{OutputSet, QueuePolicy},
    tensor::{Shape, Tensor},
};

fn queue(policy: BatchPolicy) -> Queue {
    Queue::new(BatchPolicy { max_batch_size: 1, dynamic: true, ..policy })
}

fn request() -> InferRequest {
    InferRequest::new(
        Instant::now(),
        vec![Some(Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(b"x")).unwrap())],
        1,
        OutputSet::all(1),
    )
}

fn run(queue: &Queue) -> Pending {
    match queue.next(None) {
        Some(Work::Run(mut batch)) => batch.requests.remove(0),
        other => panic!("expected a batch, got {other:?}"),
    }
}

fn done() -> Outcome {
    Ok(InferResponse { outputs: Vec::new(), timings: StageTimings::default() })
}

#[test]
fn a_closed_queue_serves_waiting_requests_and_refuses_new_ones() {
    let queue = queue(BatchPolicy::default());
    queue.push(request()).unwrap();
    queue.close();
    assert_eq!(queue.push(request()).unwrap_err(), InferError::ShuttingDown);
    run(&queue);
    assert!(queue.next(None).is_none());
}

#[test]
fn who_is_tired_of_waiting_rests_but_never_while_a_request_waits() {
    let queue = queue(BatchPolicy::default());
    assert!(matches!(queue.next(Some(Duration::ZERO)), Some(Work::Rest)));
    queue.push(request()).unwrap();
    assert!(matches!(queue.next(Some(Duration::ZERO)), Some(Work::Run(_))));
    queue.close();
    assert!(queue.next(Some(Duration::ZERO)).is_none());
}

#[test]
fn a_full_queue_refuses_requests() {
    let one = QueuePolicy { max_queue_size: 1, ..QueuePolicy::default() };
    let queue = queue(BatchPolicy { queue: one, ..BatchPolicy::default() });
    let first = queue.push(request()).unwrap();
    assert_eq!(queue.push(request()).unwrap_err(), InferError::QueueFull);
    assert!(queue.remove(first.number).is_some());
    queue.push(request()).unwrap();
}

#[test]
fn responses_keep_the_order_of_requests_if_configured() {
    for preserve_ordering in [true, false] {
        let queue = queue(BatchPolicy { preserve_ordering, ..BatchPolicy::default() });
        let mut tickets: Vec<_> = (0..5).map(|_| queue.push(request()).unwrap()).collect();
        let mut cached = queue.answered(done()).unwrap();
        assert_eq!(cached.try_recv().is_err(), preserve_ordering, "cached responses keep the order, too");
        // As with four instances: all run, and later requests are done first.
        let mut running: Vec<_> = (0..4).map(|_| run(&queue)).collect();
        queue.finish(vec![(running.remove(3), done())]);
        queue.finish(vec![(running.remove(1), done())]);
        let answered = |tickets: &mut Vec<Ticket>| -> Vec<bool> {
            tickets.iter_mut().map(|ticket| ticket.outcome.try_recv().is_ok()).collect()
        };
        if preserve_ordering {
            assert_eq!(answered(&mut tickets), [false; 5]);
            queue.finish(vec![(running.remove(0), done())]);
            assert_eq!(answered(&mut tickets), [true, true, false, false, false]);
            assert!(queue.give_up(tickets[2].number).is_none(), "it runs");
            assert_eq!(
                answered(&mut tickets),
                [false, false, false, true, false],
                "a cancelled request holds up no response"
            );
            queue.finish(vec![(running.remove(0), done())]);
            queue.finish(vec![(run(&queue), done())]);
            assert!(tickets[4].outcome.try_recv().is_ok() && cached.try_recv().is_ok());
        } else {
            assert_eq!(answered(&mut tickets), [false, true, false, true, false]);
        }
    }
}

proptest! {
    #[test]
    fn no_response_overtakes_an_earlier_one(
        instances in 1usize..6,
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..60),
    ) {
        let queue = queue(BatchPolicy { preserve_ordering: true, ..BatchPolicy::default() });
        let mut tickets: Vec<_> = steps.iter().map(|_| queue.push(request()).unwrap()).collect();
        let (mut running, mut answered) = (Vec::new(), Vec::new());
        let mut waiting = tickets.len();
        for (which, leaves) in steps {
            while running.len() < instances && waiting > 0 {
                running.push(run(&queue));
                waiting -= 1;
            }
            let done_now = running.swap_remove(which.index(running.len()));
            if leaves {
                queue.give_up(done_now.number);
                tickets.retain(|ticket| ticket.number != done_now.number);
            }
            queue.finish(vec![(done_now, done())]);
            let arrived = |ticket: &mut Ticket| ticket.outcome.try_recv().is_ok();
            answered.extend(tickets.iter_mut().filter_map(|ticket| arrived(ticket).then_some(ticket.number)));
            let first: Vec<_> = tickets.iter().map(|ticket| ticket.number).take(answered.len()).collect();
            prop_assert_eq!(&answered, &first, "responses are sent in order, without a gap");
        }
        prop_assert_eq!(answered.len(), tickets.len(), "and in the end, all of them");
    }
}
