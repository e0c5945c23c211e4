//! A request's tensors in system shared memory: the file behind the region, and how the server learns of it.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::Context as _;

use super::payload::Payload;

/// Where POSIX shared memory is on Linux.
const FOLDER: &str = "/dev/shm";

/// A region with the input's tensor, and room for the output's behind it. Its file goes with it.
pub(super) struct Region {
    pub(super) name: String,
    path: PathBuf,
    input_bytes: usize,
    output_bytes: usize,
}

impl Region {
    /// Makes a region of its own for each call.
    pub(super) fn new(payload: &Payload) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("quintet-floor-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = PathBuf::from(FOLDER).join(&name);
        let region = Self { name, path, input_bytes: payload.tensor.len(), output_bytes: payload.reply };
        let write = || {
            fs::write(&region.path, &payload.tensor)?;
            fs::OpenOptions::new().write(true).open(&region.path)?.set_len(region.bytes() as u64)
        };
        write().with_context(|| format!("cannot make shared memory in {FOLDER}"))?;
        Ok(region)
    }

    fn bytes(&self) -> usize {
        self.input_bytes + self.output_bytes
    }

    /// The JSON that registers it.
    pub(super) fn registration(&self) -> serde_json::Value {
        serde_json::json!({ "key": format!("/{}", self.name), "offset": 0, "byte_size": self.bytes() })
    }

    /// The JSON of a request whose tensors are in it.
    pub(super) fn request(&self, payload: &Payload, output: &str) -> serde_json::Value {
        let place = |offset: usize, bytes: usize| {
            serde_json::json!({
                "shared_memory_region": self.name,
                "shared_memory_offset": offset,
                "shared_memory_byte_size": bytes,
            })
        };
        serde_json::json!({
            "inputs": [{
                "name": payload.input,
                "datatype": "FP32",
                "shape": payload.shape,
                "parameters": place(0, self.input_bytes),
            }],
            "outputs": [{ "name": output, "parameters": place(self.input_bytes, self.output_bytes) }],
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
