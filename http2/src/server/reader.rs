//! Reads frames, and holds them to the rules that need no knowledge of streams (RFC 9113, sections 4 and 6).

use std::{
    io,
    task::{Context, Poll},
};

use crate::{
    frame::{self as http2, FrameHeader, HEADER_BYTES, PREFACE, flag, kind},
    hpack::{DEFAULT_TABLE_BYTES, Decoder},
};
use tokio::io::AsyncRead;

use super::{MAX_BLOCK_BYTES, MAX_FRAME_BYTES, buffer::Buffer, error::Code, head};

/// What a client says.
pub(super) enum Event {
    /// A frame of data begins. Its `length` counts against the windows; `overhead` of it is padding.
    Data {
        stream: u32,
        length: u32,
        overhead: u32,
    },
    /// Some of the data is there: [`Reader::piece`].
    Piece(Data),
    /// A stream has no more data.
    End {
        stream: u32,
    },
    /// A request's fields, or what stands behind its data.
    Fields {
        stream: u32,
        is_last: bool,
        head: head::Request,
    },
    Settings(Vec<(u16, u32)>),
    /// To be answered with the same.
    Ping([u8; 8]),
    /// An answer to ours.
    Pong([u8; 8]),
    GoAway,
    Reset {
        stream: u32,
    },
    /// The client takes so much more, of all streams if it is none.
    Window {
        stream: u32,
        more: u32,
    },
}

/// What is left of a frame of data.
#[derive(Clone, Copy)]
pub(super) struct Data {
    pub(super) stream: u32,
    pub(super) left: usize,
    padding: usize,
    /// Whether the stream ends with it.
    pub(super) is_last: bool,
}

/// What the next bytes are.
enum Ahead {
    Preface,
    Header {
        is_first: bool,
    },
    /// The payload of a frame that is no data.
    Payload(FrameHeader),
    /// How many bytes of a frame of data are padding.
    PadLength(FrameHeader),
    Data(Data),
    /// To be passed over.
    Skip(usize),
}

const NEXT: Ahead = Ahead::Header { is_first: false };

/// A block of fields that is not whole.
struct Block {
    stream: u32,
    is_last: bool,
    bytes: Vec<u8>,
}

/// What was read, and how far it is understood.
pub(super) struct Reader {
    buffer: Buffer,
    ahead: Ahead,
    payload: Vec<u8>,
    block: Option<Block>,
    decoder: Decoder,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            buffer: Buffer::new(),
            ahead: Ahead::Preface,
            payload: Vec::new(),
            block: None,
            decoder: Decoder::new(DEFAULT_TABLE_BYTES),
        }
    }

    /// Whether the client has said that it speaks HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.ahead, Ahead::Preface)
    }

    /// Reads more; how much, or nothing at the end.
    pub(super) fn poll_read(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.buffer.poll_read(socket, cx)
    }

    /// What is left of a frame of data, where that is all that comes next.
    pub(super) fn rest(&self) -> Option<Data> {
        match self.ahead {
            Ahead::Data(data) if self.buffer.unread().is_empty() => Some(data),
            _ => None,
        }
    }

    /// So much of it was read past this.
    pub(super) fn was_read(&mut self, bytes: usize) {
        if let Ahead::Data(data) = &mut self.ahead {
            data.left -= bytes;
        }
    }

    /// What is there of a frame of data.
    pub(super) fn piece(&self, data: Data) -> &[u8] {
        let unread = self.buffer.unread();
        &unread[..unread.len().min(data.left)]
    }

    /// So much of it was used.
    pub(super) fn was_used(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.was_read(bytes);
    }

    /// What the client says next, if all of it is there.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Code> {
        loop {
            match self.ahead {
                Ahead::Preface => {
                    let unread = self.buffer.unread();
                    if !PREFACE.starts_with(&unread[..unread.len().min(PREFACE.len())]) {
                        return Err(Code::Protocol);
                    }
                    if unread.len() < PREFACE.len() {
                        return Ok(None);
                    }
                    self.buffer.advance(PREFACE.len());
                    self.ahead = Ahead::Header { is_first: true };
                }
                Ahead::Header { is_first } => {
                    let Some(bytes) = self.buffer.take::<HEADER_BYTES>() else { return Ok(None) };
                    let header = FrameHeader::parse(bytes);
                    if is_first && header.kind != kind::SETTINGS {
                        return Err(Code::Protocol);
                    }
                    self.ahead = self.header(header)?;
                    if let Ahead::Data(data) = self.ahead {
                        return Ok(Some(Event::Data { stream: data.stream, length: header.length, overhead: 0 }));
                    }
                }
                Ahead::Payload(header) => {
                    let missing = header.length as usize - self.payload.len();
                    let some = missing.min(self.buffer.unread().len());
                    self.payload.extend_from_slice(&self.buffer.unread()[..some]);
                    self.buffer.advance(some);
                    if some < missing {
                        return Ok(None);
                    }
                    self.ahead = NEXT;
                    let mut payload = std::mem::take(&mut self.payload);
                    let event = self.frame(header, &payload)?;
                    payload.clear();
                    self.payload = payload;
                    if event.is_some() {
                        return Ok(event);
                    }
                }
                Ahead::PadLength(header) => {
                    let Some([padding]) = self.buffer.take() else { return Ok(None) };
                    let overhead = u32::from(padding) + 1;
                    let Some(left) = header.length.checked_sub(overhead) else { return Err(Code::Protocol) };
                    let FrameHeader { stream, length, .. } = header;
                    self.ahead = Ahead::Data(Data {
                        stream,
                        left: left as usize,
                        padding: padding.into(),
                        is_last: header.has(flag::END_STREAM),
                    });
                    return Ok(Some(Event::Data { stream, length, overhead }));
                }
                Ahead::Data(Data { left: 0, padding, stream, is_last }) => {
                    self.ahead = if padding == 0 { NEXT } else { Ahead::Skip(padding) };
                    if is_last {
                        return Ok(Some(Event::End { stream }));
                    }
                }
                Ahead::Data(data) => {
                    let is_there = !self.buffer.unread().is_empty();
                    return Ok(is_there.then_some(Event::Piece(data)));
                }
                Ahead::Skip(left) => {
                    let some = left.min(self.buffer.unread().len());
                    self.buffer.advance(some);
                    if some < left {
                        self.ahead = Ahead::Skip(left - some);
                        return Ok(None);
                    }
                    self.ahead = NEXT;
                }
            }
        }
    }

    /// What stands behind a frame's header.
    fn header(&mut self, header: FrameHeader) -> Result<Ahead, Code> {
        let FrameHeader { length, kind, stream, .. } = header;
        // Nothing comes between the parts of a block (section 6.10).
        let is_continued = self.block.as_ref().map(|block| block.stream);
        if is_continued.is_some_and(|of| kind != kind::CONTINUATION || of != stream) {
            return Err(Code::Protocol);
        }
        if length > MAX_FRAME_BYTES {
            return Err(Code::FrameSize);
        }
        let is_of_stream = match kind {
            kind::DATA | kind::HEADERS | kind::CONTINUATION | kind::RST_STREAM | kind::PRIORITY => Some(true),
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
            _ => None,
        };
        if is_of_stream.is_some_and(|is| is != (stream != 0)) {
            return Err(Code::Protocol);
        }
        let has_right_size = match kind {
            kind::SETTINGS if header.has(flag::ACK) => length == 0,
            kind::SETTINGS => length.is_multiple_of(6),
            kind::PING => length == 8,
            kind::GOAWAY => length >= 8,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::PRIORITY => length == 5,
            kind::DATA if header.has(flag::PADDED) => length > 0,
            _ => true,
        };
        if !has_right_size {
            return Err(Code::FrameSize);
        }
        match kind {
            kind::DATA if header.has(flag::PADDED) => Ok(Ahead::PadLength(header)),
            kind::DATA => {
                let is_last = header.has(flag::END_STREAM);
                Ok(Ahead::Data(Data { stream, left: length as usize, padding: 0, is_last }))
            }
            kind::PUSH_PROMISE => Err(Code::Protocol),
            kind::CONTINUATION if is_continued.is_none() => Err(Code::Protocol),
            kind::PRIORITY..=kind::CONTINUATION | kind::HEADERS => {
                let before = self.block.as_ref().map_or(0, |block| block.bytes.len());
                if before + length as usize > MAX_BLOCK_BYTES {
                    return Err(Code::EnhanceYourCalm);
                }
                Ok(Ahead::Payload(header))
            }
            // Of an extension that we do not know.
            _ => Ok(Ahead::Skip(length as usize)),
        }
    }

    /// A whole frame that is no data; nothing if it says nothing.
    fn frame(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Event>, Code> {
        let stream = header.stream;
        Ok(Some(match header.kind {
            kind::HEADERS => {
                let block = http2::content(header, payload).ok_or(Code::Protocol)?;
                let block = Block { stream, is_last: header.has(flag::END_STREAM), bytes: block.to_vec() };
                return self.block_part(header, block);
            }
            kind::CONTINUATION => {
                let mut block = self.block.take().ok_or(Code::Protocol)?;
                block.bytes.extend_from_slice(payload);
                return self.block_part(header, block);
            }
            kind::SETTINGS if !header.has(flag::ACK) => Event::Settings(http2::read_settings(payload).collect()),
            kind::PING => {
                let payload = *payload.first_chunk().ok_or(Code::FrameSize)?;
                if header.has(flag::ACK) { Event::Pong(payload) } else { Event::Ping(payload) }
            }
            kind::GOAWAY => Event::GoAway,
            kind::RST_STREAM => Event::Reset { stream },
            kind::WINDOW_UPDATE => {
                let more = u32::from_be_bytes(*payload.first_chunk().ok_or(Code::FrameSize)?);
                Event::Window { stream, more: more & http2::MAX_WINDOW_BYTES }
            }
            _ => return Ok(None),
        }))
    }

    /// A block of fields, which may be whole by now.
    fn block_part(&mut self, header: FrameHeader, block: Block) -> Result<Option<Event>, Code> {
        if !header.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(None);
        }
        let Block { stream, is_last, bytes } = block;
        let mut head = head::Request::default();
        // Whatever it belongs to, it changes the table of fields.
        self.decoder.decode(&bytes, |name, value| head.take(name, value)).map_err(|_| Code::Compression)?;
        Ok(Some(Event::Fields { stream, is_last, head }))
    }
}
