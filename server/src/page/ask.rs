//! `POST /page/ask?lane=onnx-grpc&connection=kept&payload=fp32`: sends a photograph to one lane, over its own socket and in
//! its own protocol, and reports the classes, where the time went and what was sent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, Uri, header};
use quintet_engine::{InferError, Model};
use quintet_proto::rest::ErrorBody;
use serde::Serialize;
use serde_json::Value;

use super::{
    asker::Question,
    connection::{Destination, Exchange},
    lane::{Lane, Payload, Protocol},
    request::{classes, request, stages},
    state::Page,
};
use crate::transport::http1::{body, query, reply::Failure};

/// What is asked.
struct Wanted<'a> {
    lane: &'a Lane,
    fresh: bool,
    payload: Payload,
}

/// A stage of the request in the server, from `Server-Timing`.
#[derive(Serialize)]
struct StageTime {
    name: String,
    ms: f64,
}

/// The answer of a lane. `total_ms` is `connect_ms`, the stages, and the rest: the way there and back.
#[derive(Serialize)]
struct Answer<'a> {
    lane: &'static str,
    model: &'a str,
    version: String,
    payload: &'static str,
    connection: &'static str,
    classes: Value,
    effective_provider: &'a str,
    precision: Option<&'a str>,
    provider_reason: Option<&'a str>,
    gpu: Option<&'a str>,
    /// On the socket, heads and handshakes included.
    sent_bytes: u64,
    received_bytes: u64,
    /// The client's work before it sends: for a tensor, decoding and preparing the photograph. Not in `total_ms`.
    prepare_ms: f64,
    connect_ms: f64,
    stages: Vec<StageTime>,
    total_ms: f64,
}

/// Answers the request.
pub(super) async fn ask(State(page): State<Arc<Page>>, request: Request) -> Result<Response, Failure> {
    let (head, sent) = request.into_parts();
    let wanted = page.wanted(&head.uri)?;
    let catalog = wanted.lane.service.catalog();
    let photograph = body::receive(&head.headers, sent, 0, catalog.limits().max_input, catalog.pool()).await?;
    let Wanted { lane, fresh, payload } = wanted;
    let destination = page.destination(lane)?;
    let taker = lane.taker(payload)?;
    let preparing = Instant::now();
    let token = head.headers.get(header::AUTHORIZATION);
    let request = self::request(lane, &taker, payload, photograph, token).await?;
    let prepare = preparing.elapsed();
    let exchange = page.asker.ask(Question { lane: lane.name, destination, fresh, request }).await?;
    let outcome = exchange.map_err(|error| format!("{error:#}")).and_then(|exchange| {
        let classes = classes(lane, &taker.model, &exchange.reply)?;
        Ok((exchange, classes))
    });
    Ok(match outcome {
        Ok((exchange, classes)) => {
            let answer = Answer { prepare_ms: ms(prepare), ..answer(&wanted, &taker.model, &exchange, classes) };
            Json(answer).into_response()
        }
        // RFC 9110 §15.6.3: the server behind this one did not give an answer that could be used.
        Err(error) => {
            let error = format!("the lane {}: {error}", lane.name);
            (StatusCode::BAD_GATEWAY, Json(ErrorBody { error })).into_response()
        }
    })
}

fn answer<'a>(wanted: &Wanted<'_>, model: &'a Model, exchange: &Exchange, classes: Value) -> Answer<'a> {
    let (spec, placement) = (model.spec(), model.placement());
    Answer {
        lane: wanted.lane.name,
        model: spec.name(),
        version: spec.version().to_string(),
        payload: wanted.payload.name(),
        connection: if wanted.fresh { "fresh" } else { "kept" },
        classes,
        effective_provider: &placement.provider,
        precision: placement.precision.as_deref(),
        provider_reason: placement.reason.as_deref(),
        gpu: placement.gpu.as_deref(),
        sent_bytes: exchange.sent_bytes,
        received_bytes: exchange.received_bytes,
        prepare_ms: 0.0,
        connect_ms: ms(exchange.connect),
        stages: stages(&exchange.reply).into_iter().map(|(name, ms)| StageTime { name, ms }).collect(),
        total_ms: ms(exchange.total),
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Page {
    /// What a query asks for: `lane=NAME&connection=fresh|kept&payload=jpeg|uint8|fp32`.
    fn wanted(&self, uri: &Uri) -> Result<Wanted<'_>, InferError> {
        let value = |name: &str| query::values(uri, name).next().unwrap_or_default();
        let unknown = |name: &str, known: String| {
            InferError::invalid(format_args!("{name} must be one of {known}, got '{}'", value(name)))
        };
        let lane = self.lanes.iter().find(|lane| lane.name == value("lane")).ok_or_else(|| {
            let names: Vec<_> = self.lanes.iter().map(|lane| lane.name).collect();
            unknown("lane", names.join(", "))
        })?;
        let fresh = match value("connection") {
            "fresh" => true,
            "kept" => false,
            _ => return Err(unknown("connection", "fresh, kept".into())),
        };
        let payload = Payload::ALL.into_iter().find(|payload| payload.name() == value("payload"));
        let payload = payload.ok_or_else(|| unknown("payload", Payload::ALL.map(Payload::name).join(", ")))?;
        Ok(Wanted { lane, fresh, payload: lane.payload(payload) })
    }

    /// Where a lane listens: never an address that a client names.
    fn destination(&self, lane: &Lane) -> Result<Destination, InferError> {
        let bound = lane.bound.get().ok_or_else(|| InferError::internal("the lane is not bound"))?;
        Ok(Destination { address: *bound, tls: lane.tls, http2: lane.protocol == Protocol::KserveGrpc })
    }
}
