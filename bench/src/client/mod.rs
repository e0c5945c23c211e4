//! Clients: how a lane is asked, and how its answer is read.
//!
//! [`dial`] opens a stream, [`tls`] speaks TLS on it, [`wire`] counts what goes over it, [`connection`] speaks HTTP on it, [`policy`]
//! says whose it is; [`shared`] has tensors in memory; [`jpeg`], [`http`] and [`grpc`] know the protocols.

pub mod connection;
pub mod dial;
pub mod grpc;
pub mod http;
pub mod jpeg;
pub mod payload;
pub mod policy;
pub mod shared;
pub mod target;
pub mod tls;
pub mod wire;

use std::sync::Arc;

use tokio::sync::Mutex;

pub use connection::{CallError, Connection, HttpVersion, Marks, Prepared, Reply};
pub use policy::Policy;
pub use shared::{Place, Region};
pub use tls::{TlsVersion, Trust};
pub use wire::{Traffic, Wire};

use crate::{
    client::{
        payload::Payload,
        target::{Endpoint, Protocol, Target},
    },
    model::{
        encoding::{self, Encoding},
        settings::Limits,
    },
};
use policy::Way;

/// Name of the model's input.
pub const INPUT: &str = "image";
/// Name of the output asked for: the same that the jpeg lane answers.
pub const OUTPUT: &str = "embedding";

/// Makes a lane's clients: whose connections they use is the policy's matter.
pub struct Clients {
    protocol: Protocol,
    endpoint: Endpoint,
    policy: Policy,
    limits: Limits,
    wire: Arc<Wire>,
    shared: Vec<Arc<Mutex<Connection>>>,
    made: usize,
}

impl Clients {
    /// Clients of one lane.
    pub fn new(target: &Target, policy: Policy, limits: Limits) -> Self {
        let mut clients = Self {
            protocol: target.protocol(),
            endpoint: target.endpoint.clone(),
            policy,
            limits,
            wire: Arc::default(),
            shared: Vec::new(),
            made: 0,
        };
        if let Policy::Shared(n) = policy {
            clients.shared = (0..n.get()).map(|_| Arc::new(Mutex::new(clients.connection()))).collect();
        }
        clients
    }

    fn connection(&self) -> Connection {
        let version = match self.protocol {
            Protocol::Jpeg | Protocol::KserveHttp => HttpVersion::Http1,
            Protocol::KserveGrpc => HttpVersion::Http2,
        };
        Connection::counted(self.endpoint.clone(), version, self.limits, Arc::clone(&self.wire))
    }

    /// One more client, for one more worker.
    pub fn client(&mut self) -> Client {
        let way = match self.policy {
            Policy::Fresh => Way::Fresh(self.connection()),
            Policy::Reused => Way::Own(self.connection()),
            Policy::Shared(_) => Way::Shared(Arc::clone(&self.shared[self.made % self.shared.len()])),
        };
        self.made += 1;
        Client { protocol: self.protocol, way }
    }

    /// What all their connections carried.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }
}

/// One worker's way to a lane.
pub struct Client {
    protocol: Protocol,
    way: Way,
}

impl Client {
    /// Opens the connection ahead of the first request, where it is kept.
    ///
    /// # Errors
    /// [`CallError::Connect`].
    pub async fn connect(&mut self) -> Result<(), CallError> {
        self.way.connect().await
    }

    /// Closes the worker's own connection and waits for it.
    pub async fn close(&mut self) {
        self.way.close().await;
    }

    /// Closes the connection, where it is not kept; not a part of the request.
    pub async fn settle(&mut self) {
        self.way.settle().await;
    }

    /// Sends an inference request; the answer is complete and says success.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn infer(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        let mut reply = self.way.call(request).await?;
        match self.protocol {
            Protocol::Jpeg | Protocol::KserveHttp => http::check(&reply)?,
            Protocol::KserveGrpc => grpc::check(&reply)?,
        }
        reply.marks.decoded = reply.started.elapsed();
        Ok(reply)
    }

    /// Reads the embeddings out of an answer, one row for each image; where it only says that they are in shared memory,
    /// out of what is there.
    ///
    /// # Errors
    /// [`CallError::Malformed`].
    pub fn embeddings(&self, reply: &Reply, shared: Option<&[u8]>) -> Result<Vec<Vec<f32>>, CallError> {
        match self.protocol {
            Protocol::Jpeg => jpeg::embeddings(reply),
            Protocol::KserveHttp => http::embeddings(reply, shared),
            Protocol::KserveGrpc => grpc::embeddings(reply, shared),
        }
    }
}

/// Makes a lane's requests for one batch size, one for each photograph that a batch can begin with.
/// Every lane's n-th request carries the same photographs; with a region, it only says where they are.
///
/// # Errors
/// When an address or model name cannot be part of a request.
pub fn prepare(
    target: &Target,
    encoding: Encoding,
    payload: &Payload,
    batch: usize,
    region: Option<&Region>,
) -> Result<Vec<Prepared>, CallError> {
    let one = |first| {
        if let Some(region) = region {
            let places = [payload.place(encoding, first, batch), region.output(first)];
            return match target.protocol() {
                Protocol::KserveGrpc => grpc::shared_infer_request(target, encoding, batch, region.name(), places),
                _ => http::shared_infer_request(target, encoding, batch, region.name(), places),
            };
        }
        let tensor = || payload.tensor_as(encoding, first, batch);
        match (target.protocol(), encoding) {
            (Protocol::Jpeg, Encoding::Jpeg) => jpeg::raw_infer_request(target, payload.encoded(first, batch)),
            (Protocol::Jpeg, _) => jpeg::infer_request(target, &payload.base64(first, batch)),
            (Protocol::KserveHttp, Encoding::Json) => {
                let numbers = encoding::to_json(&tensor()).map_err(|e| CallError::Malformed(e.to_string()))?;
                http::json_infer_request(target, batch, numbers)
            }
            (Protocol::KserveHttp, _) => http::infer_request(target, encoding, batch, tensor()),
            (Protocol::KserveGrpc, _) => grpc::infer_request(target, encoding, batch, tensor()),
        }
    };
    (0..payload.variants()).map(one).collect()
}

/// The rows of a tensor that a server wrote to the beginning of its place.
fn shared_rows(place: &[u8], shape: &[i64]) -> Result<Vec<Vec<f32>>, CallError> {
    let bytes = shape.iter().try_fold(4_usize, |bytes, &dim| bytes.checked_mul(usize::try_from(dim).ok()?));
    rows(bytes.and_then(|bytes| place.get(..bytes)).unwrap_or_default(), shape)
}

/// Splits a flat `[n, width]` FP32 tensor in little-endian bytes into rows.
fn rows(data: &[u8], shape: &[i64]) -> Result<Vec<Vec<f32>>, CallError> {
    let malformed = || CallError::Malformed(format!("`{OUTPUT}` of shape {shape:?} has {} bytes", data.len()));
    let [count, width] = *shape else { return Err(malformed()) };
    let (count, width) =
        (usize::try_from(count).map_err(|_| malformed())?, usize::try_from(width).map_err(|_| malformed())?);
    let row_bytes = width.checked_mul(4).filter(|&bytes| bytes > 0).ok_or_else(malformed)?;
    if count.checked_mul(row_bytes) != Some(data.len()) {
        return Err(malformed());
    }
    let (elements, _) = data.as_chunks::<4>();
    let elements: Vec<f32> = elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(elements.chunks(width).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_must_fit_their_shape() {
        let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(rows(&data, &[2, 2]).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        for shape in [&[4][..], &[2, 3], &[-1, 4], &[4, 0], &[i64::MAX, i64::MAX], &[]] {
            assert!(rows(&data, shape).is_err(), "{shape:?}");
        }
    }
}
