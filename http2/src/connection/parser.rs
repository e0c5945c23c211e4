//! Splits received bytes into frames (RFC 9113 §3.4, §4 and §6).

use super::{buffer::RecvBuffer, limits::Limits, rules};
use crate::{
    frame::{ErrorCode, FrameHeader, HEADER_BYTES, PREFACE, StreamId, flag, kind},
    hpack::{DEFAULT_TABLE_BYTES, Decoder},
    message::FieldSection,
};

/// A frame, or a part of a DATA frame.
#[allow(clippy::large_enum_variant)] // A box would cost an allocation for each request.
pub(super) enum Frame {
    /// The header of a DATA frame. All of `length` counts in the flow-control windows; `padding` of it, with the field
    /// that gives the padding's length, is no data.
    Data {
        stream: StreamId,
        length: u32,
        padding: u32,
        is_last: bool,
    },
    /// `length` bytes of a DATA frame are in the buffer: [`FrameParser::take_chunk`].
    DataChunk {
        stream: StreamId,
        length: usize,
    },
    /// All data of a DATA frame with END_STREAM was taken.
    EndStream {
        stream: StreamId,
    },
    /// A field section: HEADERS with its CONTINUATIONs.
    Headers {
        stream: StreamId,
        is_last: bool,
        fields: FieldSection,
    },
    /// Pairs of identifier and value.
    Settings(Vec<(u16, u32)>),
    /// SETTINGS with ACK.
    SettingsAck,
    /// PING without ACK.
    Ping([u8; 8]),
    /// PING with ACK.
    PingAck([u8; 8]),
    GoAway,
    RstStream {
        stream: StreamId,
    },
    WindowUpdate {
        stream: StreamId,
        increment: u32,
    },
    /// PRIORITY, or a frame of an unknown type.
    Ignored,
}

/// What is left of a DATA frame.
#[derive(Clone, Copy)]
struct Data {
    stream: StreamId,
    left: usize,
    padding: usize,
    is_last: bool,
}

/// What the next bytes are.
enum Next {
    Preface,
    Header {
        is_first: bool,
    },
    /// The payload of a frame other than DATA.
    Payload(FrameHeader),
    /// The length of a DATA frame's padding.
    PadLength(FrameHeader),
    Data(Data),
    /// Bytes to discard.
    Discard(usize),
}

/// Bytes of one pair in a SETTINGS frame (RFC 9113 §6.5.1).
const SETTING_BYTES: usize = 6;
const NEXT_HEADER: Next = Next::Header { is_first: false };

/// A field block whose END_HEADERS has not come.
pub(super) struct FieldBlock {
    pub(super) stream: StreamId,
    pub(super) is_last: bool,
    pub(super) bytes: Vec<u8>,
    /// CONTINUATION frames so far.
    pub(super) continuations: u32,
}

/// Received bytes, and how far they are parsed.
pub(super) struct FrameParser {
    pub(super) buffer: RecvBuffer,
    pub(super) limits: Limits,
    next: Next,
    /// Of a frame other than DATA, as far as it has come.
    payload: Vec<u8>,
    pub(super) field_block: Option<FieldBlock>,
    pub(super) decoder: Decoder,
}

impl FrameParser {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            buffer: RecvBuffer::new(),
            limits,
            next: Next::Preface,
            payload: Vec::new(),
            field_block: None,
            decoder: Decoder::new(DEFAULT_TABLE_BYTES),
        }
    }

    /// Whether the client has sent its preface.
    pub(super) fn has_preface(&self) -> bool {
        !matches!(self.next, Next::Preface)
    }

    /// Stream and length of the data that comes next, when none of it is in the buffer.
    pub(super) fn unbuffered_data(&self) -> Option<(StreamId, usize)> {
        match self.next {
            Next::Data(data) if self.buffer.unread().is_empty() => Some((data.stream, data.left)),
            _ => None,
        }
    }

    /// `bytes` of a DATA frame were taken, from the buffer or past it.
    pub(super) fn data_taken(&mut self, bytes: usize) {
        if let Next::Data(data) = &mut self.next {
            data.left = data.left.saturating_sub(bytes);
        }
    }

    /// The bytes of a [`Frame::DataChunk`]; they are read with this.
    pub(super) fn take_chunk(&mut self, length: usize) -> &[u8] {
        self.data_taken(length);
        self.buffer.advance(length)
    }

    /// The next frame or part of a frame, if enough of it was received.
    ///
    /// # Errors
    /// A connection error, with its code.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ErrorCode> {
        loop {
            match self.next {
                Next::Preface => {
                    if !self.preface()? {
                        return Ok(None);
                    }
                }
                Next::Header { is_first } => {
                    let Some(bytes) = self.buffer.read::<HEADER_BYTES>() else { return Ok(None) };
                    let header = FrameHeader::parse(bytes);
                    // RFC 9113 §3.4: the client's preface MUST be followed by a SETTINGS frame, which is not an
                    // acknowledgement.
                    if is_first && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
                        return Err(ErrorCode::Protocol);
                    }
                    rules::check(header, self.field_block.as_ref().map(|block| block.stream))?;
                    self.next = self.after(header)?;
                    match self.next {
                        Next::Data(Data { stream, is_last, .. }) => {
                            return Ok(Some(Frame::Data { stream, length: header.length, padding: 0, is_last }));
                        }
                        Next::Discard(_) => return Ok(Some(Frame::Ignored)),
                        _ => {}
                    }
                }
                Next::Payload(header) => {
                    if !self.gather(header.length as usize) {
                        return Ok(None);
                    }
                    self.next = NEXT_HEADER;
                    let mut payload = std::mem::take(&mut self.payload);
                    let frame = self.payload_frame(header, &payload)?;
                    payload.clear();
                    self.payload = payload;
                    if frame.is_some() {
                        return Ok(frame);
                    }
                }
                Next::PadLength(header) => {
                    let Some([padding]) = self.buffer.read() else { return Ok(None) };
                    return self.padded_data(header, padding).map(Some);
                }
                Next::Data(Data { left: 0, padding, stream, is_last }) => {
                    self.next = if padding == 0 { NEXT_HEADER } else { Next::Discard(padding) };
                    if is_last {
                        return Ok(Some(Frame::EndStream { stream }));
                    }
                }
                Next::Data(Data { stream, left, .. }) => {
                    let length = left.min(self.buffer.unread().len());
                    return Ok((length > 0).then_some(Frame::DataChunk { stream, length }));
                }
                Next::Discard(left) => {
                    let discarded = left.min(self.buffer.unread().len());
                    self.buffer.advance(discarded);
                    if discarded < left {
                        self.next = Next::Discard(left - discarded);
                        return Ok(None);
                    }
                    self.next = NEXT_HEADER;
                }
            }
        }
    }

    /// Reads the client's preface; false if it is not complete.
    fn preface(&mut self) -> Result<bool, ErrorCode> {
        let unread = self.buffer.unread();
        // RFC 9113 §3.4: an invalid preface MUST be treated as a connection error of type PROTOCOL_ERROR.
        if !PREFACE.starts_with(&unread[..unread.len().min(PREFACE.len())]) {
            return Err(ErrorCode::Protocol);
        }
        if unread.len() < PREFACE.len() {
            return Ok(false);
        }
        self.buffer.advance(PREFACE.len());
        self.next = Next::Header { is_first: true };
        Ok(true)
    }

    /// Moves bytes from the buffer to `payload` until it has `length`; false if more must come.
    fn gather(&mut self, length: usize) -> bool {
        let missing = length - self.payload.len();
        let available = missing.min(self.buffer.unread().len());
        self.payload.extend_from_slice(self.buffer.advance(available));
        available == missing
    }

    /// The header of a DATA frame with PADDED, whose Pad Length field is there.
    fn padded_data(&mut self, header: FrameHeader, padding: u8) -> Result<Frame, ErrorCode> {
        let FrameHeader { stream, length, .. } = header;
        let overhead = u32::from(padding) + 1;
        // RFC 9113 §6.1: padding of the payload's length or more MUST be treated as a PROTOCOL_ERROR.
        let left = length.checked_sub(overhead).ok_or(ErrorCode::Protocol)? as usize;
        let is_last = header.has(flag::END_STREAM);
        self.next = Next::Data(Data { stream, left, padding: padding.into(), is_last });
        Ok(Frame::Data { stream, length, padding: overhead, is_last })
    }

    /// What comes after the header of a frame that passed [`rules::check`].
    fn after(&self, header: FrameHeader) -> Result<Next, ErrorCode> {
        let FrameHeader { length, kind, stream, .. } = header;
        match kind {
            kind::DATA if header.has(flag::PADDED) => Ok(Next::PadLength(header)),
            kind::DATA => {
                let is_last = header.has(flag::END_STREAM);
                Ok(Next::Data(Data { stream, left: length as usize, padding: 0, is_last }))
            }
            kind::SETTINGS if length as usize > self.limits.settings_entries * SETTING_BYTES => {
                Err(ErrorCode::EnhanceYourCalm)
            }
            kind::HEADERS..=kind::CONTINUATION => {
                let before = self.field_block.as_ref().map_or(0, |block| block.bytes.len());
                if before + length as usize > self.limits.field_block_bytes {
                    return Err(ErrorCode::EnhanceYourCalm);
                }
                Ok(Next::Payload(header))
            }
            // RFC 9113 §4.1 and §5.5: frames of unknown types MUST be discarded.
            _ => Ok(Next::Discard(length as usize)),
        }
    }
}
