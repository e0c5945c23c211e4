//! HTTP/2's frames, as far as reading and writing them by hand takes: RFC 9113, sections 3.4, 4.1 and 6.

/// What a client's connection begins with (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 9;
/// A window's bytes before anybody said otherwise (section 6.9.2).
pub const DEFAULT_WINDOW_BYTES: u32 = 65_535;
/// Largest window (section 6.9.1), and largest stream.
pub const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// Largest frame before anybody said otherwise (section 6.5.2).
pub const DEFAULT_MAX_FRAME_BYTES: u32 = 16_384;

/// Types of frames (section 6).
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

/// Flags of frames; which of them a frame may have depends on its type.
#[allow(missing_docs)]
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (section 6.5.2).
#[allow(missing_docs)]
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload, at most 2^24 - 1.
    pub length: u32,
    /// One of [`kind`].
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads a header; the reserved bit does not count.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let stream = u32::from_be_bytes(stream) & MAX_WINDOW_BYTES;
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// The header as it is sent.
    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether this flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A frame of this type and stream.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len() as u32, kind, flags, stream };
    [&header.bytes(), payload].concat()
}

/// A SETTINGS frame.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// The settings in a SETTINGS frame's payload.
pub fn read_settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.as_chunks::<6>().0.iter().map(|&[a, b, value @ ..]| (u16::from_be_bytes([a, b]), u32::from_be_bytes(value)))
}

/// A WINDOW_UPDATE frame.
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// The payload of a DATA or HEADERS frame without its padding and priority (sections 6.1 and 6.2); `None` where
/// the padding is longer than the frame.
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
