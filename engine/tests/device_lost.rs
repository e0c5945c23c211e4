//! A device that fails: the runs' errors, and the models that are taken out of service.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use quintet_engine::{
    BatchPolicy, BufferPool, DataType, ErrorKind, InferError, InferRequest, Model, ModelSettings, ModelSpec, NotReady,
    OutputSet, Registry, Shape, StartError, Tensor, TensorSpec, VersionState,
    testing::{Echo, Gate},
};

fn fault() -> InferError {
    InferError::new(ErrorKind::DeviceLost, "CUDA failure 700")
}

fn start(name: &str, echo: &Echo, warmup: Vec<usize>) -> Result<Model, StartError> {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [Some(1)]);
    let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
    let settings = ModelSettings { warmup_batch_sizes: warmup, ..policy.into() };
    let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], settings).unwrap();
    Model::start(spec, vec![Box::new(echo.clone())], vec![], BufferPool::new(1 << 20), Duration::ZERO)
}

fn request() -> InferRequest {
    let x = Tensor::new(DataType::Uint8, Shape::new([1, 1]), Bytes::from_static(&[1])).unwrap();
    InferRequest::new(Instant::now(), vec![Some(x)], 1, OutputSet::all(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_device_fails_the_whole_batch_in_one_run() {
    let gate = Gate::default();
    let echo = Echo { gate: Some(gate.clone()), ..Echo::default() };
    let model = Arc::new(start("echo", &echo, vec![]).unwrap());
    let observed = Arc::new(AtomicUsize::new(0));
    model.on_device_lost({
        let observed = Arc::clone(&observed);
        move |error| {
            assert_eq!(*error, fault());
            observed.fetch_add(1, SeqCst);
        }
    });
    let ask = || {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.infer(request()).await })
    };
    // The first runs alone and waits; the others form a batch behind it.
    let first = ask();
    while echo.runs.load(SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let others = [ask(), ask(), ask()];
    while model.pending_requests() < others.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    *echo.fault.lock() = Some(fault());
    gate.open_for(2);
    assert_eq!(first.await.unwrap().unwrap_err(), fault());
    for other in others {
        assert_eq!(other.await.unwrap().unwrap_err(), fault());
    }
    assert_eq!((echo.runs.load(SeqCst), observed.load(SeqCst)), (2, 2));
}

#[test]
fn a_warm_up_that_loses_the_device_says_so() {
    let echo = Echo::default();
    *echo.fault.lock() = Some(fault());
    let error = start("echo", &echo, vec![1]).err().unwrap();
    assert_eq!(error.device_lost(), Some(&fault()));
    *echo.fault.lock() = Some(InferError::Misconfigured("another reason".into()));
    assert_eq!(start("echo", &echo, vec![1]).err().unwrap().device_lost(), None);
    // Zeros that a model refuses are nobody's request.
    *echo.fault.lock() = Some(InferError::internal("no zeros"));
    assert!(start("echo", &echo, vec![1]).unwrap().warmed_batch_sizes().is_empty());
}

#[test]
fn models_on_a_lost_device_are_out_of_service() {
    let registry = Registry::default();
    let on_gpu = Echo { gpu: Some("GPU".into()), ..Echo::default() };
    for (name, echo) in [("cpu", Echo::default()), ("gpu", on_gpu)] {
        registry.set(name, 1, VersionState::Ready(Arc::new(start(name, &echo, vec![]).unwrap())));
    }
    registry.set("loading", 1, VersionState::Loading);
    let lost = registry.lose_device("CUDA failure 700", |model| model.placement().gpu.is_some());
    assert_eq!(lost.iter().map(|model| model.spec().name()).collect::<Vec<_>>(), ["gpu"]);
    assert!(registry.resolve("cpu", None).is_ok());
    let reason = |name| registry.resolve(name, None).err().unwrap().reason;
    assert_eq!(reason("gpu"), NotReady::DeviceLost("CUDA failure 700".into()));
    assert_eq!(reason("loading"), NotReady::Loading);
    assert!(!registry.are_all_ready());
}
