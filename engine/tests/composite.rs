//! A composite: a model that calls two others at once.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{
    BatchPolicy, BufferPool, Cache, Composite, DataType, ErrorKind, FailureReason, InferError, InferFuture,
    InferRequest, InferResponse, Instance, Model, ModelSpec, OutputSet, Placement, QueuePolicy, Registry, Shape,
    StageTimings, Tensor, TensorSpec, VersionState, testing::Echo,
};

fn spec(name: &str) -> ModelSpec {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(1)]);
    let queue = QueuePolicy { max_queue_size: 4, ..QueuePolicy::default() };
    let policy = BatchPolicy { max_batch_size: 1, queue, ..BatchPolicy::default() };
    ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap()
}

fn echo(latency: Duration) -> (Arc<Model>, Echo) {
    let echo = Echo { latency, ..Echo::default() };
    let instance: Box<dyn Instance> = Box::new(echo.clone());
    (Arc::new(Model::start(spec("echo"), vec![instance], vec![], BufferPool::new(0), Duration::ZERO).unwrap()), echo)
}

/// Calls both at once, and returns the response of the first with the times of both.
struct Both(Arc<Model>, Arc<Model>);

impl Composite for Both {
    fn infer(&self, request: InferRequest) -> InferFuture<'_> {
        Box::pin(async move {
            let (first, second) = tokio::try_join!(self.0.infer(request.clone()), self.1.infer(request))?;
            let mut timings = StageTimings::default();
            for (stage, time) in first.timings.iter().chain(second.timings.iter()) {
                timings[stage] += time;
            }
            Ok(InferResponse { timings, ..first })
        })
    }
}

fn both(first: &Arc<Model>, second: &Arc<Model>) -> Model {
    let placement = Placement { provider: "both".into(), nodes: Vec::new(), precision: None, reason: None };
    let composite = Box::new(Both(Arc::clone(first), Arc::clone(second)));
    Model::compose(spec("both"), composite, placement, BufferPool::new(0), Duration::ZERO)
}

fn request() -> InferRequest {
    InferRequest {
        started: Instant::now(),
        inputs: vec![Some(Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(b"x")).unwrap())],
        rows: 1,
        outputs: OutputSet::all(1),
        output_memory: Vec::new(),
        priority: 0,
        deadline: None,
        timings: StageTimings::default(),
    }
}

#[tokio::test]
async fn a_composite_counts_its_requests_and_the_times_of_its_steps() {
    let latency = Duration::from_millis(3);
    let ((first, _), (second, _)) = (echo(latency), echo(latency));
    let model = both(&first, &second);
    assert!(model.is_composite());
    model.infer(request()).await.unwrap();
    let stats = model.stats();
    assert_eq!((stats.success, stats.inferences, stats.executions), (1, 1, 1));
    assert_eq!((stats.queue, stats.compute_infer), (Duration::ZERO, latency * 2), "no queue; its steps together");
    assert_eq!((first.stats().success, second.stats().success), (1, 1));
    second.drain();
    assert_eq!(model.infer(request()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let failures = model.stats().failures;
    assert_eq!((failures.total(), failures[FailureReason::Other]), (1, 1));
    assert_eq!((model.pending_requests(), model.running_requests()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_request_frees_the_slots_of_its_steps() {
    let ((first, runs), (second, _)) = (echo(Duration::from_secs(600)), echo(Duration::from_secs(600)));
    let model = both(&first, &second);
    // As many as may wait: if one slot were lost, a later request would be refused.
    for _ in 0..3 {
        let open: Vec<_> = (0..4).map(|_| Box::pin(model.infer(request()))).collect();
        let waiting = futures_util::future::join_all(open);
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        assert_eq!(model.running_requests(), 0);
        assert_eq!((first.pending_requests(), second.pending_requests()), (0, 0));
    }
    assert_eq!(model.stats().failures[FailureReason::Cancelled], 12);
    assert_eq!(model.stats().failures.total(), 12, "there was room for all of them each time");
    first.drain();
    assert_eq!(runs.runs.load(SeqCst), runs.stopped.load(SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_a_registry_waits_for_composites_before_their_steps() {
    let ((first, _), (second, _)) = (echo(Duration::from_millis(20)), echo(Duration::from_millis(20)));
    let registry = Arc::new(Registry::default());
    let outer = Arc::new(both(&first, &Arc::new(both(&second, &first))));
    for (name, model) in [("a", first), ("b", second), ("c", Arc::clone(&outer))] {
        registry.set(name, 1, VersionState::Ready(model));
    }
    let asked = Arc::clone(&outer);
    let answer = tokio::spawn(async move { asked.infer(request()).await });
    while outer.running_requests() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(move || registry.drain()).await.unwrap();
    answer.await.unwrap().unwrap();
    assert_eq!(outer.infer(request()).await.unwrap_err(), InferError::ShuttingDown);
}

#[tokio::test]
async fn responses_of_a_composite_can_be_cached() {
    let ((first, runs), (second, _)) = (echo(Duration::ZERO), echo(Duration::ZERO));
    let model = both(&first, &second).with_cache(Arc::new(Cache::new(1 << 20)));
    for _ in 0..3 {
        model.infer(request()).await.unwrap();
    }
    assert_eq!((runs.runs.load(SeqCst), model.stats().cache_hits, model.stats().success), (1, 2, 3));
}
