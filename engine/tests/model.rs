//! A model in service, with real threads and a scripted backend.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use quintet_engine::{
    BatchPolicy, BufferPool, Cache, DataType, Discipline, ErrorKind, FailureReason, InferError, InferRequest,
    InferResponse, Instance, LookupError, Model, ModelSettings, ModelSpec, NotReady, OutputMemory, OutputSet,
    Placement, QueuePolicy, Registry, RunRequest, RunTimings, Sample, Shape, Tensor, TensorSpec, VersionState,
    testing::{Echo, Gate},
};
use tokio::task::JoinHandle;

const WIDTH: usize = 4;

fn batching(max_queue_delay: Duration) -> BatchPolicy {
    let queue = QueuePolicy { max_queue_size: 20_000, allow_timeout_override: true, ..QueuePolicy::default() };
    BatchPolicy { max_batch_size: 8, dynamic: true, max_queue_delay, queue, ..BatchPolicy::default() }
}

fn start(echo: &Echo, instances: usize, delay: Duration, warmup: Vec<usize>) -> Model {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let policy = batching(delay);
    let settings = ModelSettings { instances, warmup_batch_sizes: warmup, ..policy.into() };
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], settings).unwrap();
    let instances = (0..instances).map(|_| Box::new(echo.clone()) as Box<dyn Instance>).collect();
    Model::start(spec, instances, vec![], BufferPool::new(1 << 20), Duration::ZERO).unwrap()
}

fn request(mark: u8, rows: usize) -> InferRequest {
    let data = Bytes::from(vec![mark; rows * WIDTH]);
    InferRequest::new(
        Instant::now(),
        vec![Some(Tensor::new(DataType::Uint8, Shape::new([rows, WIDTH]), data).unwrap())],
        rows,
        OutputSet::all(1),
    )
}

fn marks(answer: &Result<InferResponse, InferError>) -> Vec<u8> {
    answer.as_ref().unwrap().outputs[0].1.data().to_vec()
}

/// Waits until other threads have made a condition true.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A request that a task waits for.
type Asked = JoinHandle<Result<InferResponse, InferError>>;

/// A model whose runs end when the gate opens, and a function that sends it a request.
fn gated(echo: &Echo) -> (Gate, Arc<Model>, impl Fn(u8, usize) -> Asked) {
    let gate = Gate::default();
    let model = Arc::new(start(&Echo { gate: Some(gate.clone()), ..echo.clone() }, 1, Duration::ZERO, vec![]));
    let asked = Arc::clone(&model);
    let ask = move |mark, rows| {
        let model = Arc::clone(&asked);
        tokio::spawn(async move { model.infer(request(mark, rows)).await })
    };
    (gate, model, ask)
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_batches_and_get_their_own_rows() {
    let gate = Gate::default();
    let echo = Echo { gate: Some(gate.clone()), ..Echo::default() };
    let model = Arc::new(start(&echo, 2, Duration::ZERO, vec![]));
    let tasks: Vec<_> = (0..100u8)
        .map(|mark| {
            let (model, rows) = (Arc::clone(&model), usize::from(mark % 3) + 1);
            tokio::spawn(async move { (mark, rows, model.infer(request(mark, rows)).await) })
        })
        .collect();
    until(|| model.pending_requests() + model.running_requests() == 100).await;
    gate.open_for(100);
    for task in tasks {
        let (mark, rows, answer) = task.await.unwrap();
        assert_eq!(marks(&answer), vec![mark; rows * WIDTH]);
    }
    let stats = model.stats();
    assert_eq!((stats.success, stats.executions), (100, echo.runs.load(SeqCst) as u64));
    assert!(stats.executions < 100, "some shared a batch");
    assert!((2..=8).contains(&echo.largest.load(SeqCst)));
    assert_eq!(model.pending_requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_does_not_fail_the_others_of_its_batch() {
    for panics in [false, true] {
        let echo = Echo { poison: Some(13), panics, ..Echo::default() };
        let (gate, model, ask) = gated(&echo);
        // They wait together while another request runs.
        let first = ask(0, 8);
        until(|| model.running_requests() == 1).await;
        let [a, bad, b] = [ask(1, 3), ask(13, 2), ask(2, 3)];
        until(|| model.pending_requests() == 3).await;
        gate.open_for(1 + 1 + 3);
        first.await.unwrap().unwrap();
        let [a, bad, b] = [a.await.unwrap(), bad.await.unwrap(), b.await.unwrap()];
        assert_eq!((marks(&a), marks(&b)), (vec![1; 3 * WIDTH], vec![2; 3 * WIDTH]));
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(echo.runs.load(SeqCst), 1 + 1 + 3, "together once, then each alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_leaves_the_queue_and_never_runs() {
    let echo = Echo::default();
    let (gate, model, ask) = gated(&echo);
    let running = ask(1, 8);
    until(|| model.running_requests() == 1).await;
    let dropped = ask(2, 1);
    until(|| model.pending_requests() == 1).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(model.pending_requests(), 0);
    gate.open_for(1);
    running.await.unwrap().unwrap();
    model.drain();
    assert_eq!(echo.runs.load(SeqCst), 1);
    assert_eq!(model.stats().failures[FailureReason::Cancelled], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_cancelled_requests_is_stopped() {
    let echo = Echo::default();
    let (_, model, ask) = gated(&echo);
    let given_up = ask(1, 8);
    until(|| echo.runs.load(SeqCst) == 1).await;
    given_up.abort();
    // The instance is idle again, though the gate is closed.
    model.drain();
    assert_eq!((echo.runs.load(SeqCst), echo.stopped.load(SeqCst)), (1, 1));
    assert_eq!((model.stats().failures[FailureReason::Cancelled], model.stats().success), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_continues_while_one_request_of_its_batch_remains() {
    let echo = Echo::default();
    let (gate, model, ask) = gated(&echo);
    let first = ask(0, 8);
    until(|| model.running_requests() == 1).await;
    // Both wait for the first one and then run together.
    let (leaves, stays) = (ask(1, 1), ask(2, 1));
    until(|| model.pending_requests() == 2).await;
    gate.open_for(1);
    first.await.unwrap().unwrap();
    until(|| echo.runs.load(SeqCst) == 2).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    gate.open_for(1);
    assert_eq!(marks(&stays.await.unwrap()), [2; WIDTH]);
    assert_eq!((echo.runs.load(SeqCst), echo.stopped.load(SeqCst)), (2, 0));
    let stats = model.stats();
    assert_eq!((stats.success, stats.failures.total(), stats.failures[FailureReason::Cancelled]), (2, 1, 1));
    let sizes: Vec<_> = stats.batches.iter().map(|batch| (batch.batch_size, batch.executions)).collect();
    assert_eq!((sizes, stats.inferences, stats.executions), (vec![(2, 1), (8, 1)], 10, 2));
}

/// Adds its optional second input, by default [`Added::DEFAULT`], to its first, row by row.
#[derive(Clone, Default)]
struct Added {
    largest: Arc<AtomicUsize>,
}

impl Added {
    const DEFAULT: u8 = 100;
}

impl Instance for Added {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let [Some(first), second] = request.inputs else {
            return Err(InferError::internal("the first input is missing"));
        };
        // A batch has as many rows of both.
        assert!(second.iter().all(|second| second.shape() == first.shape()));
        self.largest.fetch_max(first.shape().dims()[0], SeqCst);
        let more = second.as_ref().map(|second| second.data().to_vec());
        let more = more.unwrap_or_else(|| vec![Self::DEFAULT; first.data().len()]);
        let sum: Vec<_> = first.data().iter().zip(more).map(|(a, b)| a.wrapping_add(b)).collect();
        let sum = Tensor::new(DataType::Uint8, first.shape().clone(), Bytes::from(sum));
        // Long enough for other requests to form a batch.
        std::thread::sleep(Duration::from_micros(200));
        Ok(vec![Some(sum.map_err(InferError::internal)?)])
    }

    fn placement(&self) -> Placement {
        Echo::default().placement()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_with_and_without_an_optional_input_get_their_own_rows(
        sent in prop::collection::vec((any::<u8>(), 1usize..4, prop::option::of(any::<u8>())), 1..40),
    ) {
        let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
        let inputs = vec![tensor("x"), TensorSpec { optional: true, ..tensor("more") }];
        let spec = ModelSpec::new("added", 1, inputs, vec![tensor("y")], batching(Duration::ZERO)).unwrap();
        let added = Added::default();
        let instances: Vec<Box<dyn Instance>> = vec![Box::new(added.clone())];
        let model = Model::start(spec, instances, vec![], BufferPool::new(1 << 20), Duration::ZERO).unwrap();
        let answers = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let asked = sent.iter().map(|&(mark, rows, more)| {
                let mut both = request(mark, rows);
                both.inputs.push(more.and_then(|more| request(more, rows).inputs.remove(0)));
                model.infer(both)
            });
            futures_util::future::join_all(asked).await
        });
        for ((mark, rows, more), answer) in sent.into_iter().zip(answers) {
            prop_assert_eq!(marks(&answer), vec![mark.wrapping_add(more.unwrap_or(Added::DEFAULT)); rows * WIDTH]);
        }
        let stats = model.stats();
        prop_assert_eq!(stats.failures.total(), 0);
        prop_assert!(added.largest.load(SeqCst) <= 8);
    }
}

/// The next of a reproducible sequence of pseudo-random numbers.
fn scattered(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn many_cancelled_requests_lose_no_slot() {
    const REQUESTS: u64 = 10_000;
    let echo = Echo { latency: Duration::from_micros(200), ..Echo::default() };
    let model = Arc::new(start(&echo, 2, Duration::from_micros(100), vec![]));
    let mut seed = 7;
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|index| {
            let model = Arc::clone(&model);
            let (mark, rows) = (index as u8, 1 + scattered(&mut seed) as usize % 3);
            let leaves_after = (index % 2 == 0).then(|| Duration::from_micros(scattered(&mut seed) % 200_000));
            tokio::spawn(async move {
                let answer = model.infer(request(mark, rows));
                let answer = match leaves_after {
                    Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
                    None => Some(answer.await),
                };
                if let Some(answer) = &answer {
                    assert_eq!(marks(answer), vec![mark; rows * WIDTH], "its own rows");
                }
                answer.is_some()
            })
        })
        .collect();
    let mut answered = 0;
    for (index, task) in tasks.into_iter().enumerate() {
        let was_answered = task.await.unwrap();
        assert!(was_answered || index % 2 == 0, "request {index} stayed and was not answered");
        answered += u64::from(was_answered);
    }
    model.drain();
    let stats = model.stats();
    assert_eq!((model.pending_requests(), model.running_requests()), (0, 0), "no slot is lost");
    assert_eq!(stats.success + stats.failures.total(), REQUESTS, "each has one outcome");
    assert_eq!(
        stats.failures.total(),
        stats.failures[FailureReason::Cancelled],
        "the others failed because their clients left"
    );
    // Some clients leave after their response was sent.
    assert!(stats.success >= answered && answered >= REQUESTS / 2);
    assert!(echo.largest.load(SeqCst) <= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_request_never_runs() {
    let echo = Echo::default();
    let (gate, model, ask) = gated(&echo);
    let running = ask(1, 8);
    until(|| model.running_requests() == 1).await;
    let deadline = Some(Instant::now() + Duration::from_millis(5));
    let late = model.infer(InferRequest { deadline, ..request(2, 1) }).await;
    gate.open_for(1);
    running.await.unwrap().unwrap();
    assert_eq!(late.unwrap_err(), InferError::DeadlineExceeded);
    model.drain();
    assert_eq!(echo.runs.load(SeqCst), 1);
    assert_eq!(model.stats().failures[FailureReason::Rejected], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_accepted_requests() {
    let gate = Gate::default();
    let echo = Echo { gate: Some(gate.clone()), ..Echo::default() };
    let model = Arc::new(start(&echo, 1, Duration::ZERO, vec![]));
    let registry = Arc::new(Registry::default());
    registry.set("echo", 1, VersionState::Ready(Arc::clone(&model)));
    assert!(registry.is_ready());
    let tasks: Vec<_> = (0..5)
        .map(|mark| {
            let model = Arc::clone(&model);
            tokio::spawn(async move { model.infer(request(mark, 8)).await })
        })
        .collect();
    until(|| model.pending_requests() + model.running_requests() == 5).await;
    let drained = tokio::task::spawn_blocking({
        let registry = Arc::clone(&registry);
        move || registry.drain()
    });
    gate.open_for(5);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    drained.await.unwrap();
    assert_eq!(model.infer(request(9, 1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(registry.resolve("echo", None).err().unwrap().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_cache_answers_equal_requests_without_a_run() {
    let cache = Arc::new(Cache::new(1 << 20));
    let echo = Echo { poison: Some(13), ..Echo::default() };
    let model = start(&echo, 1, Duration::ZERO, vec![]).with_cache(Arc::clone(&cache));
    for (mark, rows) in [(1, 1), (2, 1), (1, 2), (1, 1), (2, 1), (1, 2)] {
        assert_eq!(marks(&model.infer(request(mark, rows)).await), vec![mark; rows * WIDTH]);
    }
    assert_eq!(echo.runs.load(SeqCst), 3);
    // Failures are not kept.
    model.infer(request(13, 1)).await.unwrap_err();
    model.infer(request(13, 1)).await.unwrap_err();
    let stats = model.stats();
    assert_eq!((stats.success, stats.failures.total(), stats.computed()), (6, 2, 3));
    assert_eq!((stats.cache_hits, stats.cache_misses), (3, 5));
    assert_eq!((stats.executions, stats.inferences), (3, 4), "answers from the cache are no inferences");
    assert_eq!(cache.len(), 3);
    // The same model, loaded again, may have changed.
    let reloaded = start(&echo, 1, Duration::ZERO, vec![]).with_cache(cache);
    reloaded.infer(request(1, 1)).await.unwrap();
    assert_eq!((reloaded.stats().cache_hits, echo.runs.load(SeqCst)), (0, 3 + 2 + 1));
}

#[test]
fn every_announced_batch_size_is_warmed() {
    let echo = Echo::default();
    let model = start(&echo, 2, Duration::ZERO, vec![1, 4, 8]);
    assert_eq!((echo.runs.load(SeqCst), echo.largest.load(SeqCst)), (6, 8));
    assert_eq!(model.stats().executions, 0, "a warm-up is not an inference");
}

#[tokio::test]
async fn an_instance_is_warmed_on_the_thread_that_it_serves_on() {
    let echo = Echo::default();
    let model = start(&echo, 1, Duration::ZERO, vec![1, 4]);
    model.infer(request(1, 1)).await.unwrap();
    assert_eq!((echo.runs.load(SeqCst), echo.threads.lock().len()), (3, 1));
    assert!(!echo.threads.lock().contains(&std::thread::current().id()));
}

#[test]
fn samples_run_count_times_before_the_announced_sizes() {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let started = |poison: Option<u8>| {
        let settings = ModelSettings { warmup_batch_sizes: vec![1], ..batching(Duration::ZERO).into() };
        let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], settings);
        let echo = Echo { poison, ..Echo::default() };
        let sample = |mark: u8, rows: usize, count: usize| Sample {
            name: format!("sample {mark}"),
            inputs: request(mark, rows).inputs.clone(),
            count,
        };
        let samples = vec![sample(5, 2, 3), sample(6, 1, 1)];
        let outcome =
            Model::start(spec.unwrap(), vec![Box::new(echo.clone())], samples, BufferPool::new(0), Duration::ZERO);
        (outcome.map(drop).map_err(|error| error.to_string()), echo.runs.load(SeqCst), echo.largest.load(SeqCst))
    };
    assert_eq!(started(None), (Ok(()), 3 + 1 + 1, 2));
    let refusal = "model 'echo' failed its warm-up: sample 6 failed: poisoned row";
    assert_eq!(started(Some(6)), (Err(refusal.into()), 3 + 1, 2));
}

#[test]
fn a_model_that_fails_a_sample_does_not_start() {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let settings = ModelSettings { instances: 2, ..batching(Duration::ZERO).into() };
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], settings).unwrap();
    let echo = Echo::default();
    let runs = Arc::clone(&echo.runs);
    let instances: Vec<Box<dyn Instance>> = vec![Box::new(echo.clone()), Box::new(Echo { poison: Some(0), ..echo })];
    let sample = Sample { name: "sample".into(), inputs: request(0, 1).inputs, count: 1 };
    let error = Model::start(spec, instances, vec![sample], BufferPool::new(0), Duration::ZERO).err().unwrap();
    assert_eq!(error.to_string(), "model 'echo' failed its warm-up: sample failed: poisoned row");
    assert_eq!((runs.load(SeqCst), Arc::strong_count(&runs)), (2, 1), "no instance is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_refuses_zeros_serves_without_that_warm_up() {
    let echo = Echo { poison: Some(0), ..Echo::default() };
    let model = start(&echo, 3, Duration::ZERO, vec![1, 4]);
    assert_eq!(echo.runs.load(SeqCst), 1, "what the first instance refused, the others are spared");
    assert_eq!(model.warmed_batch_sizes(), [0; 0]);
    assert_eq!(marks(&model.infer(request(7, 1)).await), [7; WIDTH]);
    assert_eq!(start(&Echo::default(), 3, Duration::ZERO, vec![1, 4]).warmed_batch_sizes(), [1, 4]);
}

#[test]
fn unknown_models_and_versions_are_not_found() {
    let registry = Registry::default();
    assert!(!registry.is_ready(), "a service without a model is not ready");
    let error = |name, version| *registry.resolve(name, version).err().unwrap();
    let unknown = |model: &str, version| LookupError { model: model.into(), version, reason: NotReady::Unknown };
    assert_eq!(error("nosuch", None), unknown("nosuch", None));
    let model = start(&Echo::default(), 1, Duration::ZERO, vec![]);
    registry.set("echo", 1, VersionState::Ready(Arc::new(model)));
    assert_eq!(error("echo", Some(99)), unknown("echo", Some(99)));
    registry.set("echo", 2, VersionState::Loading);
    assert_eq!(registry.resolve("echo", None).unwrap().spec().version(), 1, "the old version serves until then");
}

/// The number of threads that ran `requests` requests, which this thread sent one after the other.
async fn threads_of(echo: &Echo, requests: usize) -> usize {
    let model = start(echo, 1, Duration::ZERO, vec![]);
    for _ in 0..requests {
        let answer = model.infer(request(7, 2)).await;
        assert_eq!(marks(&answer), vec![7; 2 * WIDTH]);
    }
    let stats = model.stats();
    assert_eq!((stats.success, stats.executions), (requests as u64, requests as u64));
    assert_eq!((model.pending_requests(), model.running_requests()), (0, 0));
    let threads = echo.threads.lock();
    assert_eq!(threads.contains(&std::thread::current().id()), threads.len() > 1);
    threads.len()
}

#[tokio::test]
async fn a_quick_model_runs_on_the_callers_thread_if_it_may() {
    // Many requests, because on a busy machine any of them may be slow.
    assert_eq!(threads_of(&Echo { runs_on_any_thread: true, ..Echo::default() }, 2000).await, 2);
    assert_eq!(threads_of(&Echo::default(), 100).await, 1, "not if it may not move");
    let slow = Echo { runs_on_any_thread: true, latency: Duration::from_millis(1), ..Echo::default() };
    assert_eq!(threads_of(&slow, 30).await, 1, "nor if it would keep this thread from others");
}

#[tokio::test]
async fn a_failure_on_the_callers_thread_fails_only_its_request() {
    let echo = Echo { runs_on_any_thread: true, poison: Some(13), panics: true, ..Echo::default() };
    let model = start(&echo, 1, Duration::ZERO, vec![]);
    for _ in 0..200 {
        assert_eq!(marks(&model.infer(request(7, 1)).await), vec![7; WIDTH]);
        assert_eq!(model.infer(request(13, 1)).await.unwrap_err().kind(), ErrorKind::Internal);
    }
    model.drain();
    assert_eq!(model.infer(request(7, 1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_and_instance_threads_share_the_instances() {
    let echo = Echo { runs_on_any_thread: true, ..Echo::default() };
    let model = Arc::new(start(&echo, 2, Duration::ZERO, vec![]));
    let tasks: Vec<_> = (0..8u8)
        .map(|mark| {
            let model = Arc::clone(&model);
            tokio::spawn(async move {
                for _ in 0..500 {
                    assert_eq!(marks(&model.infer(request(mark, 1)).await), vec![mark; WIDTH]);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = model.stats();
    assert_eq!((stats.success, stats.executions), (4000, echo.runs.load(SeqCst) as u64));
    assert_eq!((model.pending_requests(), model.running_requests()), (0, 0));
}

/// A model with an adaptive queue, whose clients give up: the newest request runs first, and the oldest are refused.
#[tokio::test]
async fn while_clients_give_up_the_newest_request_runs_first() {
    let gate = Gate::default();
    let echo = Echo { gate: Some(gate.clone()), ..Echo::default() };
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let policy = BatchPolicy { max_batch_size: 1, discipline: Discipline::Adaptive, ..BatchPolicy::default() };
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
    let model = Model::start(spec, vec![Box::new(echo)], vec![], BufferPool::new(1 << 20), Duration::ZERO).unwrap();
    let model = Arc::new(model);
    let send = |mark| {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.infer(request(mark, 1)).await })
    };
    gate.open_for(1);
    send(0).await.unwrap().unwrap();
    // The first runs, the second waits for longer than two runs, and leaves.
    let _running = send(1);
    until(|| model.running_requests() == 1).await;
    let leaving = send(2);
    until(|| model.pending_requests() == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let older = send(3);
    until(|| model.pending_requests() == 2).await;
    leaving.abort();
    until(|| model.pending_requests() == 1).await;
    let newer = send(4);
    until(|| model.pending_requests() == 2).await;
    gate.open_for(2);
    assert_eq!(marks(&newer.await.unwrap()), [4; WIDTH]);
    assert!(!older.is_finished());
    gate.open_for(1);
    assert_eq!(marks(&older.await.unwrap()), [3; WIDTH]);
}

/// Memory that cannot be looked at.
#[derive(Debug)]
struct Broken;

impl AsRef<[u8]> for Broken {
    #[allow(clippy::panic)] // As a bug may.
    fn as_ref(&self) -> &[u8] {
        panic!("broken memory")
    }
}

// SAFETY: no memory is given out.
unsafe impl OutputMemory for Broken {
    #[allow(clippy::panic)] // As a bug may.
    fn start(&self) -> *mut u8 {
        panic!("broken memory")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_beside_the_run_costs_its_request_only() {
    // Runs on the instance's thread, and, when the model is known to be quick, on this one.
    for runs_on_any_thread in [false, true] {
        let echo = Echo { runs_on_any_thread, ..Echo::default() };
        let model = start(&echo, 1, Duration::ZERO, vec![]);
        for mark in 0..20 {
            let broken = InferRequest { output_memory: vec![(0, Arc::new(Broken))], ..request(mark, 1) };
            assert_eq!(model.infer(broken).await.unwrap_err(), InferError::Panicked);
            assert_eq!(marks(&model.infer(request(mark, 1)).await), [mark; WIDTH]);
        }
        assert_eq!((model.stats().failures[FailureReason::Backend], model.stats().success), (20, 20));
        assert_eq!((model.pending_requests(), model.running_requests()), (0, 0));
        model.drain();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::panic)] // As a bug may.
async fn an_observer_that_panics_costs_no_response() {
    let model = start(&Echo::default(), 1, Duration::ZERO, vec![]);
    model.on_success(|_, _| panic!("broken metric"));
    for mark in 0..3 {
        assert_eq!(marks(&model.infer(request(mark, 1)).await), [mark; WIDTH]);
    }
    assert_eq!((model.pending_requests(), model.running_requests()), (0, 0));
}

/// A model without a batch: all requests get their first row, and its mark.
struct First;

impl Instance for First {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let rows = request.inputs[0].as_ref().unwrap();
        let first = Tensor::new(DataType::Uint8, Shape::new([1, WIDTH]), rows.data().slice(..WIDTH)).unwrap();
        Ok(vec![Some(first)])
    }
    fn placement(&self) -> Placement {
        Placement::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_batching_was_only_assumed_requests_get_what_the_model_gives() {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let started = |batching_is_assumed| {
        let settings = ModelSettings { batching_is_assumed, ..batching(Duration::ZERO).into() };
        let spec = ModelSpec::new("first", 1, vec![tensor("x")], vec![tensor("y")], settings).unwrap();
        Arc::new(Model::start(spec, vec![Box::new(First)], vec![], BufferPool::new(0), Duration::ZERO).unwrap())
    };
    let model = started(true);
    let tasks: Vec<_> = (1..40u8)
        .map(|mark| {
            let model = Arc::clone(&model);
            tokio::spawn(async move { (mark, model.infer(request(mark, 2)).await) })
        })
        .collect();
    for task in tasks {
        let (mark, answer) = task.await.unwrap();
        assert_eq!(marks(&answer), [mark; WIDTH]);
    }
    let error = started(false).infer(request(1, 2)).await.unwrap_err();
    assert!(error.to_string().contains("output 'y' of model 'first' has shape [1,4] for a batch of 2"), "{error}");
}
