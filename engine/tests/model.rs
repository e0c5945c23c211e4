//! A model in service, with real threads and a scripted backend.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, ErrorKind, InferError, InferRequest, InferResponse, Instance, Model, ModelSpec,
    OutputSet, QueuePolicy, Registry, Shape, StageTimings, Tensor, TensorSpec, VersionState, testing::Echo,
};

const WIDTH: usize = 4;

fn batching(max_queue_delay: Duration) -> BatchPolicy {
    let queue = QueuePolicy { max_queue_size: 20_000, allow_timeout_override: true, ..QueuePolicy::default() };
    BatchPolicy { max_batch_size: 8, dynamic: true, max_queue_delay, queue, ..BatchPolicy::default() }
}

fn start(echo: &Echo, instances: usize, delay: Duration, warmup: Vec<usize>) -> Model {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let policy = batching(delay);
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy, instances, warmup).unwrap();
    let instances = (0..instances).map(|_| Box::new(echo.clone()) as Box<dyn Instance>).collect();
    Model::start(spec, instances, BufferPool::new(1 << 20), Duration::ZERO).unwrap()
}

fn request(mark: u8, rows: usize) -> InferRequest {
    let data = Bytes::from(vec![mark; rows * WIDTH]);
    InferRequest {
        started: Instant::now(),
        inputs: vec![Tensor::new(DataType::Uint8, Shape::new([rows, WIDTH]), data).unwrap()],
        rows,
        outputs: OutputSet::all(1),
        priority: 0,
        deadline: None,
        timings: StageTimings::default(),
    }
}

fn marks(answer: &Result<InferResponse, InferError>) -> Vec<u8> {
    answer.as_ref().unwrap().outputs[0].1.data().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_share_batches_and_get_their_own_rows() {
    let echo = Echo { latency: Duration::from_millis(2), ..Echo::default() };
    let model = Arc::new(start(&echo, 2, Duration::ZERO, vec![]));
    let tasks: Vec<_> = (0..100u8)
        .map(|mark| {
            let (model, rows) = (Arc::clone(&model), usize::from(mark % 3) + 1);
            tokio::spawn(async move { (mark, rows, model.infer(request(mark, rows)).await) })
        })
        .collect();
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
async fn one_bad_request_does_not_harm_the_others_of_its_batch() {
    for panics in [false, true] {
        let echo = Echo { poison: Some(13), panics, latency: Duration::from_millis(20), ..Echo::default() };
        let model = start(&echo, 1, Duration::ZERO, vec![]);
        // They wait together behind a request that runs.
        let first = async {
            model.infer(request(0, 8)).await.unwrap();
        };
        let ((), a, bad, b) =
            tokio::join!(first, model.infer(request(1, 3)), model.infer(request(13, 2)), model.infer(request(2, 3)));
        assert_eq!((marks(&a), marks(&b)), (vec![1; 3 * WIDTH], vec![2; 3 * WIDTH]));
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(echo.runs.load(SeqCst), 1 + 1 + 3, "together once, then each alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_leaves_the_queue_and_never_runs() {
    let echo = Echo { latency: Duration::from_millis(100), ..Echo::default() };
    let model = start(&echo, 1, Duration::ZERO, vec![]);
    let running = model.infer(request(1, 8));
    let waiting = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _ = tokio::time::timeout(Duration::from_millis(10), model.infer(request(2, 1))).await;
        assert_eq!(model.pending_requests(), 0);
    };
    let (answer, ()) = tokio::join!(running, waiting);
    answer.unwrap();
    model.drain();
    assert_eq!(echo.runs.load(SeqCst), 1);
    assert!(model.stats().failures.contains(&("CANCELED", 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_request_never_runs() {
    let echo = Echo { latency: Duration::from_millis(100), ..Echo::default() };
    let model = start(&echo, 1, Duration::ZERO, vec![]);
    let late = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        model.infer(InferRequest { deadline, ..request(2, 1) }).await
    };
    let (running, late) = tokio::join!(model.infer(request(1, 8)), late);
    running.unwrap();
    let error = late.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::DeadlineExceeded, "Request timeout expired"));
    model.drain();
    assert_eq!(echo.runs.load(SeqCst), 1);
    assert!(model.stats().failures.contains(&("REJECTED", 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_answers_what_was_accepted() {
    let echo = Echo { latency: Duration::from_millis(30), ..Echo::default() };
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
    while model.pending_requests() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let drained = tokio::task::spawn_blocking({
        let registry = Arc::clone(&registry);
        move || registry.drain()
    });
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    drained.await.unwrap();
    assert_eq!(model.infer(request(9, 1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(registry.resolve("echo", None).err().unwrap().kind(), ErrorKind::Unavailable);
}

#[test]
fn every_announced_batch_size_is_warmed() {
    let echo = Echo::default();
    let model = start(&echo, 2, Duration::ZERO, vec![1, 4, 8]);
    assert_eq!((echo.runs.load(SeqCst), echo.largest.load(SeqCst)), (6, 8));
    assert_eq!(model.stats().executions, 0, "a warm-up is not an inference");
}

#[test]
fn a_model_that_fails_its_warm_up_does_not_start() {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(WIDTH)]);
    let policy = batching(Duration::ZERO);
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy, 1, vec![1]).unwrap();
    let echo = Echo { poison: Some(0), ..Echo::default() };
    let error = Model::start(spec, vec![Box::new(echo)], BufferPool::new(0), Duration::ZERO).err().unwrap();
    assert_eq!(error.to_string(), "model 'echo' failed its warm-up: poisoned row");
}

#[test]
fn unknown_models_are_named_in_tritons_words() {
    let registry = Registry::default();
    assert!(!registry.is_ready(), "a service without a model is not ready");
    let message = |name, version| registry.resolve(name, version).err().unwrap().to_string();
    assert_eq!(message("nosuch", None), "Request for unknown model: 'nosuch' is not found");
    let model = start(&Echo::default(), 1, Duration::ZERO, vec![]);
    registry.set("echo", 1, VersionState::Ready(Arc::new(model)));
    assert_eq!(message("echo", Some(99)), "Request for unknown model: 'echo' version 99 is not found");
    registry.set("echo", 2, VersionState::Loading);
    assert_eq!(registry.resolve("echo", None).unwrap().spec().version(), 1, "the old version serves until then");
}
