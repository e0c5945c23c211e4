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

use super::metadata;
use crate::{
    kserve::{
        self, OwnedCall,
        trace::{Arrival, Protocol, Trace},
    },
    observe::metrics,
    service::Service,
    transport::{
        encoding::Encoding,
        http1::{body, plain, reply::Failure},
        kserve_json::{OutputForm, answer, json_call, json_length, quoted, raw_call, split},
        traced, work,
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
    if outcome.is_ok() {
        service.catalog().answers().record(metrics::Protocol::Http, started.elapsed());
    }
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
    service: &Arc<Service>,
    model: Arc<Model>,
    request: Received,
    accepted: Option<Encoding>,
    trace: Option<&mut Trace>,
) -> Result<Response, Failure> {
    let Received { body, json_length, started, received, mut timings } = request;
    let refused = |error: InferError| {
        model.refused(error.kind());
        error
    };
    if json_length == Some(0) {
        let call = raw_call(&model, body, started, timings).map_err(refused)?;
        let answered = kserve::infer(service.catalog(), Arc::clone(&model), call, trace).await?;
        return answer(answered, "", OutputForm::all_binary(), accepted, service).await;
    }
    if json_length.unwrap_or(body.len()) > work::LARGE_BYTES {
        let (call, form) = read_large(service, &model, body, json_length).await.map_err(refused)?;
        let mut call = call.call(started);
        timings[Stage::Parse] = received.elapsed();
        call.timings = timings;
        let id = call.id;
        return answer(
            kserve::infer(service.catalog(), Arc::clone(&model), call, trace).await?,
            id,
            form,
            accepted,
            service,
        )
        .await;
    }
    let (json, binary) = split(&body, json_length)?;
    let mut requoted = Vec::new();
    let parsed = parse(json, &mut requoted).map_err(refused)?;
    let form = OutputForm::requested(&parsed).map_err(refused)?;
    let mut call =
        json_call(&parsed, &binary, model.spec().name(), started, service.shared_memory()).map_err(refused)?;
    timings[Stage::Parse] = received.elapsed();
    call.timings = timings;
    let id = call.id;
    answer(kserve::infer(service.catalog(), Arc::clone(&model), call, trace).await?, id, form, accepted, service).await
}

/// Reads a request. If it has NaN or Infinity as bare words, `requoted` gets the JSON that it is read from.
fn parse<'a>(json: &'a [u8], requoted: &'a mut Vec<u8>) -> Result<rest::InferRequest<'a>, InferError> {
    let parsed = serde_json::from_slice(json).or_else(|error| match quoted(json) {
        Some(text) => {
            *requoted = text;
            serde_json::from_slice(requoted)
        }
        None => Err(error),
    });
    parsed.map_err(|error| InferError::invalid(format_args!("failed to parse the request JSON buffer: {error}")))
}

/// Bytes that are charged for each byte of JSON while it is read: the elements of a tensor have up to four times the
/// bytes of their text.
const BYTES_PER_JSON_BYTE: usize = 4;

/// Reads a request with much JSON away from the I/O thread.
async fn read_large(
    service: &Arc<Service>,
    model: &Arc<Model>,
    body: Bytes,
    json_length: Option<usize>,
) -> Result<(OwnedCall, OutputForm), InferError> {
    let (service, model) = (Arc::clone(service), Arc::clone(model));
    work::run(move |_| {
        let (json, binary) = split(&body, json_length)?;
        let mut charge = service.catalog().pool().budget().charge();
        charge.try_force(json.len().saturating_mul(BYTES_PER_JSON_BYTE))?;
        let mut requoted = Vec::new();
        let parsed = parse(json, &mut requoted)?;
        let form = OutputForm::requested(&parsed)?;
        let spec = model.spec();
        let call = json_call(&parsed, &binary, spec.name(), Instant::now(), service.shared_memory())?;
        Ok((OwnedCall::new(call, spec, charge)?, form))
    })
    .await
}
