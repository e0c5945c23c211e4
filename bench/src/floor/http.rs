//! A minimal client for KServe v2 over HTTP/1.1 on a blocking socket.

use std::io::{IoSlice, Read as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use quintet_proto::{INFERENCE_HEADER_CONTENT_LENGTH, SERVER_TIMING};

use crate::{
    client::region::Region,
    floor::{
        exchange::{Exchange, model_seconds},
        payload::Payload,
        raw::Stream,
        shared_memory,
        target::Address,
    },
};

/// Longest head of a response.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A connection with its request: head and JSON, and the tensor.
pub(super) struct Http {
    stream: Stream,
    head: Vec<u8>,
    tensor: Bytes,
    /// The payload that a response must fit; `None` with shared memory.
    payload: Option<Payload>,
    body: Vec<u8>,
    shared: Option<Shared>,
}

/// A registered region, and the request that unregisters it.
struct Shared {
    _region: Region,
    unregister: Vec<u8>,
}

impl Http {
    pub(super) fn connect(address: &Address, model: &str, payload: &Payload) -> anyhow::Result<Self> {
        let json = serde_json::json!({
            "inputs": [{
                "name": payload.input,
                "datatype": "FP32",
                "shape": payload.shape,
                "parameters": { "binary_data_size": payload.tensor.len() },
            }],
            "parameters": { "binary_data_output": true },
        });
        let head = post(address, &format!("v2/models/{model}/infer"), &json, payload.tensor.len());
        Self::open(address, head, payload)
    }

    /// Connects to the jpeg lane, with a photograph.
    pub(super) fn jpeg(address: &Address, payload: &Payload) -> anyhow::Result<Self> {
        let (host, length) = (address.authority(), payload.tensor.len());
        let head = format!(
            "POST /embed HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Self::open(address, head.into_bytes(), payload)
    }

    fn open(address: &Address, head: Vec<u8>, payload: &Payload) -> anyhow::Result<Self> {
        Ok(Self {
            stream: Stream::connect(address)?,
            head,
            tensor: payload.tensor.clone(),
            payload: Some(payload.clone()),
            body: Vec::new(),
            shared: None,
        })
    }

    /// Bytes of a response's body.
    pub(super) fn answer_bytes(&mut self) -> anyhow::Result<usize> {
        self.exchange()?;
        Ok(self.body.len())
    }

    /// Connects with the tensors in system shared memory; `output` is the name of the model's output.
    pub(super) fn with_shared_memory(
        address: &Address,
        model: &str,
        payload: &Payload,
        output: &str,
    ) -> anyhow::Result<Self> {
        let region = shared_memory::region(payload)?;
        let path = |action| format!("v2/systemsharedmemory/region/{}/{action}", region.name());
        let mut connection = Self {
            stream: Stream::connect(address)?,
            head: post(address, &path("register"), &region.registration(), 0),
            tensor: Bytes::new(),
            payload: None,
            body: Vec::new(),
            shared: None,
        };
        connection.exchange().context("the server refuses shared memory")?;
        connection.head =
            post(address, &format!("v2/models/{model}/infer"), &shared_memory::request(&region, payload, output), 0);
        let unregister = post(address, &path("unregister"), &serde_json::json!({}), 0);
        connection.shared = Some(Shared { _region: region, unregister });
        Ok(connection)
    }

    fn send(&mut self) -> std::io::Result<()> {
        let (mut head, tensor) = (&self.head[..], &self.tensor[..]);
        while !head.is_empty() {
            let sent = self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(tensor)])?;
            if sent >= head.len() {
                let rest = &tensor[sent - head.len()..];
                return self.stream.write_all(rest);
            }
            head = &head[sent..];
        }
        Ok(())
    }

    /// Reads the head of a response, and the bytes of the body that came with it into `self.body`; returns their number.
    fn receive_head(&mut self) -> anyhow::Result<(Head, usize)> {
        let mut buffer = [0; MAX_HEAD_BYTES];
        let mut filled = 0;
        loop {
            let got = self.stream.read(&mut buffer[filled..])?;
            ensure!(got > 0, "the server closed the connection, or the head of its response is too long");
            filled += got;
            if let Some(end) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                let head = Head::parse(&buffer[..end])?;
                let early = &buffer[end + 4..filled];
                ensure!(early.len() <= head.length, "the response is longer than its Content-Length");
                self.body.resize(head.length, 0);
                self.body[..early.len()].copy_from_slice(early);
                return Ok((head, early.len()));
            }
        }
    }
}

/// Unregisters the region, so that the server does not keep the regions of all cells.
impl Drop for Http {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            self.head.clone_from(&shared.unregister);
            let _ = self.exchange();
        }
    }
}

/// A request's head and JSON; `tensor_bytes` follow.
fn post(address: &Address, path: &str, json: &serde_json::Value, tensor_bytes: usize) -> Vec<u8> {
    let host = address.authority();
    let json = json.to_string();
    format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/octet-stream\r\n\
         {INFERENCE_HEADER_CONTENT_LENGTH}: {}\r\ncontent-length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + tensor_bytes
    )
    .into_bytes()
}

impl Exchange for Http {
    fn exchange(&mut self) -> anyhow::Result<f64> {
        self.send()?;
        let (head, early) = self.receive_head()?;
        self.stream.read_exact(&mut self.body[early..])?;
        if head.status != 200 {
            bail!("status {}: {:.300}", head.status, String::from_utf8_lossy(&self.body));
        }
        if let Some(payload) = &self.payload {
            payload.check(self.body.len())?;
        }
        Ok(head.model_seconds)
    }
}

#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    length: usize,
    model_seconds: f64,
}

impl Head {
    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the head of the response is not text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut head =
            Self { status: status.context("the response has no HTTP status")?, length: 0, model_seconds: 0.0 };
        let mut length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case(SERVER_TIMING) {
                head.model_seconds = model_seconds(value.trim());
            }
        }
        head.length = length.context("the response has no Content-Length")?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_heads() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nserver-timing: infer;dur=4.0").unwrap();
        assert_eq!(head, Head { status: 200, length: 12, model_seconds: 0.004 });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked").is_err());
        assert!(Head::parse(b"nonsense").is_err());
    }
}
