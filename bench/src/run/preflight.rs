//! Preflight: checks that a lane is reachable and its model ready, and reads the lane's description.

use quintet_proto::{
    inference::{
        ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ServerMetadataRequest, ServerMetadataResponse, model_metadata_response::TensorMetadata,
    },
    rest::{self, ModelMetadata, ServerMetadata},
};
use serde_json::Value;

use crate::{
    client::{
        call::{CallError, HttpVersion, Prepared, Reply},
        connection::Connection,
        endpoint::Endpoint,
        grpc, http,
        inputs::InputError,
        target::Target,
    },
    model::{
        connection::TlsVersion,
        lane::Lane,
        limits::Limits,
        protocol::Protocol,
        signature::{Signature, TensorInfo},
    },
    server::{config::Configuration, description::Description},
};

/// A lane that cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The server does not answer.
    #[error(
        "lane {lane}: no answer at {url}: {reason}\n  start the server, give its address with {}, or leave \
         the lane out with --skip {lane}",
        address_flag(.lane)
    )]
    Unreachable {
        /// The lane.
        lane: Lane,
        /// Its address.
        url: String,
        /// What went wrong.
        reason: CallError,
    },
    /// The model cannot be given what is to be sent.
    #[error("lane {lane}: model `{model}`: {reason}")]
    Inputs {
        /// The lane.
        lane: Lane,
        /// The model.
        model: String,
        /// What is wrong, and what to do.
        reason: InputError,
    },
    /// The server answers but does not serve the model.
    #[error("lane {lane}: {url} does not serve the model `{model}`: {reason}\n  {remedy}")]
    NoModel {
        /// The lane.
        lane: Lane,
        /// Its address.
        url: String,
        /// The requested model.
        model: String,
        /// The server's message.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

/// The flag for a lane's address.
fn address_flag(lane: &Lane) -> String {
    match lane.peer {
        None => format!("--{lane}-url"),
        Some(peer) => format!("--against {peer}={}=URL", lane.kind),
    }
}

/// Checks that a lane is ready and reads its description.
///
/// # Errors
/// [`LaneError`], with the lane, its address and the remedy.
pub async fn describe(target: &Target, limits: Limits) -> Result<Description, LaneError> {
    match target.protocol() {
        Protocol::Jpeg => jpeg(target, limits).await,
        Protocol::KserveHttp => kserve_http(target, limits).await,
        Protocol::KserveGrpc => kserve_grpc(target, limits).await,
    }
}

/// A connection for requests about server and model.
struct MetadataClient {
    endpoint: Endpoint,
    connection: Connection,
}

impl MetadataClient {
    fn new(endpoint: &Endpoint, version: HttpVersion, limits: Limits) -> Self {
        Self { endpoint: endpoint.clone(), connection: Connection::new(endpoint.clone(), version, limits) }
    }

    /// The negotiated TLS version.
    fn tls(&self) -> Option<TlsVersion> {
        self.connection.tls()
    }

    async fn call(&mut self, request: Result<Prepared, CallError>) -> Result<Reply, CallError> {
        self.connection.call(&request?).await
    }

    async fn unary(&mut self, method: &str, message: &impl prost::Message) -> Result<Reply, CallError> {
        let reply = self.call(grpc::unary(&self.endpoint, method, message)).await?;
        grpc::check(&reply)?;
        Ok(reply)
    }

    async fn get(&mut self, path: &str) -> Result<Reply, CallError> {
        let reply = self.call(http::get(&self.endpoint, path)).await?;
        http::check(&reply)?;
        Ok(reply)
    }
}

fn of_json(tensors: Vec<rest::TensorMetadata>) -> Vec<TensorInfo> {
    let tensor =
        |rest::TensorMetadata { name, datatype, shape, optional }| TensorInfo { name, datatype, shape, optional };
    tensors.into_iter().map(tensor).collect()
}

fn of_protobuf(tensors: Vec<TensorMetadata>) -> Vec<TensorInfo> {
    let tensor = |TensorMetadata { name, datatype, shape }| TensorInfo { name, datatype, shape, optional: false };
    tensors.into_iter().map(tensor).collect()
}

fn json<T: serde::de::DeserializeOwned>(reply: &Reply) -> Option<T> {
    serde_json::from_slice(&reply.body()).ok()
}

/// Maps a failure: the server is unreachable, or it does not have the model.
fn lane_error(target: &Target, reason: CallError) -> LaneError {
    match reason {
        CallError::Status { code, message } => no_model(target, format!("{code} {message}").trim().to_owned()),
        reason => LaneError::Unreachable { lane: target.lane, url: target.url(), reason },
    }
}

fn no_model(target: &Target, reason: String) -> LaneError {
    LaneError::NoModel {
        lane: target.lane,
        url: target.url(),
        model: target.model.clone(),
        reason,
        remedy: format!(
            "name a model that it serves with --model, wait until it is ready, or leave the lane out with --skip {}",
            target.lane
        ),
    }
}

async fn jpeg(target: &Target, limits: Limits) -> Result<Description, LaneError> {
    let mut lane = MetadataClient::new(&target.endpoint, HttpVersion::Http1, limits);
    lane.get("/health").await.map_err(|reason| lane_error(target, reason))?;
    let reply = lane.get("/model-info").await.ok();
    let info: Value = reply.as_ref().and_then(json).unwrap_or_default();
    let text = |key: &str| Some(info.get(key)?.as_str()?.to_owned());
    let model = text("model");
    if let Some(served) = model.as_deref().filter(|served| *served != target.model) {
        let mut error = no_model(target, format!("it serves `{served}`"));
        if let LaneError::NoModel { remedy, .. } = &mut error {
            *remedy = format!("measure it with --model {served}, or leave the lane out with --skip jpeg");
        }
        return Err(error);
    }
    let mut description = Description {
        model,
        server: text("server"),
        effective_provider: text("effective_provider"),
        precision: text("precision"),
        provider_reason: text("provider_reason"),
        tls: lane.tls(),
        ..Description::default()
    };
    description.signature = jpeg_signature(&info);
    if let Some(reply) = reply {
        description.add_provider(&reply);
    }
    Ok(description)
}

/// The inputs and outputs of the jpeg lane's model, if the lane says which output it returns.
fn jpeg_signature(info: &Value) -> Option<Signature> {
    let tensors = |key: &str| {
        let tensors: Option<Vec<rest::TensorMetadata>> = serde_json::from_value(info.get(key)?.clone()).ok();
        tensors.map(of_json)
    };
    // A server that returns embeddings only says nothing of it.
    let embedding = info.get("embedding_output")?.as_str().map(str::to_owned);
    let max_batch = info.get("max_batch_size").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
    let (inputs, outputs) = (tensors("inputs")?, tensors("outputs")?);
    Some(Signature { inputs, outputs, max_batch, embedding, ..Signature::default() })
}

async fn kserve_http(target: &Target, limits: Limits) -> Result<Description, LaneError> {
    let mut lane = MetadataClient::new(&target.endpoint, HttpVersion::Http1, limits);
    let path = format!("/v2/models/{}", target.model);
    lane.get(&format!("{path}/ready")).await.map_err(|reason| lane_error(target, reason))?;
    let server: Option<ServerMetadata> = lane.get("/v2").await.ok().as_ref().and_then(json);
    let mut description = Description {
        model: Some(target.model.clone()),
        server: server.map(|server| format!("{} {}", server.name, server.version)),
        tls: lane.tls(),
        ..Description::default()
    };
    if let Ok(reply) = lane.get(&path).await {
        if let Some(ModelMetadata { versions, platform, inputs, outputs, .. }) = json(&reply) {
            description.add_metadata(versions, platform, of_json(inputs), of_json(outputs));
        }
        description.add_provider(&reply);
    }
    if let Ok(reply) = lane.get(&format!("{path}/config")).await {
        let config: Value = json(&reply).unwrap_or_default();
        description.add_configuration(Configuration::from_json(&config));
    }
    Ok(description)
}

async fn kserve_grpc(target: &Target, limits: Limits) -> Result<Description, LaneError> {
    let mut lane = MetadataClient::new(&target.endpoint, HttpVersion::Http2, limits);
    let name = target.model.clone();
    let ready: ModelReadyResponse = lane
        .unary("ModelReady", &ModelReadyRequest { name: name.clone(), version: String::new() })
        .await
        .and_then(|reply| grpc::message(&reply))
        .map_err(|reason| lane_error(target, reason))?;
    if !ready.ready {
        return Err(no_model(target, "it is not ready".into()));
    }
    let server = lane.unary("ServerMetadata", &ServerMetadataRequest {}).await.and_then(|reply| grpc::message(&reply));
    let mut description = Description {
        model: Some(name.clone()),
        server: server.ok().map(|server: ServerMetadataResponse| format!("{} {}", server.name, server.version)),
        tls: lane.tls(),
        ..Description::default()
    };
    let request = ModelMetadataRequest { name: name.clone(), version: String::new() };
    if let Ok(reply) = lane.unary("ModelMetadata", &request).await {
        if let Ok(ModelMetadataResponse { versions, platform, inputs, outputs, .. }) = grpc::message(&reply) {
            description.add_metadata(versions, platform, of_protobuf(inputs), of_protobuf(outputs));
        }
        description.add_provider(&reply);
    }
    if let Ok(reply) = lane.unary("ModelConfig", &ModelConfigRequest { name, version: String::new() }).await {
        let config: Option<ModelConfigResponse> = grpc::message(&reply).ok();
        if let Some(config) = config.and_then(|response| response.config) {
            description.add_configuration(config.into());
        }
    }
    Ok(description)
}
