//! Requests and responses of KServe v2 over gRPC.

use std::collections::HashMap;

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
        endpoint::Endpoint,
        inference::{Content, Inference, Input},
        outputs::Described,
        placement::grpc_parameters,
        target::Target,
    },
    model::outputs::Output,
};

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;
/// Longest piece of a message that is copied into the chunk before it.
const MAX_COPIED: usize = 4096;
/// A message's prefix: a compression flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;

/// A unary call of `GRPCInferenceService`.
///
/// # Errors
/// When the host is not valid in a request.
pub fn unary(endpoint: &Endpoint, method: &str, message: &impl Message) -> Result<Prepared, CallError> {
    call(endpoint, method, vec![message.encode_to_vec().into()])
}

/// `ModelInfer` with binary tensors in `raw_input_contents`, each as a chunk: they are not copied into the message.
///
/// # Errors
/// When the tensors do not fit a message.
pub fn infer_request(target: &Target, inference: &Inference) -> Result<Prepared, CallError> {
    let region = inference.shared.as_ref();
    let mut tensors = Vec::new();
    let inputs = inference.inputs.iter().map(|Input { name, datatype, shape, content }| {
        let parameters = match (content, region) {
            (Content::Shared(placement), Some((region, _))) => grpc_parameters(region, *placement).into(),
            _ => HashMap::new(),
        };
        if let Content::Binary(tensor) = content {
            tensors.push(tensor.clone());
        }
        let (name, datatype, shape) = (name.clone(), datatype.clone(), shape.clone());
        InferInputTensor { name, datatype, shape, parameters, ..Default::default() }
    });
    let inputs = inputs.collect();
    let outputs = inference.outputs.iter().map(|name| InferRequestedOutputTensor {
        name: name.clone(),
        parameters: region.map_or_else(HashMap::new, |(region, output)| grpc_parameters(region, *output).into()),
    });
    let message = ModelInferRequest {
        model_name: target.model.clone(),
        inputs,
        outputs: outputs.collect(),
        ..Default::default()
    };
    let mut chunks = vec![Bytes::from(message.encode_to_vec())];
    for tensor in tensors {
        let mut key = BytesMut::new();
        encode_key(RAW_INPUT_CONTENTS, WireType::LengthDelimited, &mut key);
        encode_varint(tensor.len() as u64, &mut key);
        chunks.extend([key.freeze(), tensor]);
    }
    Ok(Prepared { output: region.map(|(_, output)| *output), ..call(&target.endpoint, "ModelInfer", chunks)? })
}

/// A call whose message is these pieces together; the prefix and the first piece are one chunk.
fn call(endpoint: &Endpoint, method: &str, mut pieces: Vec<Bytes>) -> Result<Prepared, CallError> {
    let length = u32::try_from(pieces.iter().map(Bytes::len).sum::<usize>())
        .map_err(|_| CallError::Malformed("a gRPC message is at most 4 GiB long".into()))?;
    pieces.retain(|piece| !piece.is_empty());
    let mut first = BytesMut::new();
    first.put_u8(0); // not compressed
    first.put_u32(length);
    // Small pieces are copied, so that a request with one tensor has two chunks.
    let small = pieces.iter().take_while(|piece| piece.len() <= MAX_COPIED).count();
    pieces.drain(..small).for_each(|piece| first.put_slice(&piece));
    let scheme = if endpoint.trust().is_some() { "https" } else { "http" };
    let path = format!("{}/inference.GRPCInferenceService/{method}", endpoint.prefix());
    let uri: Uri = format!("{scheme}://{}{path}", endpoint.authority())
        .parse()
        .map_err(|_| CallError::Malformed(format!("{endpoint} is not valid in a request")))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("quintet-bench/", env!("CARGO_PKG_VERSION"))));
    headers.extend(endpoint.headers().map(|(name, value)| (name.clone(), value.clone())));
    Ok(Prepared {
        method: Method::POST,
        uri,
        headers,
        chunks: std::iter::once(first.freeze()).chain(pieces).collect(),
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

/// The outputs in a response, from its raw outputs or, the first, from shared memory.
///
/// # Errors
/// [`CallError::Malformed`].
pub fn outputs(reply: &Reply, shared: Option<&[u8]>) -> Result<Vec<Output>, CallError> {
    let response: ModelInferResponse = message(reply)?;
    let mut raw = response.raw_output_contents.iter();
    let outputs = response.outputs.iter().map(|output| {
        let described = Described { name: &output.name, datatype: &output.datatype, shape: &output.shape };
        match (shared, raw.next()) {
            (Some(placement), _) => described.read_shared(placement),
            (None, Some(data)) => described.read(data),
            (None, None) => Err(CallError::Malformed(format!("no raw output `{}`", output.name))),
        }
    });
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    if outputs.is_empty() { Err(CallError::Malformed("no outputs".into())) } else { Ok(outputs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lane::Lane;
    use http::HeaderName;

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
        let request = infer_request(&target, &Inference::plain(1, tensor.clone())).unwrap();
        assert_eq!(request.chunks[1].as_ptr(), tensor.as_ptr(), "the tensor is not copied");
        let body = request.chunks.concat();
        assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - PREFIX_BYTES);
        let message = ModelInferRequest::decode(&body[PREFIX_BYTES..]).unwrap();
        assert_eq!(message.model_name, "resnet18");
        assert_eq!(message.inputs[0].shape, [1, 3, 224, 224]);
        assert_eq!(message.raw_input_contents, [tensor]);
    }

    #[test]
    fn several_inputs_are_raw_contents_in_their_order_and_headers_are_metadata() {
        let headers = HeaderMap::from_iter([
            (header::HOST, HeaderValue::from_static("model.example")),
            (HeaderName::from_static("x-route"), HeaderValue::from_static("canary")),
        ]);
        let endpoint = "grpc://127.0.0.1:1/serving".parse::<Endpoint>().unwrap().with_headers(&headers);
        let target = Target { lane: Lane::ONNX_GRPC, metrics: endpoint.clone(), endpoint, model: "m".into() };
        let tensors = [vec![1; 9_000], vec![2; 3], Vec::new()].map(Bytes::from);
        let input = |tensor: &Bytes| Input {
            name: format!("x{}", tensor.len()),
            datatype: "UINT8".into(),
            shape: vec![tensor.len() as i64],
            content: Content::Binary(tensor.clone()),
        };
        let inference =
            Inference { inputs: tensors.iter().map(input).collect(), outputs: vec!["y".into()], shared: None };
        let request = infer_request(&target, &inference).unwrap();
        let path = "/serving/inference.GRPCInferenceService/ModelInfer";
        assert_eq!((request.uri.path(), request.uri.authority().unwrap().as_str()), (path, "model.example"));
        assert!(request.headers.contains_key("x-route") && !request.headers.contains_key("host"));
        let message = ModelInferRequest::decode(&request.chunks.concat()[PREFIX_BYTES..]).unwrap();
        assert_eq!(message.raw_input_contents, tensors);
        let names: Vec<_> = message.inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names, ["x9000", "x3", "x0"]);
    }
}
