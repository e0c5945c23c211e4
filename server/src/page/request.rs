//! A photograph as the request of a lane's own protocol, and the classes in its response.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use prost::Message as _;
use quintet_engine::{DataType, InferError, Model, TensorSpec};
use quintet_proto::{
    INFERENCE_HEADER_CONTENT_LENGTH, elements,
    inference::{
        ModelInferRequest, ModelInferResponse,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
    rest::ErrorBody,
};
use serde_json::{Value, json};

use super::{
    connection::Reply,
    lane::{Lane, Payload, Protocol, Taker},
};
use crate::{
    image_input::{Image, Target},
    image_output::ImageOutput,
    kserve::classify,
};

/// The classes that are shown of a photograph.
const CLASSES: usize = 5;

/// The bytes in front of a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The one input of a request.
struct Input<'a> {
    name: &'a str,
    data_type: DataType,
    shape: Vec<i64>,
    data: Bytes,
}

/// The photograph as this payload for a model of the lane.
///
/// # Errors
/// Those of decoding a photograph, which is the client's work for a tensor.
async fn input<'a>(
    lane: &Lane,
    taker: &'a Taker,
    payload: Payload,
    photograph: Bytes,
) -> Result<Input<'a>, InferError> {
    let Taker { model, input } = taker;
    let named = model.spec().inputs().get(input.index());
    let name = &named.ok_or_else(|| InferError::internal("the model has no input"))?.name;
    if payload == Payload::Jpeg {
        return Ok(Input { name, data_type: DataType::Bytes, shape: vec![1], data: elements::encode([photograph]) });
    }
    let catalog = lane.service.catalog();
    let target = Target { input: input.clone(), max_batch_size: 1, max_pixels: catalog.limits().max_image_pixels };
    let image = Image::file("the photograph".into(), photograph);
    let decoded = catalog.decoder().decode(vec![image], target, catalog.pool()).await?;
    let (_, data) = decoded.into_iter().next().ok_or_else(|| InferError::internal("the decoder returned no image"))?;
    let shape = input.shape(1).dims().iter().map(|&dim| dim as i64).collect();
    Ok(Input { name, data_type: input.data_type(), shape, data })
}

/// The request that asks a lane for the classes of a photograph, with the client's token.
///
/// # Errors
/// As [`input`], and for a model without classes.
pub(super) async fn request(
    lane: &Lane,
    taker: &Taker,
    payload: Payload,
    photograph: Bytes,
    token: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, InferError> {
    let model = taker.model.spec();
    let mut headers = HeaderMap::new();
    headers.extend(token.map(|token| (header::AUTHORIZATION, token.clone())));
    let (path, body) = match lane.protocol {
        Protocol::Images => (format!("/classify?k={CLASSES}"), photograph),
        Protocol::KserveHttp => {
            let output = output_of_classes(lane, &taker.model)?;
            let input = input(lane, taker, payload, photograph).await?;
            let (json_length, body) = rest(&input, &output.name)?;
            headers.insert(INFERENCE_HEADER_CONTENT_LENGTH, json_length.into());
            (format!("/v2/models/{}/versions/{}/infer", model.name(), model.version()), body)
        }
        Protocol::KserveGrpc => {
            let output = output_of_classes(lane, &taker.model)?;
            let input = input(lane, taker, payload, photograph).await?;
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            let message = ModelInferRequest {
                model_name: model.name().to_owned(),
                model_version: model.version().to_string(),
                ..message(input, &output.name)
            };
            ("/inference.GRPCInferenceService/ModelInfer".to_owned(), grpc(&message)?)
        }
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(InferError::internal)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The output with the classes.
fn output_of_classes<'a>(lane: &Lane, model: &'a Model) -> Result<&'a TensorSpec, InferError> {
    Ok(lane.service.catalog().image_output(model, ImageOutput::Logits)?.1)
}

/// The body of a request over HTTP: JSON, then the tensor. With the length of the JSON.
fn rest(input: &Input<'_>, output: &str) -> Result<(usize, Bytes), InferError> {
    let Input { name, data_type, shape, data } = input;
    let json = json!({
        "inputs": [{
            "name": name, "datatype": data_type.name(), "shape": shape, "parameters": {"binary_data_size": data.len()}
        }],
        "outputs": [{"name": output, "parameters": {"binary_data": true}}],
    });
    let json = serde_json::to_vec(&json).map_err(InferError::internal)?;
    Ok((json.len(), [&json, &data[..]].concat().into()))
}

fn message(input: Input<'_>, output: &str) -> ModelInferRequest {
    let Input { name, data_type, shape, data } = input;
    ModelInferRequest {
        inputs: vec![InferInputTensor {
            name: name.to_owned(),
            datatype: data_type.name().to_owned(),
            shape,
            ..InferInputTensor::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: output.to_owned(), ..InferRequestedOutputTensor::default() }],
        raw_input_contents: vec![data],
        ..ModelInferRequest::default()
    }
}

/// A message with its prefix.
fn grpc(message: &ModelInferRequest) -> Result<Bytes, InferError> {
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + length);
    body.put_u8(0); // not compressed
    body.put_u32(u32::try_from(length).map_err(InferError::internal)?);
    message.encode(&mut body).map_err(InferError::internal)?;
    Ok(body.freeze())
}

/// The classes in a lane's response, in the form of the jpeg lane; the lane's own words if it refused.
pub(super) fn classes(lane: &Lane, model: &Model, reply: &Reply) -> Result<Value, String> {
    let malformed = || "its response has another form than the protocol's".to_owned();
    let numbers = match lane.protocol {
        Protocol::Images => {
            check_http(reply)?;
            let answer: Value = serde_json::from_slice(&reply.body).map_err(|_| malformed())?;
            return answer["classifications"].get(0).cloned().ok_or_else(malformed);
        }
        Protocol::KserveHttp => {
            check_http(reply)?;
            let length = reply.head.headers.get(INFERENCE_HEADER_CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
            reply.body.get(length.ok_or_else(malformed)?..).ok_or_else(malformed)?.to_vec()
        }
        Protocol::KserveGrpc => {
            check_grpc(reply)?;
            let message = reply.body.get(PREFIX_BYTES..).ok_or_else(malformed)?;
            let message = ModelInferResponse::decode(message).map_err(|_| malformed())?;
            message.raw_output_contents.first().ok_or_else(malformed)?.to_vec()
        }
    };
    let logits: Vec<f64> = numbers.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect();
    let output = output_of_classes(lane, model).map_err(|error| error.to_string())?;
    let classes = classify::most_likely(&logits, CLASSES, output.labels.as_deref());
    serde_json::to_value(classes).map_err(|_| malformed())
}

fn check_http(reply: &Reply) -> Result<(), String> {
    if reply.head.status == StatusCode::OK {
        return Ok(());
    }
    let error = serde_json::from_slice::<ErrorBody>(&reply.body).map(|body| body.error).unwrap_or_default();
    Err(format!("{}: {error}", reply.head.status.as_u16()))
}

/// Reads the status, which is in the head of a response without a message (gRPC over HTTP/2, "Responses").
fn check_grpc(reply: &Reply) -> Result<(), String> {
    let status = tonic::Status::from_header_map(&reply.trailers);
    match status.or_else(|| tonic::Status::from_header_map(&reply.head.headers)) {
        Some(status) if status.code() == tonic::Code::Ok => Ok(()),
        Some(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        None => Err(format!("status {} without a gRPC status", reply.head.status.as_u16())),
    }
}

/// The stages of a `Server-Timing`: name and milliseconds.
pub(super) fn stages(reply: &Reply) -> Vec<(String, f64)> {
    let value = reply.head.headers.get(quintet_proto::SERVER_TIMING);
    let value = value.or_else(|| reply.trailers.get(quintet_proto::SERVER_TIMING));
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let stage = |stage: &str| {
        let (name, ms) = stage.trim().split_once(";dur=")?;
        Some((name.to_owned(), ms.parse().ok()?))
    };
    text.split(',').filter_map(stage).collect()
}
