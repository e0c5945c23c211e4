//! A fuzzer for gRPC: damages `ModelInfer` messages at random, splits them into random frames, and sends them on a
//! connection: `cargo run --release -p quintet-server --example fuzz_infer -- --seconds 600 --seed 1`. On every third
//! connection the frames themselves are damaged.
//!
//! Calls in valid frames must be answered with a gRPC status, and a valid call after them must succeed. A panic or a
//! hanging connection ends the run and prints its seed and round, which reproduce it.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use prost::Message as _;
use quintet_engine::{BatchPolicy, BufferPool, DataType, Model, ModelSpec, TensorSpec, testing::Echo};
use quintet_http2::{
    frame::{self as http2, FrameHeader, HEADER_BYTES, flag, kind},
    hpack::{DEFAULT_TABLE_BYTES, Decoder, Encoder},
};
use quintet_proto::inference::{
    InferParameter, InferTensorContents, ModelConfig, ModelInferRequest,
    infer_parameter::ParameterChoice,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    service::Service,
    transport::kserve_grpc,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Limit for the size of a message.
const MAX_INPUT: InputLimit = InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" };

#[derive(Parser)]
struct Args {
    /// Duration of the run in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The first round; a failure prints its round.
    #[arg(long, default_value_t = 0)]
    round: u64,
}

const TYPES: [(&str, DataType); 4] =
    [("FP32", DataType::Fp32), ("INT64", DataType::Int64), ("BYTES", DataType::Bytes), ("BOOL", DataType::Bool)];

fn service() -> Arc<Service> {
    let limits = Limits { max_input: MAX_INPUT, max_image_pixels: 1, max_images: 1 };
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Onnx, BufferPool::new(4 << 20), limits)));
    for (name, data_type) in TYPES {
        let tensor = |name| TensorSpec::new(name, data_type, [None]);
        let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
        let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
        let model = Model::start(
            spec,
            vec![Box::new(Echo::default())],
            vec![],
            service.catalog().pool().clone(),
            Duration::ZERO,
        )
        .unwrap();
        service.catalog().put(model, ModelConfig::default());
    }
    service
}

/// A request that is valid or almost valid.
fn request(rng: &mut StdRng) -> ModelInferRequest {
    let (name, data_type) = *TYPES.choose(rng).unwrap();
    let width = rng.random_range(0..40_usize);
    let bytes = match data_type {
        DataType::Bytes => quintet_proto::elements::encode(vec!["ab"; width]),
        other => vec![1; width * other.size().unwrap_or(1)].into(),
    };
    let contents = InferTensorContents { fp32_contents: vec![1.0; width], ..Default::default() };
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let mut request = ModelInferRequest {
        model_name: name.into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: name.into(),
            shape: vec![1, width as i64],
            ..Default::default()
        }],
        ..Default::default()
    };
    if rng.random_ratio(1, 4) {
        request.inputs[0].contents = Some(contents);
    } else {
        request.raw_input_contents = vec![bytes];
    }
    if rng.random_ratio(1, 4) {
        let parameters = [("classification".to_owned(), parameter(ParameterChoice::Int64Param(rng.random())))];
        request.outputs = vec![InferRequestedOutputTensor { name: "y".into(), parameters: parameters.into() }];
    }
    if rng.random_ratio(1, 4) {
        request.parameters.insert("timeout".into(), parameter(ParameterChoice::Int64Param(rng.random())));
        request.parameters.insert("priority".into(), parameter(ParameterChoice::Uint64Param(rng.random())));
    }
    request
}

/// Changes, removes, repeats and inserts bytes, also in length prefixes.
fn damage(body: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..=body.len());
        match rng.random_range(0..6) {
            0 => body.truncate(at),
            1 => body.insert(at, rng.random()),
            2 => {
                let part = body[at..].iter().copied().take(30).collect::<Vec<_>>();
                body.splice(at..at, part);
            }
            // The longest varint.
            3 => drop(body.splice(at..at, [0xff; 9])),
            _ => {
                if let Some(byte) = body.get_mut(at) {
                    *byte = if rng.random() { rng.random() } else { *byte ^ (1 << rng.random_range(0..8)) };
                }
            }
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// A call's frames: headers, and the body in frames of random sizes, some with padding.
fn call(stream: u32, body: &[u8], encoder: &mut Encoder, rng: &mut StdRng) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/inference.GRPCInferenceService/ModelInfer"),
        ("content-type", "application/grpc"),
        ("x-round", if rng.random() { "a" } else { "b" }),
    ];
    let mut block = Vec::new();
    encoder.encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
    let mut bytes = http2::frame(kind::HEADERS, flag::END_HEADERS, stream, &block);
    let mut rest = body;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rng.random_range(0..=rest.len().min(200)).max(rest.len().min(1)));
        rest = after;
        if rng.random_ratio(1, 8) {
            let padding = rng.random_range(0..20_u8);
            let padded = [&[padding], part, &vec![0; padding.into()]].concat();
            bytes.extend(http2::frame(kind::DATA, flag::PADDED, stream, &padded));
        } else {
            bytes.extend(http2::frame(kind::DATA, 0, stream, part));
        }
    }
    bytes.extend(http2::frame(kind::DATA, flag::END_STREAM, stream, &[]));
    bytes
}

/// Sends the bytes in random pieces. Returns the gRPC statuses of the responses, until there are `count` or the
/// connection ends.
async fn exchange(service: &Arc<Service>, sent: &[u8], count: usize, rng: &mut StdRng) -> Vec<String> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let limits = kserve_grpc::Options { max_input: MAX_INPUT, max_stream_requests: 4, compression: None };
    let serving =
        tokio::spawn(kserve_grpc::serve_connection(server, Arc::clone(service), limits, CancellationToken::new()));
    let mut rest = sent;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.random_range(1..=rest.len()));
        // The server may have closed the connection.
        if client.write_all(piece).await.is_err() {
            break;
        }
        rest = after;
    }
    if count == 0 {
        client.shutdown().await.unwrap();
    }
    let mut decoder = Decoder::new(DEFAULT_TABLE_BYTES);
    let mut statuses = Vec::new();
    while count == 0 || statuses.len() < count {
        let mut header = [0; HEADER_BYTES];
        if client.read_exact(&mut header).await.is_err() {
            break;
        }
        let header = FrameHeader::parse(header);
        let mut payload = vec![0; header.length as usize];
        client.read_exact(&mut payload).await.unwrap();
        if header.kind == kind::HEADERS {
            let take = |name: Bytes, value: Bytes| {
                if name == "grpc-status" {
                    statuses.push(String::from_utf8_lossy(&value).into_owned());
                }
            };
            decoder.decode(&payload, take).unwrap();
        }
    }
    drop(client);
    // A protocol error of the client is not a failure.
    let _ = serving.await.unwrap();
    statuses
}

fn main() {
    let args = Args::parse();
    let service = service();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let good = framed(
        &ModelInferRequest {
            model_name: "FP32".into(),
            inputs: vec![InferInputTensor {
                name: "x".into(),
                datatype: "FP32".into(),
                shape: vec![1, 2],
                ..Default::default()
            }],
            raw_input_contents: vec![vec![0; 8].into()],
            ..Default::default()
        }
        .encode_to_vec(),
    );
    let (began, mut round) = (Instant::now(), args.round);
    let mut statuses = std::collections::BTreeMap::<String, u64>::new();
    while began.elapsed() < Duration::from_secs(args.seconds) {
        let mut rng = StdRng::seed_from_u64(args.seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut encoder = Encoder::default();
            let mut sent = [http2::PREFACE, &http2::settings(&[])].concat();
            let calls = rng.random_range(1..4_u32);
            for nth in 0..calls {
                let mut message = request(&mut rng).encode_to_vec();
                // Damage only the message, so that the length prefix is right, or also the prefix.
                let body = if rng.random() {
                    damage(&mut message, &mut rng);
                    framed(&message)
                } else {
                    let mut body = framed(&message);
                    damage(&mut body, &mut rng);
                    body
                };
                sent.extend(call(2 * nth + 1, &body, &mut encoder, &mut rng));
            }
            // Calls in valid frames are all answered, and a valid call after them succeeds; damaged frames may do
            // anything.
            let mut count = 0;
            if rng.random_ratio(2, 3) {
                sent.extend(call(2 * calls + 1, &good, &mut encoder, &mut rng));
                count = calls as usize + 1;
            } else {
                damage(&mut sent, &mut rng);
            }
            runtime.block_on(async {
                let waited = exchange(&service, &sent, count, &mut rng);
                let answers = tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
                assert!(count == 0 || answers.len() == count, "{answers:?}");
                assert!(count == 0 || answers.contains(&"0".to_owned()), "a good call failed: {answers:?}");
                answers
            })
        }));
        let answers = outcome.unwrap_or_else(|_| {
            eprintln!("failed: --seed {} --round {round}", args.seed);
            std::process::exit(1)
        });
        for status in answers {
            *statuses.entry(status).or_default() += 1;
        }
        round += 1;
    }
    println!("{} rounds in {} s, seed {}: no panic", round - args.round, args.seconds, args.seed);
    println!("answers by gRPC status: {statuses:?}");
}
