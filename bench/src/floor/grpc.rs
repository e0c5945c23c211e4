//! KServe v2 over gRPC on an HTTP/2 connection that its own thread drives.

use anyhow::{Context as _, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use quintet_proto::{
    SERVER_TIMING,
    inference::{ModelInferRequest, model_infer_request::InferInputTensor},
};
use tokio::{
    net::{TcpStream, UnixStream},
    runtime::Runtime,
};

use super::{
    exchange::{Exchange, model_seconds},
    payload::Payload,
    target::Address,
};

/// Field number of `ModelInferRequest.raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;
/// A message's prefix: a compression flag and a 32-bit length.
const PREFIX_BYTES: usize = 5;
/// HTTP/2 windows: large enough that no answer waits for an update.
const STREAM_WINDOW_BYTES: u32 = 64 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Largest frame that we take.
const MAX_FRAME_BYTES: u32 = 1 << 20;

type Frames = stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, std::convert::Infallible>, 2>>;
type Sender = http2::SendRequest<StreamBody<Frames>>;

/// A connection with its request: the message's head, and the tensor as it is.
pub(super) struct Grpc {
    runtime: Runtime,
    sender: Sender,
    uri: http::Uri,
    head: Bytes,
    payload: Payload,
}

impl Grpc {
    pub(super) fn connect(address: &Address, model: &str, payload: &Payload) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, authority) = runtime.block_on(async {
            anyhow::Ok(match address {
                Address::Tcp(authority) => {
                    let stream = TcpStream::connect(authority).await;
                    let stream = stream.with_context(|| format!("cannot connect to {authority}"))?;
                    stream.set_nodelay(true)?;
                    (handshake(TokioIo::new(stream)).await?, authority.as_str())
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path).await;
                    let stream = stream.with_context(|| format!("cannot connect to {}", path.display()))?;
                    (handshake(TokioIo::new(stream)).await?, "localhost")
                }
            })
        })?;
        let uri = format!("http://{authority}/inference.GRPCInferenceService/ModelInfer").parse()?;
        Ok(Self { runtime, sender, uri, head: head(model, payload)?, payload: payload.clone() })
    }
}

async fn handshake<I>(io: I) -> anyhow::Result<Sender>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_send_buf_size(4 << 20)
        .handshake(io)
        .await?;
    // Its error reaches the request in flight.
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
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
        let parts = [self.head.clone(), self.payload.tensor.clone()].map(|part| Ok(Frame::data(part)));
        let request = Request::post(self.uri.clone())
            .header(header::TE, "trailers")
            .header(header::CONTENT_TYPE, "application/grpc")
            .body(StreamBody::new(stream::iter(parts)))?;
        let (sender, payload) = (&mut self.sender, &self.payload);
        self.runtime.block_on(async {
            sender.ready().await?;
            let (answer, mut body) = sender.send_request(request).await?.into_parts();
            let (mut received, mut trailers) = (0, HeaderMap::new());
            while let Some(frame) = body.frame().await {
                match frame?.into_data() {
                    Ok(data) => received += data.len(),
                    Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                }
            }
            let status = tonic::Status::from_header_map(&trailers)
                .or_else(|| tonic::Status::from_header_map(&answer.headers))
                .context("no grpc-status")?;
            if status.code() != tonic::Code::Ok {
                bail!("status {:?}: {}", status.code(), status.message());
            }
            payload.check(received)?;
            let timing = trailers.get(SERVER_TIMING).and_then(|value| value.to_str().ok());
            Ok(timing.map_or(0.0, model_seconds))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::payload::{Input, Size};

    #[test]
    fn head_and_tensor_are_one_message() {
        let payload = Payload::new(Size::Tiny, &Input::Rows, None).unwrap();
        let whole = [&head("m", &payload).unwrap()[..], &payload.tensor].concat();
        assert_eq!(u32::from_be_bytes([whole[1], whole[2], whole[3], whole[4]]) as usize, whole.len() - PREFIX_BYTES);
        let message = ModelInferRequest::decode(&whole[PREFIX_BYTES..]).unwrap();
        assert_eq!((message.model_name.as_str(), &message.inputs[0].shape[..]), ("m", &[1, 16][..]));
        assert_eq!(message.raw_input_contents, [payload.tensor]);
    }
}
