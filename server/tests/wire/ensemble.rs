//! Ensembles: steps in parallel, what a request passes to its steps, and cancelled requests.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use quintet_engine::{
    BatchPolicy, DataType, FailureReason, InferError, Instance, Model, ModelSpec, QueuePolicy, SentInput, StageTimings,
    TensorSpec, testing::Echo,
};
use quintet_proto::inference::{ModelConfig, model_ensembling::Step};
use quintet_server::{
    kserve::{self, Answer, Call, WantedOutput, ensemble::Ensemble},
    service::Service,
};

use crate::support::{Gate, Server, WIDTH, floats, start};

/// Requests with the highest priority that may wait for a step.
const URGENT_QUEUE: usize = 1;

fn spec(name: &str, inputs: &[&str], outputs: &[&str]) -> ModelSpec {
    let tensors =
        |names: &[&str]| names.iter().map(|name| TensorSpec::new(*name, DataType::Fp32, [Some(WIDTH)])).collect();
    let queue = QueuePolicy { allow_timeout_override: true, ..QueuePolicy::default() };
    let policy = BatchPolicy {
        max_batch_size: 1,
        dynamic: true,
        priority_levels: 2,
        default_priority: 2,
        priority_queues: [(1, QueuePolicy { max_queue_size: URGENT_QUEUE, ..queue.clone() })].into(),
        queue,
        ..BatchPolicy::default()
    };
    ModelSpec::new(name, 1, tensors(inputs), tensors(outputs), policy).unwrap()
}

pub fn put_step(service: &Service, name: &str, instance: Box<dyn Instance>) {
    let model = Model::start(
        spec(name, &["x"], &["y"]),
        vec![instance],
        vec![],
        service.catalog().pool().clone(),
        Duration::ZERO,
    );
    service.catalog().put(model.unwrap(), ModelConfig { name: name.into(), ..Default::default() });
}

/// Puts an ensemble into service; steps have the form `model input output`.
pub fn put_ensemble(service: &Arc<Service>, name: &str, outputs: &[&str], steps: &[&str]) {
    let steps = steps.iter().map(|step| {
        let [model, input, output] = step.split(' ').collect::<Vec<_>>()[..] else { panic!("{step}") };
        let map = |from: &str, to: &str| [(from.to_owned(), to.to_owned())].into();
        let (input_map, output_map) = (map("x", input), map("y", output));
        Step { model_name: model.into(), model_version: -1, input_map, output_map, ..Default::default() }
    });
    let spec = spec(name, &["x"], outputs);
    let ensemble = Ensemble::new(&spec, &steps.collect::<Vec<_>>(), service.catalog()).unwrap();
    let pool = service.catalog().pool().clone();
    let model = Model::compose(spec, Box::new(ensemble), Ensemble::placement(), pool, Duration::ZERO);
    service.catalog().put(model, ModelConfig { name: name.into(), platform: "ensemble".into(), ..Default::default() });
}

/// The ensemble `fan` passes its input to `left` and `right`, which wait for the gate and return `a` and `b`.
async fn fan() -> (Server, Gate) {
    let server = start().await;
    for name in ["left", "right"] {
        put_step(&server.service, name, Box::new(server.gate.clone()));
    }
    put_ensemble(&server.service, "fan", &["a", "b"], &["left x a", "right x b"]);
    let gate = server.gate.clone();
    (server, gate)
}

#[derive(Clone, Copy, Default)]
struct Ask {
    only: Option<&'static str>,
    priority: u32,
    timeout: Option<Duration>,
}

/// Asks the model of this name.
fn ask(server: &Server, name: &str, ask: Ask) -> impl Future<Output = Result<Answer, InferError>> + use<> {
    carry_out(Arc::clone(&server.service), server.model(name), ask)
}

async fn carry_out(service: Arc<Service>, model: Arc<Model>, ask: Ask) -> Result<Answer, InferError> {
    let data = Bytes::from(vec![1; WIDTH * 4]);
    let call = Call {
        id: "r1",
        inputs: vec![SentInput { name: "x", data_type: Some(DataType::Fp32), shape: vec![1, WIDTH as i64], data }],
        outputs: ask.only.iter().map(|name| WantedOutput { name, classes: None, shared: None }).collect(),
        priority: ask.priority,
        timeout: ask.timeout,
        deadline: None,
        started: std::time::Instant::now(),
        timings: StageTimings::default(),
    };
    kserve::infer(service.catalog(), model, call, None).await
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn independent_steps_run_in_parallel() {
    let (server, gate) = fan().await;
    let asked = tokio::spawn(ask(&server, "fan", Ask::default()));
    // Neither can end before both have started.
    until(|| gate.entered() == 2).await;
    gate.open();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let answer = ask(&server, "fan", Ask { only: Some("b"), ..Ask::default() }).await.unwrap();
    assert_eq!(answer.outputs.len(), 1);
    let runs = ["fan", "left", "right"].map(|name| server.model(name).stats().executions);
    assert_eq!(runs, [2, 1, 2], "a step whose output is not requested does not run");
    assert_eq!(server.model("fan").stats().queue, Duration::ZERO);
}

#[tokio::test]
async fn two_hundred_requests_at_once_need_no_threads() {
    let (server, gate) = fan().await;
    let asked: Vec<_> = (0..200).map(|_| tokio::spawn(ask(&server, "fan", Ask::default()))).collect();
    let steps = ["left", "right"].map(|name| server.model(name));
    until(|| steps.iter().all(|step| step.pending_requests() + step.running_requests() == 200)).await;
    assert_eq!(server.model("fan").running_requests(), 200);
    // This test's runtime has one thread, a step has one for its instance, and the ensemble has none.
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default());
    let names: Vec<_> = names.filter(|name| name.starts_with("fan")).collect();
    assert!(names.is_empty(), "{names:?}");
    gate.open();
    for answer in asked {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(server.model("fan").stats().success, 200);
}

#[tokio::test]
async fn a_cancelled_request_frees_the_slots_of_its_steps() {
    let (server, gate) = fan().await;
    let running = tokio::spawn(ask(&server, "fan", Ask::default()));
    until(|| gate.entered() == 2).await;
    let mut client = server.client().await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        let mut client = client.clone();
        calls.push(tokio::spawn(async move { client.model_infer(floats("fan", 1)).await }));
    }
    let steps = ["left", "right"].map(|name| server.model(name));
    until(|| steps.iter().all(|step| step.pending_requests() == 5)).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| steps.iter().all(|step| step.pending_requests() == 0)).await;
    until(|| server.model("fan").running_requests() == 1).await;
    gate.open();
    running.await.unwrap().unwrap();
    client.model_infer(floats("fan", 1)).await.unwrap();
    for model in [&steps[0], &steps[1], &server.model("fan")] {
        let stats = model.stats();
        assert_eq!((stats.success, stats.failures[FailureReason::Cancelled]), (2, 5));
    }
}

#[tokio::test]
async fn priority_and_remaining_timeout_are_passed_to_the_steps() {
    let (server, gate) = fan().await;
    let fan = || server.model("fan");
    let running = tokio::spawn(ask(&server, "fan", Ask::default()));
    until(|| gate.entered() == 2).await;
    let hasty = Ask { timeout: Some(Duration::from_millis(5)), ..Ask::default() };
    let error = ask(&server, "fan", hasty).await.err().unwrap();
    assert_eq!(error.to_string(), "in ensemble 'fan', Request timeout expired");

    let urgent = Ask { priority: 1, ..Ask::default() };
    let waiting = tokio::spawn(ask(&server, "fan", urgent));
    until(|| server.model("left").pending_requests() == URGENT_QUEUE).await;
    let error = ask(&server, "fan", urgent).await.err().unwrap();
    assert_eq!(error.to_string(), "in ensemble 'fan', Exceeds maximum queue size");
    gate.open();
    for asked in [running, waiting] {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(fan().stats().failures[FailureReason::Other], 2);
}

#[tokio::test]
async fn a_failed_or_missing_step_is_reported_in_tritons_words() {
    let (server, gate) = fan().await;
    gate.open();
    put_step(&server.service, "poisoned", Box::new(Echo { poison: Some(1), ..Echo::default() }));
    put_ensemble(&server.service, "inner", &["y"], &["poisoned x y"]);
    put_ensemble(&server.service, "outer", &["y"], &["left x middle", "inner middle y"]);
    let refusal = async |name: &str| ask(&server, name, Ask::default()).await.err().unwrap();
    assert_eq!(refusal("outer").await.to_string(), "in ensemble 'outer', in ensemble 'inner', poisoned row");
    server.service.catalog().unload("poisoned");
    assert_eq!(
        refusal("inner").await.to_string(),
        "in ensemble 'inner', Request for unknown model: 'poisoned' has no available versions"
    );
    // The request's id is passed to the step.
    put_step(&server.service, "poisoned", Box::new(Echo::default()));
    let wide = TensorSpec::new("x", DataType::Fp32, [Some(WIDTH + 1)]);
    let wide = ModelSpec::new("poisoned", 1, vec![wide.clone()], vec![wide], BatchPolicy::default());
    let pool = server.service.catalog().pool().clone();
    let model = Model::start(wide.unwrap(), vec![Box::new(Echo::default())], vec![], pool, Duration::ZERO).unwrap();
    server.service.catalog().put(model, ModelConfig { name: "poisoned".into(), ..Default::default() });
    let error = refusal("inner").await;
    assert!(error.to_string().starts_with("in ensemble 'inner', [request id: r1] unexpected shape"), "{error}");
}

#[tokio::test]
async fn a_ring_of_ensembles_ends() {
    let server = start().await;
    put_step(&server.service, "a", Box::new(Echo::default()));
    put_ensemble(&server.service, "b", &["y"], &["a x y"]);
    put_ensemble(&server.service, "a", &["y"], &["b x y"]);
    let error = ask(&server, "a", Ask::default()).await.err().unwrap();
    assert!(error.to_string().ends_with("is within 16 others; at most that many may be"), "{error}");
}
