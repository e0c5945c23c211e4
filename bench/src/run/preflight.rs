//! Preflight: checks that a lane is reachable and its model ready, and reads the lane's description.

use quintet_proto::{
    EFFECTIVE_PROVIDER, PRECISION, PROVIDER_REASON,
    inference::{
        ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
        ModelReadyResponse, ServerMetadataRequest, ServerMetadataResponse, model_config::SchedulingChoice,
    },
    rest::{ModelMetadata, ServerMetadata},
};
use serde_json::Value;

use crate::{
    client::{
        call::{CallError, HttpVersion, Prepared, Reply},
        connection::Connection,
        endpoint::Endpoint,
        grpc, http,
        target::Target,
    },
    model::{
        connection::TlsVersion, lane::Lane, limits::Limits, machine::Machine, protocol::Protocol, report::LaneInfo,
    },
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

/// A lane's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Name of the model, if known.
    pub model: Option<String>,
    /// Its versions.
    pub model_versions: Vec<String>,
    /// Name and version of the server.
    pub server: Option<String>,
    /// The effective execution provider.
    pub effective_provider: Option<String>,
    /// The precision, if it is lower than the model's own.
    pub precision: Option<String>,
    /// Why that provider is used.
    pub provider_reason: Option<String>,
    /// Queue delay in µs, from the model's configuration.
    pub max_queue_delay_us: Option<u64>,
    /// TLS version of the connection, if TLS is used.
    pub tls: Option<TlsVersion>,
}

impl Description {
    /// The description as the report has it.
    pub fn into_info(self, target: &Target, counters_url: &str, counters_missing: Option<String>) -> LaneInfo {
        LaneInfo {
            lane: target.lane,
            service: target.lane.service().to_owned(),
            url: target.url(),
            metrics_url: counters_url.to_owned(),
            model: target.model.clone(),
            model_versions: self.model_versions,
            server: self.server,
            effective_provider: self.effective_provider,
            precision: self.precision,
            provider_reason: self.provider_reason,
            max_queue_delay_us: self.max_queue_delay_us,
            tls: self.tls,
            machine: Machine::default(),
            counters_missing,
        }
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

impl Description {
    /// Takes the provider from a response's headers or gRPC metadata; stock Triton sends none.
    fn add_provider(&mut self, reply: &Reply) {
        let text = |key| {
            let value = reply.headers.get(key).or_else(|| reply.trailers.get(key))?;
            Some(value.to_str().ok()?.to_owned())
        };
        self.effective_provider = text(EFFECTIVE_PROVIDER).or(self.effective_provider.take());
        self.precision = text(PRECISION).or(self.precision.take());
        self.provider_reason = text(PROVIDER_REASON).or(self.provider_reason.take());
    }
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
        model_versions: Vec::new(),
        server: text("server"),
        effective_provider: text("effective_provider"),
        precision: text("precision"),
        provider_reason: text("provider_reason"),
        max_queue_delay_us: None,
        tls: lane.tls(),
    };
    if let Some(reply) = reply {
        description.add_provider(&reply);
    }
    Ok(description)
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
        description.model_versions = json(&reply).map_or(Vec::new(), |metadata: ModelMetadata| metadata.versions);
        description.add_provider(&reply);
    }
    if let Ok(reply) = lane.get(&format!("{path}/config")).await {
        let config: Value = json(&reply).unwrap_or_default();
        let delay = config.pointer("/dynamic_batching/max_queue_delay_microseconds");
        // Protobuf's JSON form writes 64-bit numbers as strings, Triton's as numbers.
        description.max_queue_delay_us = delay.and_then(|us| us.as_u64().or_else(|| us.as_str()?.parse().ok()));
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
    let request = ModelConfigRequest { name: name.clone(), version: String::new() };
    if let Ok(reply) = lane.unary("ModelConfig", &request).await {
        let config: Option<ModelConfigResponse> = grpc::message(&reply).ok();
        description.max_queue_delay_us = config.and_then(|response| {
            let Some(SchedulingChoice::DynamicBatching(batching)) = response.config?.scheduling_choice else {
                return None;
            };
            Some(batching.max_queue_delay_microseconds)
        });
    }
    if let Ok(reply) = lane.unary("ModelMetadata", &ModelMetadataRequest { name, version: String::new() }).await {
        let metadata: Option<ModelMetadataResponse> = grpc::message(&reply).ok();
        description.model_versions = metadata.map_or(Vec::new(), |metadata| metadata.versions);
        description.add_provider(&reply);
    }
    Ok(description)
}
