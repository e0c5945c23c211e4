//! The transport of a request's tensors: TCP, Unix domain socket or shared memory.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{
    encoding::{Encoding, Form},
    lane::Lane,
    protocol::Protocol,
};

/// The transport of a request's tensors. The lane determines the protocol, HTTP/1.1 or gRPC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In messages on a TCP connection.
    #[default]
    Tcp,
    /// In messages on the lane's Unix domain socket in --uds-dir.
    Uds,
    /// In system shared memory; messages on the lane's address only refer to it. KServe lanes of servers on this
    /// machine that allow it.
    Shm,
}

impl Transport {
    /// Whether a lane can use it for images in this form: only the suite has sockets, and JSON, encoded images and tensors
    /// that are no images are always in messages.
    pub fn fits(self, lane: Lane, payload: Encoding) -> bool {
        match self {
            Self::Tcp => true,
            Self::Uds => lane.peer.is_none(),
            Self::Shm => {
                let in_messages = payload == Encoding::Json || matches!(payload.form(), Form::File | Form::None);
                Protocol::of(lane) != Protocol::Jpeg && !in_messages
            }
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Uds => "uds",
            Self::Shm => "shm",
        })
    }
}

/// The path of a lane's socket in the suite's `--uds-dir`.
pub fn socket(folder: &Path, lane: Lane) -> std::path::PathBuf {
    folder.join(format!("{}.sock", lane.kind.name()))
}
