//! A region of system shared memory: makes it, registers it with the server, removes it.
//!
//! It is written once, with all photographs; each request refers to its own part, like a client that has decoded images
//! into shared memory. Equal requests have equal outputs, so concurrent requests may share the placement of an output.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use quintet_proto::inference::{SystemSharedMemoryRegisterRequest, SystemSharedMemoryUnregisterRequest};
use serde_json::json;

use crate::{
    client::{
        call::{CallError, HttpVersion},
        connection::Connection,
        grpc, http,
        placement::Placement,
        target::Target,
    },
    model::{limits::Limits, protocol::Protocol},
};

/// Folder of POSIX shared memory on Linux.
const FOLDER: &str = "/dev/shm";
/// Bytes for the embedding of one image; pages that are never written use no memory.
pub const OUTPUT_BYTES: usize = 64 << 10;

/// A region with the inputs of all requests, followed by space for the output of each. Removed when dropped.
pub struct Region {
    name: String,
    path: PathBuf,
    file: File,
    input_bytes: usize,
    output_bytes: usize,
    outputs: usize,
}

impl Region {
    /// Makes a new region with these tensors and space for the outputs of `outputs` requests, `output_bytes` each.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(tensors: &[u8], outputs: usize, output_bytes: usize) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("quintet-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = PathBuf::from(FOLDER).join(&name);
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let input_bytes = tensors.len();
        let filled = file.write_all(tensors);
        let region = Self { name, path, file, input_bytes, output_bytes, outputs };
        filled.and_then(|()| region.file.set_len(region.bytes() as u64))?;
        Ok(region)
    }

    /// The region's name at the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> usize {
        self.input_bytes + self.outputs * self.output_bytes
    }

    /// The placement of all inputs.
    pub fn input(&self) -> Placement {
        Placement { offset: 0, bytes: self.input_bytes }
    }

    /// The placement of a request's output.
    pub fn output(&self, request: usize) -> Placement {
        Placement { offset: self.input_bytes + request % self.outputs * self.output_bytes, bytes: self.output_bytes }
    }

    /// The body of the HTTP request that registers it.
    pub fn registration(&self) -> serde_json::Value {
        json!({ "key": format!("/{}", self.name), "offset": 0, "byte_size": self.bytes() })
    }

    /// Reads bytes of the region.
    ///
    /// # Errors
    /// The system's error.
    pub fn read(&self, placement: Placement) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; placement.bytes];
        self.file.read_exact_at(&mut bytes, placement.offset as u64)?;
        Ok(bytes)
    }

    /// Registers the region with a server.
    ///
    /// # Errors
    /// The server's error, or any other [`CallError`].
    pub async fn register(&self, target: &Target, limits: Limits) -> Result<(), CallError> {
        let message = SystemSharedMemoryRegisterRequest {
            name: self.name.clone(),
            key: format!("/{}", self.name),
            offset: 0,
            byte_size: self.bytes() as u64,
        };
        let call =
            Call { action: "register", method: "SystemSharedMemoryRegister", message, body: self.registration() };
        self.send(target, limits, call).await
    }

    /// Unregisters the region.
    ///
    /// # Errors
    /// As [`Region::register`].
    pub async fn unregister(&self, target: &Target, limits: Limits) -> Result<(), CallError> {
        let message = SystemSharedMemoryUnregisterRequest { name: self.name.clone() };
        let call = Call { action: "unregister", method: "SystemSharedMemoryUnregister", message, body: json!({}) };
        self.send(target, limits, call).await
    }

    async fn send<M: prost::Message>(&self, target: &Target, limits: Limits, call: Call<M>) -> Result<(), CallError> {
        let Call { action, method, message, body } = call;
        let endpoint = target.endpoint.clone().direct();
        if target.protocol() == Protocol::KserveGrpc {
            let request = grpc::unary(&endpoint, method, &message)?;
            return grpc::check(&Connection::new(endpoint, HttpVersion::Http2, limits).call(&request).await?);
        }
        let path = format!("/v2/systemsharedmemory/region/{}/{action}", self.name);
        let body = vec![body.to_string().into()];
        let request = http::post(&endpoint, &path, &[("content-type", "application/json")], body)?;
        http::check(&Connection::new(endpoint, HttpVersion::Http1, limits).call(&request).await?)
    }
}

/// A call of the shared-memory extension, for both protocols.
struct Call<M> {
    action: &'static str,
    method: &'static str,
    message: M,
    body: serde_json::Value,
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
