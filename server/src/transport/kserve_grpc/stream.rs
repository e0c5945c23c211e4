//! `ModelStreamInfer`: the requests of a stream run side by side; responses and errors keep their order.

use std::{sync::Arc, time::Instant};

use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use prost::Message as _;
use quintet_engine::{InferError, Model, Stage, StageTimings};
use quintet_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse, infer_parameter::ParameterChoice,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{infer, options::Options, reply, request};
use crate::{
    kserve::{
        self,
        trace::{Arrival, Protocol, Trace},
    },
    service::Service,
    transport::{
        guard::{Guard, RequestState, Requested},
        traced,
    },
};

/// A call of `ModelStreamInfer`.
pub(super) struct Call {
    pub(super) service: Arc<Service>,
    pub(super) headers: HeaderMap,
    /// The guard of its connection.
    pub(super) guard: Option<Arc<Guard>>,
}

/// The responses to `requests`, which run side by side as far as `options` allow. At `stop` no more requests are read:
/// the running ones finish, and the stream ends.
pub(super) fn infer<S>(
    call: Call,
    requests: S,
    options: Options,
    stop: CancellationToken,
) -> impl Stream<Item = Result<ModelStreamInferResponse, Status>> + Send
where
    S: Stream<Item = Result<ModelInferRequest, Status>> + Send,
{
    let call = Arc::new(call);
    let max_input = options.max_input;
    let answers = move |request: Result<ModelInferRequest, Status>| {
        let call = Arc::clone(&call);
        // The stream rests only while no request runs.
        let running = call.guard.as_ref().map(|guard| Requested::new(guard, RequestState::Answering));
        // A message that cannot be decoded ends the stream: nothing after it can be read.
        async move {
            let request = request.map_err(|status| reply::stream_status(status, max_input))?;
            let answer = answer(&call.service, &call.headers, request).await;
            drop(running);
            Ok(answer)
        }
    };
    requests.take_until(stop.cancelled_owned()).map(answers).buffered(options.max_stream_requests.max(1))
}

/// The response to one request. An error has the request's id, and the stream continues.
async fn answer(service: &Service, headers: &HeaderMap, request: ModelInferRequest) -> ModelStreamInferResponse {
    let (error, mut response) = match carry_out(service, headers, &request).await {
        Ok(response) => (String::new(), response),
        Err(error) => {
            let message = reply::status(&error).message().to_owned();
            (message, ModelInferResponse { id: request.id.clone(), ..ModelInferResponse::default() })
        }
    };
    // Each request has one response, so the first is the final one.
    let last = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    response.parameters.insert("triton_final_response".to_owned(), last);
    ModelStreamInferResponse { error_message: error, infer_response: Some(response) }
}

async fn carry_out(
    service: &Service,
    headers: &HeaderMap,
    request: &ModelInferRequest,
) -> Result<ModelInferResponse, InferError> {
    // Tonic does not report when it began to read the message.
    let started = Instant::now();
    let mut charge = service.catalog().pool().budget().charge();
    charge.try_force(request.encoded_len())?;
    let model = kserve::resolve(service.catalog(), &request.model_name, &request.model_version)?;
    let arrival = Arrival { protocol: Protocol::Grpc, started, received: started, headers };
    let mut trace = service.traces().begin(model.spec(), arrival);
    let outcome = infer_traced(service, model, request, started, trace.as_mut()).await;
    traced::finish(&outcome, trace);
    outcome
}

async fn infer_traced(
    service: &Service,
    model: Arc<Model>,
    request: &ModelInferRequest,
    started: Instant,
    trace: Option<&mut Trace>,
) -> Result<ModelInferResponse, InferError> {
    let mut call = request::call(request, service.shared_memory()).inspect_err(|error| model.refused(error.kind()))?;
    let mut timings = StageTimings::default();
    timings[Stage::Parse] = started.elapsed();
    call.started = started;
    call.timings = timings;
    let answer = kserve::infer(service.catalog(), Arc::clone(&model), call, trace).await?;
    Ok(ModelInferResponse {
        raw_output_contents: infer::tensors(&answer).collect(),
        ..infer::header(&answer, &request.id)
    })
}
