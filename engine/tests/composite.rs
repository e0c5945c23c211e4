//! A composite: a model that calls two others at once.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    collections::BTreeSet,
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

    fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        self.0.generations(found) & self.1.generations(found)
    }
}

fn both(first: &Arc<Model>, second: &Arc<Model>) -> Model {
    let placement = Placement { provider: "both".into(), nodes: Vec::new(), device: None, precision: None, reason: None };
    let composite = Box::new(Both(Arc::clone(first), Arc::clone(second)));
    Model::compose(spec("both"), composite, placement, BufferPool::new(0), Duration::ZERO)
}

fn request() -> InferRequest {
    InferRequest::new(
        Instant::now(),
        vec![Some(Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(b"x")).unwrap())],
        1,
        OutputSet::all(1),
    )
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

/// Calls the model of this name that is in service.
struct Latest(Arc<Registry>, &'static str);

impl Composite for Latest {
    fn infer(&self, request: InferRequest) -> InferFuture<'_> {
        Box::pin(async move { self.0.resolve(self.1, None)?.infer(request).await })
    }

    fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        self.0.resolve(self.1, None).is_ok_and(|model| model.generations(found))
    }
}

fn latest(registry: &Arc<Registry>, name: &'static str) -> Model {
    let placement = Placement { provider: "latest".into(), nodes: Vec::new(), device: None, precision: None, reason: None };
    let composite = Box::new(Latest(Arc::clone(registry), name));
    Model::compose(spec("latest"), composite, placement, BufferPool::new(0), Duration::ZERO)
}

#[tokio::test]
async fn a_cached_response_goes_with_the_load_of_any_model_that_made_it() {
    let registry = Arc::new(Registry::default());
    let put = |name: &str, model| registry.set(name, 1, VersionState::Ready(model));
    let cache = Arc::new(Cache::new(1 << 20));
    put("inner", Arc::new(latest(&registry, "echo")));
    let outer = latest(&registry, "inner").with_cache(cache);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (model, counted) = echo(Duration::ZERO);
        put("echo", model);
        for _ in 0..2 {
            outer.infer(request()).await.unwrap();
        }
        runs.push(counted.runs.load(SeqCst));
    }
    assert_eq!(
        (runs, outer.stats().cache_hits),
        (vec![1, 1, 1], 3),
        "each load of the step two ensembles below runs once"
    );
    registry.set("echo", 1, VersionState::Unloaded);
    assert!(outer.infer(request()).await.is_err(), "no answer of a model that is out of service");
}

#[tokio::test]
async fn composites_in_a_circle_have_generations() {
    let registry = Arc::new(Registry::default());
    let model = Arc::new(latest(&registry, "self"));
    registry.set("self", 1, VersionState::Ready(Arc::clone(&model)));
    let mut found = BTreeSet::new();
    assert!(model.generations(&mut found));
    assert_eq!(found.len(), 1);
}

/// Loads its step anew while it runs.
struct Reloading(Arc<Registry>);

impl Composite for Reloading {
    fn infer(&self, request: InferRequest) -> InferFuture<'_> {
        Box::pin(async move {
            let before = self.0.resolve("echo", None)?;
            self.0.set("echo", 1, VersionState::Ready(echo(Duration::ZERO).0));
            before.infer(request).await
        })
    }

    fn generations(&self, found: &mut BTreeSet<u64>) -> bool {
        self.0.resolve("echo", None).is_ok_and(|model| model.generations(found))
    }
}

#[tokio::test]
async fn a_response_is_not_kept_if_a_model_was_loaded_anew_while_it_was_made() {
    let registry = Arc::new(Registry::default());
    registry.set("echo", 1, VersionState::Ready(echo(Duration::ZERO).0));
    let cache = Arc::new(Cache::new(1 << 20));
    let placement = Placement { provider: "reloading".into(), nodes: Vec::new(), device: None, precision: None, reason: None };
    let composite = Box::new(Reloading(registry));
    let model = Model::compose(spec("reloading"), composite, placement, BufferPool::new(0), Duration::ZERO);
    let model = model.with_cache(Arc::clone(&cache));
    model.infer(request()).await.unwrap();
    assert!(cache.is_empty());
}

/// Panics before its first step, or after it.
struct Broken {
    after: Option<Arc<Model>>,
}

impl Composite for Broken {
    #[allow(clippy::panic)] // As a bug may.
    fn infer(&self, request: InferRequest) -> InferFuture<'_> {
        let Some(first) = &self.after else { panic!("broken step") };
        Box::pin(async move {
            first.infer(request).await?;
            panic!("broken step")
        })
    }

    fn generations(&self, _: &mut BTreeSet<u64>) -> bool {
        true
    }
}

#[tokio::test]
async fn a_panic_in_a_composite_is_an_error_of_its_request() {
    for after in [None, Some(echo(Duration::ZERO).0)] {
        let placement = Placement { provider: "broken".into(), nodes: Vec::new(), device: None, precision: None, reason: None };
        let composite = Box::new(Broken { after });
        let model = Model::compose(spec("broken"), composite, placement, BufferPool::new(0), Duration::ZERO);
        for _ in 0..3 {
            assert_eq!(model.infer(request()).await.unwrap_err(), InferError::Panicked);
        }
        assert_eq!((model.stats().failures.total(), model.running_requests()), (3, 0));
    }
}
