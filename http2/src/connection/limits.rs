//! What this server advertises to clients, and what it keeps for one connection.

/// Largest payload in bytes that clients may send in one frame: large tensors come in few frames. No buffer of this
/// size is kept.
pub(crate) const MAX_FRAME_BYTES: u32 = 1 << 20;
/// Flow-control window of a stream in bytes: large enough that clients do not wait for WINDOW_UPDATE.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Flow-control window of the connection in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Streams that a client may have open at once.
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// Largest field section of a request in bytes, as RFC 9113 §6.5.2 counts its size.
pub(crate) const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Largest field block of a request in bytes, compressed, and largest payload of a frame that is not DATA.
pub(crate) const MAX_FIELD_BLOCK_BYTES: usize = 64 << 10;
/// Bytes queued for the socket from which on no more DATA is queued.
pub(crate) const MAX_QUEUED_BYTES: usize = 1 << 20;
/// Bytes of queued control frames (acknowledgements, resets, window updates) from which on nothing is read.
pub(crate) const MAX_CONTROL_BYTES: usize = 64 << 10;
