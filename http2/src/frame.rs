//! Frame headers, settings and error codes: reading and writing them (RFC 9113 §4.1, §6 and §7).

use std::fmt;

/// What a client sends first on a connection (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header (RFC 9113 §4.1).
pub const HEADER_BYTES: usize = 9;
/// Flow-control window in bytes until a setting or WINDOW_UPDATE changes it (RFC 9113 §6.9.2).
pub const DEFAULT_WINDOW_BYTES: u32 = 65_535;
/// Largest flow-control window in bytes (RFC 9113 §6.9.1), and largest stream identifier (RFC 9113 §5.1.1).
pub const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Largest payload in bytes until a setting changes it (RFC 9113 §6.5.2).
pub const DEFAULT_MAX_FRAME_BYTES: u32 = 16_384;

/// Identifier of a stream; 0 is the connection itself (RFC 9113 §5.1.1).
pub type StreamId = u32;

/// Types of frames (RFC 9113 §6).
#[allow(missing_docs)]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames. The type of a frame decides which flags it has.
#[allow(missing_docs)]
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113 §6.5.2).
#[allow(missing_docs)]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends (RFC 9113 §7). Shown by its name in the standard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum ErrorCode {
    NoError = 0x0,
    Protocol = 0x1,
    Internal = 0x2,
    FlowControl = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSize = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    Compression = 0x9,
    Connect = 0xa,
    EnhanceYourCalm = 0xb,
    InadequateSecurity = 0xc,
    Http11Required = 0xd,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoError => "NO_ERROR",
            Self::Protocol => "PROTOCOL_ERROR",
            Self::Internal => "INTERNAL_ERROR",
            Self::FlowControl => "FLOW_CONTROL_ERROR",
            Self::SettingsTimeout => "SETTINGS_TIMEOUT",
            Self::StreamClosed => "STREAM_CLOSED",
            Self::FrameSize => "FRAME_SIZE_ERROR",
            Self::RefusedStream => "REFUSED_STREAM",
            Self::Cancel => "CANCEL",
            Self::Compression => "COMPRESSION_ERROR",
            Self::Connect => "CONNECT_ERROR",
            Self::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
            Self::InadequateSecurity => "INADEQUATE_SECURITY",
            Self::Http11Required => "HTTP_1_1_REQUIRED",
        })
    }
}

/// A frame without its payload (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload, at most 2^24 - 1.
    pub length: u32,
    /// One of [`kind`], or a type of an extension.
    pub kind: u8,
    /// The [`flag`]s that are set.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: StreamId,
}

impl FrameHeader {
    /// Reads a header.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        // RFC 9113 §4.1: the reserved bit MUST be ignored when receiving.
        let stream = u32::from_be_bytes(stream) & MAX_WINDOW_BYTES;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// The header as it is sent.
    // RFC 9113 §4.1: the reserved bit, and flags without a meaning for the type, MUST be unset when sending: every
    // caller passes an identifier of 31 bits and only flags of the type.
    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether `flag` is set.
    // RFC 9113 §4.1: flags without a meaning for the type MUST be ignored: flags are only read through this, by type.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A frame with this payload, which is shorter than 2^24 bytes.
pub fn frame(kind: u8, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len() as u32, kind, flags, stream };
    [&header.bytes(), payload].concat()
}

/// A SETTINGS frame of pairs of identifier and value (RFC 9113 §6.5.1).
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// The settings in the payload of a SETTINGS frame, in their order (RFC 9113 §6.5.1).
pub fn read_settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.as_chunks::<6>().0.iter().map(|&[a, b, value @ ..]| (u16::from_be_bytes([a, b]), u32::from_be_bytes(value)))
}

/// A WINDOW_UPDATE frame (RFC 9113 §6.9).
pub fn window_update(stream: StreamId, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// A RST_STREAM frame (RFC 9113 §6.4).
pub fn rst_stream(stream: StreamId, code: ErrorCode) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes())
}

/// A GOAWAY frame (RFC 9113 §6.8).
pub fn go_away(last_stream: StreamId, code: ErrorCode) -> Vec<u8> {
    let payload = [last_stream.to_be_bytes(), (code as u32).to_be_bytes()].concat();
    frame(kind::GOAWAY, 0, 0, &payload)
}

/// The payload of a DATA or HEADERS frame without its padding and priority (RFC 9113 §6.1 and §6.2); `None` where the
/// padding exceeds the payload.
pub fn content(header: FrameHeader, mut payload: &[u8]) -> Option<&[u8]> {
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (&first, rest) = payload.split_first()?;
        (padding, payload) = (usize::from(first), rest);
    }
    if header.kind == kind::HEADERS && header.has(flag::PRIORITY) {
        payload = payload.get(5..)?;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_frames() {
        assert_eq!(settings(&[(setting::MAX_FRAME_SIZE, 1 << 20)]), b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\x10\0\0");
        assert_eq!(window_update(3, 5), b"\0\0\x04\x08\0\0\0\0\x03\0\0\0\x05");
        assert_eq!(rst_stream(3, ErrorCode::Cancel), b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08");
        assert_eq!(go_away(3, ErrorCode::EnhanceYourCalm), b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x03\0\0\0\x0b");
        let payload = [0, 5, 0, 16, 0, 0, 0, 9, 0, 0, 0, 1, 77];
        assert_eq!(read_settings(&payload).collect::<Vec<_>>(), [(5, 1 << 20), (9, 1)]);
    }

    #[test]
    fn padding_and_priority_are_no_content() {
        let header = |kind, flags| FrameHeader { length: 0, kind, flags, stream: 1 };
        let both = header(kind::HEADERS, flag::PADDED | flag::PRIORITY);
        assert_eq!(content(both, b"\x02\0\0\0\0\0abcPP"), Some(&b"abc"[..]));
        assert_eq!(content(both, b"\x02\0\0\0\0\0P"), None);
        assert_eq!(content(header(kind::DATA, flag::PADDED), b"\x01aP"), Some(&b"a"[..]));
        assert_eq!(content(header(kind::DATA, flag::PRIORITY), b"a"), Some(&b"a"[..]));
        assert_eq!(content(header(kind::DATA, flag::PADDED), b""), None);
    }

    #[test]
    fn the_reserved_bit_is_ignored() {
        let bytes = [0, 0, 1, kind::DATA, 0, 0x80, 0, 0, 3];
        assert_eq!(FrameHeader::parse(bytes).stream, 3);
    }

    proptest! {
        #[test]
        fn headers_come_back(length in 0u32..1 << 24, kind: u8, flags: u8, stream in 0u32..1 << 31) {
            let header = FrameHeader { length, kind, flags, stream };
            prop_assert_eq!(FrameHeader::parse(header.bytes()), header);
        }

        #[test]
        fn arbitrary_payloads_never_panic(kind in 0u8..2, flags: u8, payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let header = FrameHeader { length: payload.len() as u32, kind, flags, stream: 1 };
            if let Some(content) = content(header, &payload) {
                prop_assert!(content.len() <= payload.len());
            }
            let _ = read_settings(&payload).count();
        }
    }
}
