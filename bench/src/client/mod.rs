//! Clients: how a lane is asked, and how its answer is read.
//!
//! [`connection`] moves bytes; [`jpeg`], [`http`] and [`grpc`] know the protocols.

pub mod connection;
pub mod grpc;
pub mod http;
pub mod jpeg;

pub use connection::{CallError, Connection, HttpVersion, Marks, Prepared, Reply};

use crate::{
    payload::Payload,
    settings::Limits,
    target::{Protocol, Target},
};

/// Name of the model's input.
pub const INPUT: &str = "image";
/// Name of the output asked for: the same that the jpeg lane answers.
pub const OUTPUT: &str = "embedding";

/// One worker's way to a lane.
pub struct Client {
    protocol: Protocol,
    /// The worker's own connection.
    pub connection: Connection,
}

impl Client {
    /// A client with a connection of its own.
    pub fn new(target: &Target, limits: Limits) -> Self {
        let version = match target.protocol() {
            Protocol::Jpeg | Protocol::KserveHttp => HttpVersion::Http1,
            Protocol::KserveGrpc => HttpVersion::Http2,
        };
        Self { protocol: target.protocol(), connection: Connection::new(target.endpoint.clone(), version, limits) }
    }

    /// Sends an inference request; the answer is complete and says success.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn infer(&mut self, request: &Prepared) -> Result<Reply, CallError> {
        let mut reply = self.connection.call(request).await?;
        match self.protocol {
            Protocol::Jpeg | Protocol::KserveHttp => http::check(&reply)?,
            Protocol::KserveGrpc => grpc::check(&reply)?,
        }
        reply.marks.decoded = reply.started.elapsed();
        Ok(reply)
    }

    /// Reads the embeddings out of an answer, one row for each image.
    ///
    /// # Errors
    /// [`CallError::Malformed`].
    pub fn embeddings(&self, reply: &Reply) -> Result<Vec<Vec<f32>>, CallError> {
        match self.protocol {
            Protocol::Jpeg => jpeg::embeddings(reply),
            Protocol::KserveHttp => http::embeddings(reply),
            Protocol::KserveGrpc => grpc::embeddings(reply),
        }
    }
}

/// Makes a lane's requests for one batch size, one for each photograph that a batch can begin with.
/// Every lane's n-th request carries the same photographs.
///
/// # Errors
/// When an address or model name cannot be part of a request.
pub fn prepare(target: &Target, payload: &Payload, batch: usize) -> Result<Vec<Prepared>, CallError> {
    (0..payload.variants())
        .map(|first| match target.protocol() {
            Protocol::Jpeg => jpeg::infer_request(target, &payload.base64(first, batch)),
            Protocol::KserveHttp => http::infer_request(target, batch, payload.tensor(first, batch)),
            Protocol::KserveGrpc => grpc::infer_request(target, batch, payload.tensor(first, batch)),
        })
        .collect()
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
