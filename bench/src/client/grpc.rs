//! Requests and responses of KServe v2 over gRPC.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use quintet_proto::inference::{
    ModelInferRequest, ModelInferResponse,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};

use crate::{
    client::{
        call::{CallError, Prepared, Reply},
        embedding::{INPUT, OUTPUT, rows, shared_rows},
        endpoint::Endpoint,
        placement::{Placement, grpc_parameters},
        target::Target,
    },
    model::encoding::Encoding,
};

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;
/// A message's prefix: a compression flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;

/// A unary call of `GRPCInferenceService`.
///
/// # Errors
/// When the host is not valid in a request.
pub fn unary(endpoint: &Endpoint, method: &str, message: &impl Message) -> Result<Prepared, CallError> {
    call(endpoint, method, message.encode_to_vec(), None)
}

/// `ModelInfer` with a tensor of the encoding's type and shape in `raw_input_contents`; requests the embedding. The tensor
/// is a separate chunk: it is not copied into the message.
///
/// # Errors
/// When the tensor does not fit a message.
pub fn infer_request(target: &Target, encoding: Encoding, batch: usize, tensor: Bytes) -> Result<Prepared, CallError> {
    let mut head = message_for(target, encoding, batch).encode_to_vec();
    encode_key(RAW_INPUT_CONTENTS, WireType::LengthDelimited, &mut head);
    encode_varint(tensor.len() as u64, &mut head);
    call(&target.endpoint, "ModelInfer", head, Some(tensor))
}

/// `ModelInfer` with input and output in shared memory.
///
/// # Errors
/// When the host is not valid in a request.
pub fn shared_infer_request(
    target: &Target,
    encoding: Encoding,
    batch: usize,
    region: &str,
    [input, output]: [Placement; 2],
) -> Result<Prepared, CallError> {
    let mut message = message_for(target, encoding, batch);
    message.inputs[0].parameters = grpc_parameters(region, input).into();
    message.outputs[0].parameters = grpc_parameters(region, output).into();
    Ok(Prepared { output: Some(output), ..unary(&target.endpoint, "ModelInfer", &message)? })
}

/// A request without its tensor, for one input and one output.
fn message_for(target: &Target, encoding: Encoding, batch: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: target.model.clone(),
        inputs: vec![InferInputTensor {
            name: INPUT.into(),
            datatype: encoding.datatype().into(),
            shape: encoding.shape(batch),
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: OUTPUT.into(), ..Default::default() }],
        ..Default::default()
    }
}

/// A call whose message is `head` followed by `tail`.
fn call(endpoint: &Endpoint, method: &str, head: Vec<u8>, tail: Option<Bytes>) -> Result<Prepared, CallError> {
    let length = u32::try_from(head.len() + tail.as_ref().map_or(0, Bytes::len))
        .map_err(|_| CallError::Malformed("a gRPC message is at most 4 GiB long".into()))?;
    let mut first = BytesMut::with_capacity(PREFIX_BYTES + head.len());
    first.put_u8(0); // not compressed
    first.put_u32(length);
    first.put_slice(&head);
    let scheme = if endpoint.trust().is_some() { "https" } else { "http" };
    let uri: Uri = format!("{scheme}://{}/inference.GRPCInferenceService/{method}", endpoint.authority())
        .parse()
        .map_err(|_| CallError::Malformed(format!("{endpoint} is not valid in a request")))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("quintet-bench/", env!("CARGO_PKG_VERSION"))));
    if let Some(authorization) = endpoint.authorization() {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    Ok(Prepared {
        method: Method::POST,
        uri,
        headers,
        chunks: std::iter::once(first.freeze()).chain(tail).collect(),
        output: None,
    })
}

/// Checks the HTTP status and the gRPC status, which is in the trailers or, without a message, in the headers.
///
/// # Errors
/// [`CallError::Status`], or [`CallError::Malformed`] without a gRPC status.
pub fn check(reply: &Reply) -> Result<(), CallError> {
    let status =
        tonic::Status::from_header_map(&reply.trailers).or_else(|| tonic::Status::from_header_map(&reply.headers));
    match status {
        Some(status) if status.code() == tonic::Code::Ok => Ok(()),
        Some(status) => {
            Err(CallError::Status { code: format!("{:?}", status.code()), message: status.message().to_owned() })
        }
        None if !reply.status.is_success() => {
            Err(CallError::Status { code: reply.status.as_u16().to_string(), message: "no gRPC server".into() })
        }
        None => Err(CallError::Malformed("no grpc-status".into())),
    }
}

/// The message of a unary response.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn message<M: Message + Default>(reply: &Reply) -> Result<M, CallError> {
    let malformed = |what: &str| CallError::Malformed(what.to_owned());
    let mut body = reply.body();
    if body.len() < PREFIX_BYTES {
        return Err(malformed("no message"));
    }
    let prefix = body.split_to(PREFIX_BYTES);
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length != body.len() {
        return Err(malformed("the length in the gRPC prefix differs from that of the message"));
    }
    M::decode(body).map_err(|e| CallError::Malformed(e.to_string()))
}

/// The embedding in a response, from its raw outputs or from shared memory.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn embeddings(reply: &Reply, shared: Option<&[u8]>) -> Result<Vec<Vec<f32>>, CallError> {
    let response: ModelInferResponse = message(reply)?;
    if let Some((bytes, output)) = shared.zip(response.outputs.iter().find(|output| output.name == OUTPUT)) {
        return shared_rows(bytes, &output.shape);
    }
    let output = response.outputs.iter().zip(&response.raw_output_contents).find(|(output, _)| output.name == OUTPUT);
    match output {
        Some((output, data)) if output.datatype == "FP32" => rows(data, &output.shape),
        Some((output, _)) => Err(CallError::Malformed(format!("`{OUTPUT}` is {}, not FP32", output.datatype))),
        None => Err(CallError::Malformed(format!("no raw output `{OUTPUT}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Lane;

    /// The chunks together are what a protobuf encoder would write.
    #[test]
    fn the_chunks_form_one_valid_message() {
        let tensor = Bytes::from(vec![7_u8; 602_112]);
        let target = Target {
            lane: Lane::ONNX_GRPC,
            endpoint: Endpoint::local(1),
            metrics: Endpoint::local(2),
            model: "resnet18".into(),
        };
        let request = infer_request(&target, Encoding::Fp32, 1, tensor.clone()).unwrap();
        assert_eq!(request.chunks[1].as_ptr(), tensor.as_ptr(), "the tensor is not copied");
        let body = request.chunks.concat();
        assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - PREFIX_BYTES);
        let message = ModelInferRequest::decode(&body[PREFIX_BYTES..]).unwrap();
        assert_eq!(message.model_name, "resnet18");
        assert_eq!(message.inputs[0].shape, [1, 3, 224, 224]);
        assert_eq!(message.raw_input_contents, [tensor]);
    }
}
