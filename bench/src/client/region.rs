//! A region of system shared memory: made, registered with the server, removed.
//!
//! It is written once, with all photographs in a row: a request says where its own begin, as a client would that has
//! decoded them there. What a server writes is the same for every sender of the same request, so requests that are under
//! way at a time may share its place.

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

/// Where POSIX shared memory is on Linux.
const FOLDER: &str = "/dev/shm";
/// Room for the embedding of one image; pages that are not written cost nothing.
pub const OUTPUT_BYTES: usize = 64 << 10;

/// A region with the inputs of all requests, followed by room for the output of each. Removed when dropped.
pub struct Region {
    name: String,
    path: PathBuf,
    file: File,
    input_bytes: usize,
    output_bytes: usize,
    outputs: usize,
}

impl Region {
    /// Makes a region of its own with some tensors, and room for the outputs of `outputs` requests of `output_bytes` each.
    ///
    /// # Errors
    /// The system's.
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

    /// The name that a server knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn bytes(&self) -> usize {
        self.input_bytes + self.outputs * self.output_bytes
    }

    /// The place of all inputs.
    pub fn input(&self) -> Placement {
        Placement { offset: 0, bytes: self.input_bytes }
    }

    /// The place of a request's output.
    pub fn output(&self, request: usize) -> Placement {
        Placement { offset: self.input_bytes + request % self.outputs * self.output_bytes, bytes: self.output_bytes }
    }

    /// The body that registers it over HTTP.
    pub fn registration(&self) -> serde_json::Value {
        json!({ "key": format!("/{}", self.name), "offset": 0, "byte_size": self.bytes() })
    }

    /// What a server wrote.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, place: Placement) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.bytes];
        self.file.read_exact_at(&mut bytes, place.offset as u64)?;
        Ok(bytes)
    }

    /// Registers it with a server. It can be opened by its name until then.
    ///
    /// # Errors
    /// The server's refusal, or any other [`CallError`].
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

    /// Unregisters it.
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
            let question = grpc::unary(&endpoint, method, &message)?;
            return grpc::check(&Connection::new(endpoint, HttpVersion::Http2, limits).call(&question).await?);
        }
        let path = format!("/v2/systemsharedmemory/region/{}/{action}", self.name);
        let body = vec![body.to_string().into()];
        let question = http::post(&endpoint, &path, &[("content-type", "application/json")], body)?;
        http::check(&Connection::new(endpoint, HttpVersion::Http1, limits).call(&question).await?)
    }
}

/// A call of the shared-memory extension, in both protocols' forms.
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
