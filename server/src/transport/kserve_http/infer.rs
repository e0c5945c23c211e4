//! `POST /v2/models/{model}/infer`: receives the body, runs the call, sends the response.

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use quintet_engine::{InferError, Model, Stage, StageTimings};
use quintet_proto::rest;

use super::{
    metadata,
    request::{OutputForm, json_call, json_length, raw_call, split},
    response::answer,
};
use crate::{
    kserve::{
        self,
        trace::{Arrival, Protocol, Trace},
    },
    service::Service,
    transport::{
        encoding::Encoding,
        http1::{body, plain, reply::Failure},
        traced,
    },
};

/// Carries out an inference request.
pub(super) async fn infer(
    State(service): State<Arc<Service>>,
    Path(path): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response, Failure> {
    let (head, sent) = request.into_parts();
    let started = plain::arrived(&head.extensions);
    let json_length = json_length(&head.headers)?;
    let limits = service.catalog().limits();
    let accepted = Encoding::for_response(&head.headers);
    let body = body::receive(&head.headers, sent, json_length.unwrap_or(0), limits.max_input, service.catalog().pool())
        .await?;
    let received = Instant::now();
    let mut timings = StageTimings::default();
    timings[Stage::Receive] = received - started;

    let model = metadata::find(&service, &path)?;
    let arrival = Arrival { protocol: Protocol::Http, started, received, headers: &head.headers };
    let mut trace = service.traces().begin(model.spec(), arrival);
    let request = Received { body, json_length, started, received, timings };
    let outcome = carry_out(&service, model, request, accepted, trace.as_mut()).await;
    Ok(traced::send(outcome.map_err(|Failure(error)| error), trace, |error| Failure(error).into_response(), Body::new))
}

/// A request whose body was received.
struct Received {
    body: Bytes,
    /// Length of the JSON in front of binary tensors; `None` if the whole body is JSON.
    json_length: Option<usize>,
    /// When its first byte was received.
    started: Instant,
    /// When its last byte was received.
    received: Instant,
    timings: StageTimings,
}

async fn carry_out(
    service: &Service,
    model: Arc<Model>,
    request: Received,
    accepted: Option<Encoding>,
    trace: Option<&mut Trace>,
) -> Result<Response, Failure> {
    let Received { body, json_length, started, received, mut timings } = request;
    let (json, binary) = split(&body, json_length)?;
    let refused = |error: InferError| {
        model.refused(error.kind());
        error
    };
    if json_length == Some(0) {
        let call = raw_call(&model, binary, started, timings).map_err(refused)?;
        let form = OutputForm::all_binary();
        return answer(kserve::infer(Arc::clone(&model), call, trace).await?, "", &form, accepted).await;
    }
    let parsed: rest::InferRequest<'_> = serde_json::from_slice(json).map_err(|error| {
        refused(InferError::invalid(format_args!("failed to parse the request JSON buffer: {error}")))
    })?;
    let form = OutputForm::requested(&parsed).map_err(refused)?;
    let mut call =
        json_call(&parsed, &binary, model.spec().name(), started, service.shared_memory()).map_err(refused)?;
    timings[Stage::Parse] = received.elapsed();
    call.timings = timings;
    let id = call.id;
    answer(kserve::infer(Arc::clone(&model), call, trace).await?, id, &form, accepted).await
}
