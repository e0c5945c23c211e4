//! A minimal client for KServe v2 over gRPC on a blocking socket.

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use quintet_proto::{
    SERVER_TIMING,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};

use crate::floor::{
    answer::Answer,
    exchange::{Exchange, model_seconds},
    http2::Connection,
    payload::Payload,
    raw::Stream,
    target::Address,
};

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;
/// A message's prefix: a compression flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;

/// A connection with its request: the head of the message, and the tensor.
pub(super) struct Grpc {
    connection: Connection,
    answer: Answer,
    payload: Payload,
}

impl Grpc {
    pub(super) fn connect(address: &Address, model: &str, payload: &Payload) -> anyhow::Result<Self> {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/inference.GRPCInferenceService/ModelInfer"),
            (":authority", address.authority()),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ];
        let body = [head(model, payload)?, payload.tensor.clone()];
        let connection = Connection::new(Stream::connect(address)?, &fields, &body)?;
        Ok(Self { connection, answer: Answer::default(), payload: payload.clone() })
    }
}

/// The message up to its tensor's bytes.
fn head(model: &str, payload: &Payload) -> anyhow::Result<Bytes> {
    let mut message = ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: payload.input.clone(),
            datatype: "FP32".into(),
            shape: payload.shape.iter().map(|&dim| dim as i64).collect(),
            ..InferInputTensor::default()
        }],
        ..ModelInferRequest::default()
    }
    .encode_to_vec();
    encode_key(RAW_INPUT_CONTENTS, WireType::LengthDelimited, &mut message);
    encode_varint(payload.tensor.len() as u64, &mut message);
    let mut head = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    head.put_u8(0); // not compressed
    head.put_u32(u32::try_from(message.len() + payload.tensor.len()).context("a message is at most 4 GiB long")?);
    head.put_slice(&message);
    Ok(head.freeze())
}

impl Exchange for Grpc {
    fn exchange(&mut self) -> anyhow::Result<f64> {
        let answer = &mut self.answer;
        self.connection.exchange(answer)?;
        match answer.field("grpc-status") {
            Some("0") => self.payload.check(answer.body().len())?,
            Some(status) => bail!("status {status}: {}", answer.field("grpc-message").unwrap_or_default()),
            None => bail!("no grpc-status; HTTP status {}", answer.field(":status").unwrap_or("unknown")),
        }
        Ok(answer.field(SERVER_TIMING).map_or(0.0, model_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::payload::{Input, Size};

    #[test]
    fn head_and_tensor_form_one_message() {
        let payload = Payload::new(Size::Tiny, &Input::Rows, None).unwrap();
        let message_bytes = [&head("m", &payload).unwrap()[..], &payload.tensor].concat();
        assert_eq!(
            u32::from_be_bytes([message_bytes[1], message_bytes[2], message_bytes[3], message_bytes[4]]) as usize,
            message_bytes.len() - PREFIX_BYTES
        );
        let message = ModelInferRequest::decode(&message_bytes[PREFIX_BYTES..]).unwrap();
        assert_eq!((message.model_name.as_str(), &message.inputs[0].shape[..]), ("m", &[1, 16][..]));
        assert_eq!(message.raw_input_contents, [payload.tensor]);
    }
}
