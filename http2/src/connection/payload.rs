//! Reads complete payloads of frames other than DATA, and field blocks (RFC 9113 §4.3, §6 and §10.5).

use super::parser::{FieldBlock, Frame, FrameParser};
use crate::{
    frame::{self, ErrorCode, FrameHeader, StreamId, flag, kind},
    message::FieldSection,
};

impl FrameParser {
    /// A complete frame other than DATA; `None` if nothing follows from it.
    pub(super) fn payload_frame(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Option<Frame>, ErrorCode> {
        let stream = header.stream;
        Ok(Some(match header.kind {
            kind::HEADERS => {
                // RFC 9113 §6.2: padding of the payload's length or more MUST be treated as a PROTOCOL_ERROR.
                let fragment = frame::content(header, payload).ok_or(ErrorCode::Protocol)?;
                let is_last = header.has(flag::END_STREAM);
                if header.has(flag::END_HEADERS) {
                    return self.field_section(stream, is_last, fragment).map(Some);
                }
                self.field_block = Some(FieldBlock { stream, is_last, bytes: fragment.to_vec(), continuations: 0 });
                return Ok(None);
            }
            kind::CONTINUATION => {
                let mut block = self.field_block.take().ok_or(ErrorCode::Protocol)?;
                // RFC 9113 §10.5: CONTINUATION frames without END_HEADERS can be endless, and empty.
                block.continuations += 1;
                if block.continuations > self.limits.continuation_frames {
                    return Err(ErrorCode::EnhanceYourCalm);
                }
                block.bytes.extend_from_slice(payload);
                if header.has(flag::END_HEADERS) {
                    return self.field_section(stream, block.is_last, &block.bytes).map(Some);
                }
                self.field_block = Some(block);
                return Ok(None);
            }
            kind::SETTINGS if header.has(flag::ACK) => Frame::SettingsAck,
            kind::SETTINGS => Frame::Settings(frame::read_settings(payload).collect()),
            kind::PING => {
                let payload = *payload.first_chunk().ok_or(ErrorCode::FrameSize)?;
                if header.has(flag::ACK) { Frame::PingAck(payload) } else { Frame::Ping(payload) }
            }
            kind::GOAWAY => Frame::GoAway,
            // RFC 9113 §7: unknown error codes MUST NOT trigger any special behavior: none is read.
            kind::RST_STREAM => Frame::RstStream { stream },
            kind::WINDOW_UPDATE => {
                let increment = u32::from_be_bytes(*payload.first_chunk().ok_or(ErrorCode::FrameSize)?);
                // RFC 9113 §6.9: the reserved bit is ignored.
                Frame::WindowUpdate { stream, increment: increment & frame::MAX_WINDOW_BYTES }
            }
            // PRIORITY, whose signals RFC 9113 §5.3.2 deprecates.
            _ => Frame::Ignored,
        }))
    }

    /// Decodes a complete field block.
    fn field_section(&mut self, stream: StreamId, is_last: bool, block: &[u8]) -> Result<Frame, ErrorCode> {
        let mut fields = FieldSection::new(self.limits.header_list_bytes as usize);
        // RFC 9113 §4.3: a field block MUST be decompressed; one that cannot be MUST be treated as a COMPRESSION_ERROR.
        // RFC 9113 §5.1, §6.8 and §10.5.1: so MUST that of an ignored stream, or one that is too large, as it changes
        // the state of the decoder.
        self.decoder.decode(block, |name, value| fields.add(name, value)).map_err(|_| ErrorCode::Compression)?;
        Ok(Frame::Headers { stream, is_last, fields })
    }
}
