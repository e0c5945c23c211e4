//! Rules of frame headers that need no state of streams (RFC 9113 §4.2 and §6).

use super::limits::MAX_FRAME_BYTES;
use crate::frame::{ErrorCode, FrameHeader, StreamId, flag, kind};

/// Checks a header. `continued` is the stream whose field block is incomplete.
///
/// # Errors
/// A connection error, with its code.
pub(super) fn check(header: FrameHeader, continued: Option<StreamId>) -> Result<(), ErrorCode> {
    let FrameHeader { length, kind, stream, .. } = header;
    // RFC 9113 §4.3, §6.2 and §6.10: the frames of a field block MUST be contiguous; a frame of another type or stream
    // between them MUST be treated as a PROTOCOL_ERROR. RFC 9113 §5.5: one of an unknown type, too.
    if continued.is_some_and(|block| kind != kind::CONTINUATION || block != stream) {
        return Err(ErrorCode::Protocol);
    }
    // RFC 9113 §6.10: CONTINUATION MUST follow a frame without END_HEADERS, else a PROTOCOL_ERROR MUST be sent.
    if kind == kind::CONTINUATION && continued.is_none() {
        return Err(ErrorCode::Protocol);
    }
    // RFC 9113 §4.2: FRAME_SIZE_ERROR MUST be sent for a frame larger than SETTINGS_MAX_FRAME_SIZE.
    if length > MAX_FRAME_BYTES {
        return Err(ErrorCode::FrameSize);
    }
    let is_valid_stream = match kind {
        // RFC 9113 §6.1 to §6.4 and §6.10: these frames MUST be associated with a stream, else a PROTOCOL_ERROR MUST be
        // sent.
        kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => stream != 0,
        // RFC 9113 §6.5, §6.7 and §6.8: these frames MUST NOT be, else a PROTOCOL_ERROR MUST be sent.
        kind::SETTINGS | kind::PING | kind::GOAWAY => stream == 0,
        _ => true,
    };
    if !is_valid_stream {
        return Err(ErrorCode::Protocol);
    }
    if !has_valid_length(header) {
        return Err(ErrorCode::FrameSize);
    }
    // RFC 9113 §8.4: a client cannot push: PUSH_PROMISE MUST be treated as a PROTOCOL_ERROR.
    if kind == kind::PUSH_PROMISE {
        return Err(ErrorCode::Protocol);
    }
    Ok(())
}

/// Whether the payload's length fits the type of the frame.
// RFC 9113 §4.2: FRAME_SIZE_ERROR MUST be sent for a frame that exceeds a limit of its type, or is too small for its
// mandatory fields; in SETTINGS and frames on stream 0 it MUST be a connection error.
fn has_valid_length(header: FrameHeader) -> bool {
    let length = header.length;
    match header.kind {
        // RFC 9113 §6.5: any length but 0 with ACK MUST be treated as a FRAME_SIZE_ERROR.
        kind::SETTINGS if header.has(flag::ACK) => length == 0,
        // RFC 9113 §6.5: a length that is not a multiple of 6 MUST be treated as a FRAME_SIZE_ERROR.
        kind::SETTINGS => length.is_multiple_of(6),
        // RFC 9113 §6.7: any length but 8 MUST be treated as a FRAME_SIZE_ERROR.
        kind::PING => length == 8,
        kind::GOAWAY => length >= 8,
        // RFC 9113 §6.4 and §6.9: any length but 4 MUST be treated as a connection error of type FRAME_SIZE_ERROR.
        kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
        // RFC 9113 §6.3: any length but 5 MUST be treated as a stream error of type FRAME_SIZE_ERROR, which §5.4.1
        // allows to treat as a connection error.
        kind::PRIORITY => length == 5,
        kind::DATA if header.has(flag::PADDED) => length > 0,
        kind::HEADERS => {
            let pad_length = if header.has(flag::PADDED) { 1 } else { 0 };
            let priority = if header.has(flag::PRIORITY) { 5 } else { 0 };
            length >= pad_length + priority
        }
        _ => true,
    }
}
