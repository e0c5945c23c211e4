//! What this server advertises to clients, and what one connection may hold, compute and ignore (RFC 9113 §10.5).

/// Largest payload in bytes that clients may send in one frame: large tensors come in few frames. No buffer of this
/// size is kept.
pub(crate) const MAX_FRAME_BYTES: u32 = 1 << 20;
/// Flow-control window of a stream in bytes: large enough that clients do not wait for WINDOW_UPDATE.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Flow-control window of the connection in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Bytes queued for the socket from which on no more DATA is queued.
pub(crate) const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Bytes of queued frames other than DATA from which on nothing is read: no window bounds them.
pub(crate) const MAX_CONTROL_BYTES: usize = 64 << 10;

/// What a client may do with one connection. Beyond it a stream or the connection ends, mostly with
/// ENHANCE_YOUR_CALM (RFC 9113 §10.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams that may be open at once; further ones are refused with REFUSED_STREAM. Each has a request and a body
    /// of at most its flow-control window.
    pub concurrent_streams: u32,
    /// Bytes of a request's fields, as RFC 9113 §6.5.2 counts them; a larger request is answered with status 431.
    /// Advertised as SETTINGS_MAX_HEADER_LIST_SIZE.
    pub header_list_bytes: u32,
    /// Bytes of a field block, compressed, and of the payload of a frame that is not DATA. They are held until all of
    /// them have come.
    pub field_block_bytes: usize,
    /// CONTINUATION frames of a field block: empty ones add no bytes to it.
    pub continuation_frames: u32,
    /// Values in one SETTINGS frame. The standard defines six; each costs work.
    pub settings_entries: usize,
    /// Frames that carry nothing: PING, SETTINGS, WINDOW_UPDATE, PRIORITY, empty DATA, frames of unknown types and of
    /// closed streams. Each frame of a response allows [`FRAMES_PER_SENT`] more, because clients answer responses with
    /// WINDOW_UPDATE and PING.
    pub empty_frames: Allowance,
    /// Streams that end within [`RAPID_RESET`](super::RAPID_RESET) by a reset of the client (CVE-2023-44487) or by an
    /// error of the client (CVE-2025-8671): they cost work, and do not count as open. Those that were open for longer
    /// are bounded by `concurrent_streams`, so that clients may give up as often as they like after a deadline.
    pub rapid_resets: Allowance,
}

/// How often something may happen: `burst` times at once, and `per_second` times in each second after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Times that need no wait.
    pub burst: u32,
    /// Times that each second adds.
    pub per_second: u32,
}

/// [`Limits::empty_frames`] that each frame of a response allows.
pub const FRAMES_PER_SENT: u32 = 4;

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_streams: 1024,
            header_list_bytes: 16 << 10,
            field_block_bytes: 64 << 10,
            continuation_frames: 64,
            settings_entries: 64,
            empty_frames: Allowance { burst: 10_000, per_second: 1000 },
            rapid_resets: Allowance { burst: 1000, per_second: 200 },
        }
    }
}
