//! `ModelInfer` over gRPC: the body of a call in pieces, to models that answer with their input.

use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use prost::Message as _;
use quintet_proto::inference::{ModelInferRequest, ModelInferResponse};
use quintet_server::transport::kserve_grpc::{Incoming, Options};

use crate::{
    input::{Input, Pieces},
    models::{MAX_INPUT, echoes, runtime},
};

/// Those of the listener.
const OPTIONS: Options = Options { max_input: MAX_INPUT, max_stream_requests: 1, compression: None };

/// Bytes of a message's prefix.
const PREFIX_BYTES: usize = 5;

/// The input: flags, how the body is cut, and the message or the body.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (flags, pieces) = (input.byte(), Pieces::new(input.byte()));
    let mut headers = HeaderMap::new();
    if flags & 2 != 0 {
        headers.insert("grpc-encoding", HeaderValue::from_static(if flags & 4 != 0 { "gzip" } else { "deflate" }));
    }
    if flags & 8 != 0 {
        headers.insert("grpc-timeout", HeaderValue::from_static("1S"));
    }
    let prefixed;
    let body = if flags & 1 != 0 {
        input.0
    } else {
        prefixed = [&[0][..], &(input.0.len() as u32).to_be_bytes(), input.0].concat();
        &prefixed
    };
    let Ok(incoming) = Incoming::new(Arc::clone(echoes()), OPTIONS, headers) else { return };
    let Some(response) = receive(incoming, body, pieces) else { return };
    let (head, body) = response.into_parts();
    let Some(Ok(body)) = body.collect().now_or_never() else { unreachable!("a response that waits or breaks") };
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    let status = status.and_then(|status| status.to_str().ok()?.parse().ok()).unwrap_or(2);
    // UNKNOWN and INTERNAL are faults of a server.
    assert!(![2, 13].contains(&status), "{status}: {:?}", head.headers.get("grpc-message"));
    if status == 0 {
        check(input.0, &body.to_bytes());
    }
}

/// Gives the call its body in pieces, pushed and written directly in turn. `None` for a call that it refuses.
fn receive(
    mut call: Incoming,
    mut body: &[u8],
    mut pieces: Pieces,
) -> Option<Response<impl BodyExt<Data = bytes::Bytes>>> {
    let mut directly = false;
    while !body.is_empty() {
        let (piece, rest) = body.split_at(pieces.next().min(body.len()));
        directly = !directly;
        match call.buffer() {
            buffer if directly && buffer.len() >= piece.len() => {
                buffer[..piece.len()].copy_from_slice(piece);
                call.filled(piece.len());
            }
            _ => call.push(piece).ok()?,
        }
        body = rest;
    }
    Some(runtime().block_on(call.answer()))
}

/// Checks that the answer to `message` has its tensor.
fn check(message: &[u8], body: &[u8]) {
    let Ok(answer) = ModelInferResponse::decode(body.get(PREFIX_BYTES..).unwrap_or_default()) else {
        unreachable!("an answer that is not a message: {}", body.escape_ascii())
    };
    assert_eq!(answer.outputs.len(), 1, "not the model's output");
    // A message after its prefix, or compressed, is not looked at.
    let Ok(request) = ModelInferRequest::decode(message) else { return };
    if let [tensor] = &request.raw_input_contents[..]
        && request.model_name != "pair"
        && request.outputs.is_empty()
    {
        assert_eq!(&answer.raw_output_contents[0], tensor, "another tensor than was sent");
    }
}
