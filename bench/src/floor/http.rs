//! KServe v2 over HTTP/1.1 on a blocking socket: a light client, so that the server is measured.

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

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A connection with its request: head and JSON, and the tensor.
pub(super) struct Http {
    stream: Stream,
    head: Vec<u8>,
    tensor: Bytes,
    /// What an answer has to be good for; nothing where its tensor goes elsewhere.
    payload: Option<Payload>,
    body: Vec<u8>,
    region: Option<Shared>,
}

/// A region that the server knows, and the request that makes it forget it.
struct Shared {
    _region: Region,
    forget: Vec<u8>,
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

    /// The jpeg lane, with a photograph.
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
            region: None,
        })
    }

    /// Bytes of an answer.
    pub(super) fn answer_bytes(&mut self) -> anyhow::Result<usize> {
        self.exchange()?;
        Ok(self.body.len())
    }

    /// The same with tensors in system shared memory; the answer's goes into the output of this name.
    pub(super) fn with_shared_memory(
        address: &Address,
        model: &str,
        payload: &Payload,
        output: &str,
    ) -> anyhow::Result<Self> {
        let region = shared_memory::region(payload)?;
        let path = |what| format!("v2/systemsharedmemory/region/{}/{what}", region.name());
        let mut connection = Self {
            stream: Stream::connect(address)?,
            head: post(address, &path("register"), &region.registration(), 0),
            tensor: Bytes::new(),
            payload: None,
            body: Vec::new(),
            region: None,
        };
        connection.exchange().context("the server takes no shared memory")?;
        connection.head =
            post(address, &format!("v2/models/{model}/infer"), &shared_memory::request(&region, payload, output), 0);
        let forget = post(address, &path("unregister"), &serde_json::json!({}), 0);
        connection.region = Some(Shared { _region: region, forget });
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

    /// The answer's head; what came of the body with it is in `self.body`, which gets the body's length.
    fn receive_head(&mut self) -> anyhow::Result<(Head, usize)> {
        let mut buffer = [0; MAX_HEAD_BYTES];
        let mut filled = 0;
        loop {
            let got = self.stream.read(&mut buffer[filled..])?;
            ensure!(got > 0, "the server ended the connection, or its answer's head is too long");
            filled += got;
            if let Some(end) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                let head = Head::parse(&buffer[..end])?;
                let early = &buffer[end + 4..filled];
                ensure!(early.len() <= head.length, "the answer is longer than it says");
                self.body.resize(head.length, 0);
                self.body[..early.len()].copy_from_slice(early);
                return Ok((head, early.len()));
            }
        }
    }
}

/// A server that kept the regions of every cell would run out of memory.
impl Drop for Http {
    fn drop(&mut self) {
        if let Some(shared) = self.region.take() {
            self.head.clone_from(&shared.forget);
            let _ = self.exchange();
        }
    }
}

/// A request's head and JSON; `more` bytes follow.
fn post(address: &Address, path: &str, json: &serde_json::Value, more: usize) -> Vec<u8> {
    let host = address.authority();
    let json = json.to_string();
    format!(
        "POST /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/octet-stream\r\n\
         {INFERENCE_HEADER_CONTENT_LENGTH}: {}\r\ncontent-length: {}\r\n\r\n{json}",
        json.len(),
        json.len() + more
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
        let text = std::str::from_utf8(bytes).context("the answer's head is not text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let mut head = Self { status: status.context("no HTTP status")?, length: 0, model_seconds: 0.0 };
        let mut length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case(SERVER_TIMING) {
                head.model_seconds = model_seconds(value.trim());
            }
        }
        head.length = length.context("the answer has no Content-Length")?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nserver-timing: infer;dur=4.0").unwrap();
        assert_eq!(head, Head { status: 200, length: 12, model_seconds: 0.004 });
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked").is_err());
        assert!(Head::parse(b"nonsense").is_err());
    }
}
