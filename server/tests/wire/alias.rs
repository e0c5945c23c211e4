//! Outputs whose memory is not their own: inputs that are outputs, one tensor under several names, outputs in shared
//! memory, and ensembles of them. Many clients at once, each of which checks every answer.
//!
//! `QUINTET_ALIAS_REQUESTS` sets the number of requests of each test (2,000 unless it is set).

use std::{fs, path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;
use quintet_engine::{DataType, SentInput, StageTimings};
use quintet_models::passthrough::{DEFAULT_FACTOR, NEGATED, SAME, write_aliases};
use quintet_proto::{
    elements,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use quintet_server::{
    kserve::{
        self, Call, WantedOutput,
        shared_memory::{Limits, SharedMemory},
    },
    repository::Mode,
};

use crate::support::{Server, attach, start};

const CLIENTS: usize = 8;

/// Widths of `x`: none, less than the pool keeps, and more.
const WIDTHS: [usize; 6] = [0, 1, 100, 1024, 5000, 20_000];

fn requests() -> usize {
    std::env::var("QUINTET_ALIAS_REQUESTS").map_or(2000, |number| number.parse().unwrap())
}

async fn serve(config: &str, has_more: bool, ensembles: &[(&str, &str)]) -> (Server, tempfile::TempDir) {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_aliases(root.path(), config, has_more).unwrap();
    let mut names = vec!["aliases".to_owned()];
    for (name, config) in ensembles {
        fs::create_dir_all(root.path().join(name).join("1")).unwrap();
        fs::write(root.path().join(name).join("config.pbtxt"), config).unwrap();
        names.push((*name).to_owned());
    }
    let failed = attach(&server, root.path(), Mode::None).start(&names).await;
    assert!(failed.is_empty(), "{failed:?}");
    (server, root)
}

fn bytes(numbers: &[f32]) -> Bytes {
    bytemuck::cast_slice(numbers).to_vec().into()
}

/// What one request sends, and what has to come back under each name.
struct Case {
    inputs: Vec<(InferInputTensor, Bytes)>,
    expected: Vec<(&'static str, Bytes)>,
}

impl Case {
    /// Request `turn` of a client: no two have the same numbers.
    fn new(client: usize, turn: usize, rows: usize, has_more: bool) -> Self {
        let width = WIDTHS[(client + turn) % WIDTHS.len()];
        let mark = (client * 1_000_000 + turn + 1) as f32;
        let x = vec![mark; rows * width];
        let input = |name: &str, data_type: &str, shape: &[usize]| InferInputTensor {
            name: name.into(),
            datatype: data_type.into(),
            shape: shape.iter().map(|&dim| dim as i64).collect(),
            ..Default::default()
        };
        let mut inputs = vec![(input("x", "FP32", &[rows, width]), bytes(&x))];
        let negated: Vec<_> = x.iter().map(|x| -x).collect();
        let mut expected: Vec<_> = SAME.map(|name| (name, bytes(&x))).into();
        expected.extend(NEGATED.map(|name| (name, bytes(&negated))));
        if has_more {
            let text = elements::encode([mark.to_string(), String::new(), "x".repeat(turn % 5000)]);
            inputs.push((input("text", "BYTES", &[1, 3]), text.clone()));
            let factor = turn.is_multiple_of(3).then(|| bytes(&[mark]));
            inputs.extend(factor.clone().map(|factor| (input("factor", "FP32", &[1, 1]), factor)));
            expected.extend([
                ("text", text),
                ("factor", factor.unwrap_or_else(|| bytes(&[DEFAULT_FACTOR]))),
                ("constant", bytes(&[DEFAULT_FACTOR])),
            ]);
        }
        Self { inputs, expected }
    }
}

/// Sends `requests()` cases over gRPC, [`CLIENTS`] at once, and checks every output.
async fn ask_all(server: &Server, model: &'static str, case: impl Fn(usize, usize) -> Case + Copy + Send + 'static) {
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = server.client().await.max_decoding_message_size(64 << 20);
        clients.push(tokio::spawn(async move {
            let mut wrong = Vec::new();
            for turn in 0..requests() / CLIENTS {
                let Case { inputs, expected } = case(client, turn);
                let (inputs, raw_input_contents) = inputs.into_iter().unzip();
                let request =
                    ModelInferRequest { model_name: model.into(), inputs, raw_input_contents, ..Default::default() };
                let answer = connection.model_infer(request).await.unwrap().into_inner();
                assert_eq!(answer.outputs.len(), expected.len());
                let named = answer.outputs.iter().zip(&answer.raw_output_contents);
                let named: Vec<_> = named.map(|(output, data)| (output.name.as_str(), data)).collect();
                let is_right = |(name, data): &(&str, Bytes)| named.contains(&(*name, data));
                wrong.extend(expected.iter().filter(|one| !is_right(one)).map(|(name, _)| (client, turn, *name)));
            }
            wrong
        }));
    }
    let mut wrong = Vec::new();
    for client in clients {
        wrong.extend(client.await.unwrap());
    }
    let (count, asked) = (wrong.len(), requests() / CLIENTS * CLIENTS);
    eprintln!("{model}: {asked} answers, {count} outputs wrong");
    assert!(wrong.is_empty(), "{count} outputs wrong in {asked} answers, the first are {:?}", &wrong[..count.min(9)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_client_gets_its_own_tensors() {
    let config = "backend: \"onnxruntime\" input [
        { name: \"x\" data_type: TYPE_FP32 dims: [ -1, -1 ] },
        { name: \"text\" data_type: TYPE_STRING dims: [ -1, -1 ] },
        { name: \"factor\" data_type: TYPE_FP32 dims: [ -1, 1 ] optional: true }
    ]";
    let (server, _root) = serve(config, true, &[]).await;
    ask_all(&server, "aliases", |client, turn| Case::new(client, turn, 1, true)).await;
}

/// Batches of one request, and of several.
const BATCHED: &str =
    "backend: \"onnxruntime\" max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 200 }
    instance_group { count: 2 kind: KIND_CPU }";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_client_gets_its_own_rows_of_a_batch() {
    let (server, _root) = serve(BATCHED, false, &[]).await;
    ask_all(&server, "aliases", |client, turn| Case::new(client, turn, 1 + turn % 3, false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_client_of_an_ensemble_gets_its_own_tensors() {
    const TENSOR: &str = "data_type: TYPE_FP32 dims: [ -1 ]";
    let output = |name: &&str| format!("output {{ name: \"{name}\" {TENSOR} }}");
    let outputs: String = SAME.iter().chain(&NEGATED).map(output).collect();
    let map = |from: &str, to: &str| format!("output_map {{ key: \"{from}\" value: \"{to}\" }}");
    // The first step's `x` is the second step's; the ensemble's `x` is its own input, untouched.
    let second: String = SAME[1..].iter().chain(&NEGATED).map(|name| map(name, name)).collect();
    let config = format!(
        "max_batch_size: 8 input {{ name: \"x\" {TENSOR} }} {outputs}
         ensemble_scheduling {{
           step {{ model_name: \"aliases\" model_version: -1 input_map {{ key: \"x\" value: \"x\" }} {} }}
           step {{ model_name: \"aliases\" model_version: -1 input_map {{ key: \"x\" value: \"middle\" }} {second} }}
         }}",
        map("x", "middle")
    );
    let (server, _root) = serve(BATCHED, false, &[("chain", &config)]).await;
    ask_all(&server, "chain", |client, turn| Case::new(client, turn, 1 + turn % 2, false)).await;
}

/// An object in shared memory that goes with the test.
struct Object(PathBuf);

impl Object {
    fn new(name: &str, bytes: usize) -> (Self, String) {
        let name = format!("quintet-alias-{}-{name}", std::process::id());
        let path = PathBuf::from("/dev/shm").join(&name);
        fs::write(&path, vec![0; bytes]).unwrap();
        (Self(path), format!("/{name}"))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_client_gets_its_own_tensors_in_its_own_shared_memory() {
    const WIDTH: usize = 4096;
    const BYTES: usize = WIDTH * 4;
    let tensor =
        |kind: &str, name: &str| format!("{kind} {{ name: \"{name}\" data_type: TYPE_FP32 dims: [ {WIDTH} ] }}");
    let outputs: String = SAME.iter().chain(&NEGATED).map(|name| tensor("output", name)).collect();
    let config = format!("{BATCHED} {} {outputs}", tensor("input", "x"));
    let (server, _root) = serve(&config, false, &[]).await;
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let (service, model) = (Arc::clone(&server.service), server.model("aliases"));
        clients.push(tokio::spawn(async move {
            let (object, key) = Object::new(&client.to_string(), 10 * BYTES);
            let memory = SharedMemory::new(Some(Limits { max_regions: 1, max_bytes: 1 << 30 }));
            memory.register("r", &key, 0, 10 * BYTES as u64).unwrap();
            let range = |slot: usize| memory.range("r", (slot * BYTES) as u64, BYTES as u64).unwrap();
            let mut wrong = Vec::new();
            for turn in 0..requests() / CLIENTS {
                let mark = (client * 1_000_000 + turn + 1) as f32;
                let (x, negated) = (bytes(&[mark; WIDTH]), bytes(&[-mark; WIDTH]));
                let input = match turn % 3 {
                    // In a buffer that another request has next.
                    0 => {
                        let mut buffer = model.pool().take(BYTES);
                        buffer.copy_from_slice(&x);
                        buffer.freeze()
                    }
                    // In shared memory, beside the outputs.
                    1 => {
                        range(9).write("x", &x).unwrap();
                        range(9).read(Some(DataType::Fp32))
                    }
                    // Where an output goes.
                    _ => {
                        range(turn % 9).write("x", &x).unwrap();
                        range(turn % 9).read(Some(DataType::Fp32))
                    }
                };
                let outputs: Vec<_> = SAME.iter().chain(&NEGATED).copied().collect();
                // One output is not in shared memory, but in the answer.
                let shared = |slot: usize| (slot != turn % 10).then(|| range(slot));
                let wanted = outputs.iter().enumerate();
                let wanted = wanted.map(|(slot, name)| WantedOutput { name, classes: None, shared: shared(slot) });
                let shape = vec![1, WIDTH as i64];
                let call = Call {
                    id: "",
                    inputs: vec![SentInput { name: "x", data_type: Some(DataType::Fp32), shape, data: input }],
                    outputs: wanted.collect(),
                    priority: 0,
                    timeout: None,
                    deadline: None,
                    started: Instant::now(),
                    timings: StageTimings::default(),
                };
                let answer = kserve::infer(service.catalog(), Arc::clone(&model), call, None).await.unwrap();
                let written = fs::read(&object.0).unwrap();
                for (slot, name) in outputs.iter().enumerate() {
                    let expected = if NEGATED.contains(name) { &negated } else { &x };
                    let output = answer.outputs.iter().find(|output| output.name == *name).unwrap();
                    let is_written = shared(slot).is_none() || written[slot * BYTES..][..BYTES] == *expected;
                    if output.tensor.data() != expected || !is_written {
                        wrong.push((client, turn, *name));
                    }
                }
            }
            wrong
        }));
    }
    let mut wrong = Vec::new();
    for client in clients {
        wrong.extend(client.await.unwrap());
    }
    println!("shared memory: {} answers, {} outputs wrong", requests() / CLIENTS * CLIENTS, wrong.len());
    assert!(wrong.is_empty(), "{} outputs wrong, the first are {:?}", wrong.len(), &wrong[..wrong.len().min(9)]);
}
