//! `ModelInfer` without tonic: the tensors of a request are slices of the buffer that its message was received into.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use quintet_engine::{Budget, ErrorKind, InferError, Model, Stage, StageTimings};
use quintet_proto::{
    SERVER_TIMING,
    inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice,
        model_infer_response::InferOutputTensor,
    },
};

use super::{fields, frame, options::Options, reply, request};
use crate::{
    kserve::{
        self, Answer, AnsweredOutput, OwnedCall,
        shared_memory::SharedRange,
        trace::{Arrival, Protocol, Trace},
    },
    observe::metrics,
    service::Service,
    transport::{
        encoding::{Effort, Encoding, GRPC_ENCODING},
        server_timing, traced, work,
    },
};

/// The path of `ModelInfer`.
pub(super) const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Field number of `ModelInferResponse.raw_output_contents`.
const RAW_OUTPUT_CONTENTS: u32 = 6;

/// A call of `ModelInfer` whose message is being received.
pub struct Incoming {
    service: Arc<Service>,
    options: Options,
    headers: HeaderMap,
    started: Instant,
    message: frame::Receiver,
}

impl Incoming {
    /// Starts to receive the message of a call with these headers.
    ///
    /// # Errors
    /// The response to a call with an unknown `grpc-encoding`.
    pub fn new(service: Arc<Service>, options: Options, headers: HeaderMap) -> Result<Self, Refusal> {
        let started = Instant::now();
        let encoding = Encoding::of_call(&headers).map_err(refusal)?;
        let message = frame::Receiver::new(encoding, options.max_input, service.catalog().pool().clone());
        Ok(Self { service, options, headers, started, message })
    }

    /// Appends the next bytes of the message.
    ///
    /// # Errors
    /// The response to a call whose message is refused.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.message.push(bytes).map_err(refusal)
    }

    /// Where the next bytes may be written instead; empty if they must be pushed.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.message.buffer()
    }

    /// The first `bytes` of [`Self::buffer`] were written.
    pub fn filled(&mut self, bytes: usize) {
        self.message.filled(bytes);
    }

    /// Carries out the call after its whole message was received.
    pub async fn answer(self) -> Response<tonic::body::Body> {
        let Self { service, options, headers, started, message } = self;
        let deadline = timeout(&headers).and_then(|timeout| started.checked_add(timeout));
        let reading = read(&service, message);
        let read = match deadline {
            Some(deadline) => {
                let ended = tokio::time::timeout_at(deadline.into(), reading).await;
                ended.unwrap_or(Err(InferError::DeadlineExceeded))
            }
            None => reading.await,
        };
        let (model, message, received) = match read {
            Ok(read) => read,
            Err(error) => return reply::failure(&error),
        };
        let arrival = Arrival { protocol: Protocol::Grpc, started, received, headers: &headers };
        let mut trace = service.traces().begin(model.spec(), arrival);
        let request = Request { model, message, arrival, deadline };
        let compression = options.compression.and_then(|effort| Some((Encoding::of_answer(&headers)?, effort)));
        let outcome = carry_out(&service, &request, compression, trace.as_mut()).await;
        if outcome.is_ok() {
            service.catalog().answers().record(metrics::Protocol::Grpc, started.elapsed());
        }
        traced::send(outcome, trace, |error| reply::failure(&error), tonic::body::Body::new)
    }
}

/// A response that refuses a call before its message is complete. Boxed, because it is rare and large.
pub type Refusal = Box<Response<tonic::body::Body>>;

fn refusal(error: InferError) -> Refusal {
    Box::new(reply::failure(&error))
}

/// A message that was read.
enum Message {
    Decoded(Box<ModelInferRequest>),
    /// A large one, which was translated away from the I/O thread.
    Call(Result<OwnedCall, InferError>),
}

/// The model, the message, and when its last byte was received.
async fn read(service: &Arc<Service>, message: frame::Receiver) -> Result<(Arc<Model>, Message, Instant), InferError> {
    let message = message.finish().await?;
    let received = Instant::now();
    if fields::bytes_beside_tensors(&message) > work::LARGE_BYTES {
        let service = Arc::clone(service);
        let (model, call) = work::run(move |_| {
            let parameters = fields::parameters(&message);
            if parameters > MAX_PARAMETERS {
                let refusal =
                    format_args!("the request has {parameters} parameters; at most {MAX_PARAMETERS} are read");
                return Err(InferError::new(ErrorKind::TooLarge, refusal));
            }
            let mut charge = service.catalog().pool().budget().charge();
            charge.try_force(fields::count(&message).saturating_mul(BYTES_PER_FIELD))?;
            let (model, message) = decode(&service, message)?;
            let call = request::call(&message, service.shared_memory());
            let call = call.and_then(|call| OwnedCall::new(call, model.spec(), charge));
            Ok((model, call))
        })
        .await?;
        return Ok((model, Message::Call(call), received));
    }
    let (model, message) = decode(service, message)?;
    Ok((model, Message::Decoded(Box::new(message)), received))
}

/// Parameters that a request may have: a map of more leaves the processor's caches, and each costs the more for it.
const MAX_PARAMETERS: usize = 1 << 16;

/// Bytes that are charged for each field of a large message while it is read: a tensor of which nothing is sent has
/// about as many.
const BYTES_PER_FIELD: usize = 256;

/// The message, and the model that it names.
fn decode(service: &Service, message: Bytes) -> Result<(Arc<Model>, ModelInferRequest), InferError> {
    let message = ModelInferRequest::decode(message)
        .map_err(|error| InferError::invalid(format_args!("cannot decode the request: {error}")))?;
    let model = kserve::resolve(service.catalog(), &message.model_name, &message.model_version)?;
    Ok((model, message))
}

/// A call whose message was received and read.
struct Request<'a> {
    model: Arc<Model>,
    message: Message,
    arrival: Arrival<'a>,
    /// When the client stops waiting (`grpc-timeout`).
    deadline: Option<Instant>,
}

async fn carry_out(
    service: &Service,
    request: &Request<'_>,
    compression: Option<Compression>,
    trace: Option<&mut Trace>,
) -> Result<Response<tonic::body::Body>, InferError> {
    let Request { model, message, arrival, deadline } = request;
    let call = match message {
        Message::Decoded(message) => request::call(message, service.shared_memory()),
        Message::Call(Ok(call)) => Ok(call.call(arrival.started)),
        Message::Call(Err(error)) => Err(error.clone()),
    };
    let mut call = call.inspect_err(|error| model.refused(error.kind()))?;
    let mut timings = StageTimings::default();
    timings[Stage::Receive] = arrival.received - arrival.started;
    timings[Stage::Parse] = arrival.received.elapsed();
    call.started = arrival.started;
    call.deadline = *deadline;
    call.timings = timings;
    let id = call.id;
    let answered = kserve::infer(service.catalog(), Arc::clone(model), call, trace).await?;
    answer(answered, id, compression, service.catalog().pool().budget()).await
}

/// The response without its tensors.
pub(super) fn header(answer: &Answer, id: &str) -> ModelInferResponse {
    let spec = answer.model.spec();
    let describe = |AnsweredOutput { name, tensor, shared }: &AnsweredOutput| InferOutputTensor {
        name: name.clone(),
        datatype: tensor.data_type().name().to_owned(),
        shape: tensor.shape().dims().iter().map(|&dim| dim as i64).collect(),
        parameters: shared
            .as_ref()
            .map(|range| shared_memory_parameters(range, tensor.data().len()))
            .unwrap_or_default(),
        ..InferOutputTensor::default()
    };
    ModelInferResponse {
        model_name: spec.name().to_owned(),
        model_version: spec.version().to_string(),
        id: id.to_owned(),
        outputs: answer.outputs.iter().map(describe).collect(),
        ..ModelInferResponse::default()
    }
}

/// The tensors of a response. An output in shared memory is empty here.
pub(super) fn tensors(answer: &Answer) -> impl Iterator<Item = Bytes> + Clone {
    answer.outputs.iter().map(|output| match output.shared {
        None => output.tensor.data().clone(),
        Some(_) => Bytes::new(),
    })
}

/// The parameters of an output of `byte_size` bytes that was written to shared memory.
fn shared_memory_parameters(range: &SharedRange, byte_size: usize) -> HashMap<String, InferParameter> {
    let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
    let mut parameters = HashMap::from([
        ("shared_memory_region".to_owned(), parameter(ParameterChoice::StringParam(range.name().to_owned()))),
        ("shared_memory_byte_size".to_owned(), parameter(ParameterChoice::Int64Param(byte_size as i64))),
    ]);
    if range.offset() > 0 {
        let offset = parameter(ParameterChoice::Int64Param(range.offset() as i64));
        parameters.insert("shared_memory_offset".to_owned(), offset);
    }
    parameters
}

/// How a response is compressed.
type Compression = (Encoding, Effort);

/// Writes the response: one message, whose tensors are sent without a copy unless it is compressed.
async fn answer(
    answer: Answer,
    id: &str,
    compression: Option<Compression>,
    budget: &Budget,
) -> Result<Response<tonic::body::Body>, InferError> {
    let encoding = Instant::now();
    let header = header(&answer, id);
    let tensors = tensors(&answer);
    let mut parts = parts(&header, tensors)?;
    let mut headers = HeaderMap::new();
    if let Some((encoding, effort)) = compression
        && let Some(compressed) = compressed(&parts, encoding, effort, budget).await?
    {
        parts = compressed;
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    let mut timings = answer.timings;
    timings[Stage::Encode] = encoding.elapsed();

    reply::add_placement(&mut headers, answer.model.placement());
    let mut trailers = HeaderMap::new();
    trailers.insert(tonic::Status::GRPC_STATUS, HeaderValue::from_static("0"));
    reply::insert(&mut trailers, SERVER_TIMING, &server_timing(&timings));
    Ok(reply::message(parts, headers, trailers, budget.charge()))
}

/// The parts of a message as one that is compressed; `None` if that is not smaller.
async fn compressed(
    parts: &[Bytes],
    encoding: Encoding,
    effort: Effort,
    budget: &Budget,
) -> Result<Option<Vec<Bytes>>, InferError> {
    let Some((first, rest)) = parts.split_first() else { return Ok(None) };
    let message: Vec<_> = [first.slice(frame::PREFIX_BYTES..)].into_iter().chain(rest.iter().cloned()).collect();
    let length: usize = message.iter().map(Bytes::len).sum();
    let compressed = encoding.encode(message, effort, budget).await?;
    if compressed.len() >= length {
        return Ok(None);
    }
    // It is smaller than a message, so its length fits.
    let mut prefix = BytesMut::with_capacity(frame::PREFIX_BYTES);
    prefix.put_u8(1); // compressed
    prefix.put_u32(compressed.len() as u32);
    Ok(Some(vec![prefix.freeze(), compressed]))
}

/// The parts of a message: its prefix and `header`, then `tensors` as `raw_output_contents`.
fn parts(header: &ModelInferResponse, tensors: impl Iterator<Item = Bytes> + Clone) -> Result<Vec<Bytes>, InferError> {
    let encoded = |tensor: &Bytes| prost::encoding::bytes::encoded_len(RAW_OUTPUT_CONTENTS, tensor);
    let length = header.encoded_len() + tensors.clone().map(|tensor| encoded(&tensor)).sum::<usize>();
    let length = u32::try_from(length)
        .map_err(|_| InferError::new(ErrorKind::TooLarge, "the outputs exceed the 4 GiB of a gRPC message"))?;
    let mut scratch = BytesMut::with_capacity(frame::PREFIX_BYTES + header.encoded_len() + 16);
    scratch.put_u8(0); // not compressed
    scratch.put_u32(length);
    header.encode(&mut scratch).map_err(InferError::internal)?;
    let mut parts = Vec::with_capacity(4);
    for tensor in tensors {
        encode_key(RAW_OUTPUT_CONTENTS, WireType::LengthDelimited, &mut scratch);
        encode_varint(tensor.len() as u64, &mut scratch);
        parts.push(scratch.split().freeze());
        parts.push(tensor);
    }
    parts.push(scratch.freeze());
    Ok(parts)
}

/// The value of `grpc-timeout`: at most eight digits and a unit. A malformed one is ignored.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_grpc_timeouts_and_ignores_malformed_ones() {
        let read = |value: &'static str| {
            timeout(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_static(value))]))
        };
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!([read("1"), read("S"), read("-1S"), read("999999999S"), read("")], [None; 5]);
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    proptest! {
        /// The parts are the bytes that protobuf's encoder would write, and the tensors are not copied.
        #[test]
        fn the_parts_are_one_message(
            name in "\\PC{0,20}",
            tensors in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
        ) {
            let header = ModelInferResponse { model_name: name, ..Default::default() };
            let tensors: Vec<_> = tensors.into_iter().map(Bytes::from).collect();
            let parts = parts(&header, tensors.iter().cloned()).unwrap();
            for tensor in tensors.iter().filter(|tensor| !tensor.is_empty()) {
                prop_assert!(parts.iter().any(|part| part.as_ptr() == tensor.as_ptr()), "a copy");
            }
            let message = ModelInferResponse { raw_output_contents: tensors, ..header };
            let bytes = parts.concat();
            prop_assert_eq!(&bytes[..1], [0]);
            prop_assert_eq!(&bytes[1..5], (message.encoded_len() as u32).to_be_bytes());
            prop_assert_eq!(&bytes[5..], message.encode_to_vec());
        }
    }
}
