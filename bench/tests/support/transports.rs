//! The scripted suite over Unix domain sockets, and with tensors in shared memory.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt as _, path::Path as FilePath, sync::Arc, sync::Mutex};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use quintet_bench::model::{encoding::IMAGE_BYTES, lane::Lane, transport::socket};
use quintet_proto::inference::{
    self as pb, grpc_inference_service_server::GrpcInferenceServiceServer, infer_parameter::ParameterChoice,
};
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::{LaneState, MODEL, Suite, WIDTH, bytes_of, jpeg_routes, kserve_routes, service};

/// Shared memory by its name at the suite.
#[derive(Default)]
pub struct Regions(Mutex<HashMap<String, File>>);

impl Regions {
    pub fn register(&self, name: &str, key: &str) -> Result<(), String> {
        let file = File::options().read(true).write(true).open(format!("/dev/shm{key}")).map_err(|e| e.to_string())?;
        match self.0.lock().unwrap().insert(name.to_owned(), file) {
            None => Ok(()),
            Some(_) => Err(format!("shared memory region '{name}' already in manager")),
        }
    }

    pub fn unregister(&self, name: &str) {
        self.0.lock().unwrap().remove(name).unwrap();
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Region, offset and length of a tensor.
type Placement = (String, u64, usize);

/// Answers a request with its tensors in shared memory; returns the number of images.
fn answer(state: &LaneState, input: &Placement, output: &Placement) -> Result<usize, String> {
    let regions = state.regions.0.lock().unwrap();
    let mut tensor = vec![0; input.2];
    regions[&input.0].read_exact_at(&mut tensor, input.1).map_err(|e| e.to_string())?;
    assert!(tensor.len().is_multiple_of(IMAGE_BYTES));
    let rows = state.tensor_infer("FP32", &tensor)?;
    let bytes = bytes_of(&rows);
    assert!(bytes.len() <= output.2);
    regions[&output.0].write_all_at(&bytes, output.1).map_err(|e| e.to_string())?;
    Ok(rows.len())
}

pub async fn region(
    State(state): State<Arc<LaneState>>,
    Path((region, action)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    if action == "unregister" {
        state.regions.unregister(&region);
        return StatusCode::OK.into_response();
    }
    match state.regions.register(&region, body["key"].as_str().unwrap()) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
    }
}

/// The response to a request over HTTP, if its tensors are in shared memory.
pub fn infer(state: &LaneState, body: &[u8]) -> Option<Response> {
    let request: Value = serde_json::from_slice(body).unwrap();
    let placement = |tensor: &Value| {
        let parameters = &tensor["parameters"];
        let number = |name: &str| parameters[name].as_u64().unwrap();
        let region = parameters["shared_memory_region"].as_str()?;
        Some((region.to_owned(), number("shared_memory_offset"), number("shared_memory_byte_size") as usize))
    };
    let (input, output) = (placement(&request["inputs"][0])?, placement(&request["outputs"][0])?);
    Some(match answer(state, &input, &output) {
        Ok(rows) => {
            let parameters = json!({"shared_memory_region": output.0, "shared_memory_byte_size": rows * WIDTH * 4});
            let output =
                json!({"name": "embedding", "datatype": "FP32", "shape": [rows, WIDTH], "parameters": parameters});
            Json(json!({"model_name": MODEL, "model_version": "1", "outputs": [output]})).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
    })
}

/// The same over gRPC.
pub fn grpc_answer(
    state: &LaneState,
    request: &pb::ModelInferRequest,
) -> Option<Result<pb::ModelInferResponse, tonic::Status>> {
    let placement = |parameters: &HashMap<String, pb::InferParameter>| {
        let value = |name: &str| parameters.get(name)?.parameter_choice.clone();
        let number = |name: &str| match value(name) {
            Some(ParameterChoice::Int64Param(number)) => number as u64,
            _ => u64::MAX,
        };
        let Some(ParameterChoice::StringParam(region)) = value("shared_memory_region") else { return None };
        Some((region, number("shared_memory_offset"), number("shared_memory_byte_size") as usize))
    };
    let (input, output) = (placement(&request.inputs[0].parameters)?, placement(&request.outputs[0].parameters)?);
    Some(answer(state, &input, &output).map_err(tonic::Status::unavailable).map(|rows| pb::ModelInferResponse {
        model_name: MODEL.into(),
        outputs: vec![pb::model_infer_response::InferOutputTensor {
            name: "embedding".into(),
            datatype: "FP32".into(),
            shape: vec![rows as i64, WIDTH as i64],
            ..Default::default()
        }],
        ..Default::default()
    }))
}

impl Suite {
    /// Also serves all lanes on Unix domain sockets in a folder.
    pub fn listen_in(&self, folder: &FilePath) {
        for (lane, state) in &self.lanes {
            let (listener, state) = (UnixListener::bind(socket(folder, *lane)).unwrap(), Arc::clone(state));
            match *lane {
                Lane::ONNX_GRPC | Lane::TRT_GRPC => {
                    let incoming = futures_util::stream::unfold(listener, |listener| async move {
                        Some((listener.accept().await.map(|(stream, _)| stream), listener))
                    });
                    let service =
                        GrpcInferenceServiceServer::new(service::Scripted(state)).max_decoding_message_size(64 << 20);
                    let server = tonic::transport::Server::builder().add_service(service);
                    tokio::spawn(server.serve_with_incoming(incoming));
                }
                Lane::JPEG => drop(tokio::spawn(async move { axum::serve(listener, jpeg_routes(state)).await })),
                _ => drop(tokio::spawn(async move { axum::serve(listener, kserve_routes(state)).await })),
            }
        }
    }
}
