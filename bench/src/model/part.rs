//! The parts of a request's latency, and the server's stage times (`Server-Timing`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a request's latency, in the order of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Client: opening the connection; close to 0 if it is reused.
    Connect,
    /// Client: the TLS handshake, with TLS.
    Tls,
    /// Client: assembling the request from prepared pieces. (Preprocessing is charged separately.)
    ClientEncode,
    /// Client: handing the request to the system, without the time in which the server reads it.
    Send,
    /// Network: both directions together, including the operating systems on both sides. Where the round trip of the
    /// connection is known, at most that.
    Network,
    /// Time between the client's last byte out and first byte in beyond the round trip of the connection and the server's
    /// stages: in proxies and queues, and in the server before its first stage, between stages and after its last.
    Unaccounted,
    /// Server: reading the body from the socket, as fast as it arrives.
    Receive,
    /// Server: decoding the protocol into tensors; on the jpeg lane also decoding and preprocessing images.
    Parse,
    /// Server: waiting for an instance and for other requests of the batch.
    Queue,
    /// Server: combining requests into one batch.
    Gather,
    /// Server: copying the batch to the backend's input.
    CopyIn,
    /// Server: running the model.
    Infer,
    /// Server: copying the backend's output to the server's buffers.
    CopyOut,
    /// Server: encoding tensors for the protocol.
    Encode,
    /// Time between the client's last byte out and first byte in that no stage accounts for.
    Unknown,
    /// Client: reading the response from its first byte to its last.
    Download,
    /// Client: checking that the response is a success.
    ClientDecode,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Self; 17] = [
        Self::Connect,
        Self::Tls,
        Self::ClientEncode,
        Self::Send,
        Self::Network,
        Self::Unaccounted,
        Self::Receive,
        Self::Parse,
        Self::Queue,
        Self::Gather,
        Self::CopyIn,
        Self::Infer,
        Self::CopyOut,
        Self::Encode,
        Self::Unknown,
        Self::Download,
        Self::ClientDecode,
    ];

    /// The server's stages, in the order and by the names of `Server-Timing`.
    pub const STAGES: [Self; 8] =
        [Self::Receive, Self::Parse, Self::Queue, Self::Gather, Self::CopyIn, Self::Infer, Self::CopyOut, Self::Encode];

    /// The name in `Server-Timing`, in reports and in hypotheses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ClientEncode => "client_encode",
            Self::Send => "send",
            Self::Network => "network",
            Self::Unaccounted => "unaccounted",
            Self::Receive => "receive",
            Self::Parse => "parse",
            Self::Queue => "queue",
            Self::Gather => "gather",
            Self::CopyIn => "copy_in",
            Self::Infer => "infer",
            Self::CopyOut => "copy_out",
            Self::Encode => "encode",
            Self::Unknown => "unknown",
            Self::Download => "download",
            Self::ClientDecode => "client_decode",
        }
    }

    /// Where its time is spent.
    pub fn location(self) -> Location {
        match self {
            Self::Connect | Self::Tls | Self::ClientEncode | Self::Send | Self::ClientDecode => Location::Client,
            Self::Network | Self::Download => Location::Network,
            Self::Unaccounted | Self::Unknown => Location::Unknown,
            _ => Location::Server,
        }
    }
}

/// Where a part's time is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Place")]
pub enum Location {
    /// In the client.
    Client,
    /// On the network.
    Network,
    /// In the server.
    Server,
    /// Not known.
    Unknown,
}

/// The server's stage times of one request, in µs, in the order of [`Part::STAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes(pub(crate) [u32; Part::STAGES.len()]);

impl StageTimes {
    /// Reads `queue;dur=0.041, infer;dur=18.2`. Stages may be in any order and have further parameters, and other
    /// metrics may be between them. `None` unless all eight stages are present.
    pub fn parse(value: &str) -> Option<Self> {
        let mut times = [None; Part::STAGES.len()];
        for metric in value.split(',') {
            let mut fields = metric.split(';').map(str::trim);
            let name = fields.next()?;
            let Some(stage) = Part::STAGES.iter().position(|stage| stage.name() == name) else { continue };
            let duration = fields.find_map(|field| field.strip_prefix("dur=")?.trim_matches('"').parse::<f64>().ok());
            times[stage] = duration
                .map(|ms| (ms * 1e3).round())
                .filter(|us| (0.0..=f64::from(u32::MAX)).contains(us))
                .map(|us| us as u32);
        }
        let mut known = [0; Part::STAGES.len()];
        for (known, time) in known.iter_mut().zip(times) {
            *known = time?;
        }
        Some(Self(known))
    }

    /// The time of a stage in ns; 0 for a part that is not a stage.
    pub fn ns(self, part: Part) -> i64 {
        let stage = Part::STAGES.iter().position(|stage| *stage == part);
        stage.map_or(0, |index| i64::from(self.0[index]) * 1_000)
    }
}
