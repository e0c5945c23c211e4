//! Applies the client's settings (RFC 9113 §6.5).

use super::Connection;
use crate::frame::{self, DEFAULT_MAX_FRAME_BYTES, ErrorCode, MAX_WINDOW_BYTES, flag, kind, setting};

/// Streams whose change by one SETTINGS frame costs as much as one more frame.
const STREAMS_PER_FRAME: usize = 64;

impl Connection {
    // RFC 9113 §6.5.3: values MUST be applied as soon as possible and in their order, with nothing processed between
    // them; then an acknowledgement MUST be sent immediately. RFC 9113 §3.4: those of the client's preface too, after
    // the server's preface, which is queued before anything is received.
    // RFC 9113 §5.5, §6.5.2 and §6.5.3: unknown settings MUST be ignored.
    pub(super) fn on_settings(&mut self, settings: &[(u16, u32)]) -> Result<(), ErrorCode> {
        // All streams are visited: RFC 9113 §10.5 names SETTINGS as a way to make a peer work.
        let streams = self.streams.len() / STREAMS_PER_FRAME;
        self.empty_frames.take(1 + streams as u32, self.timers.now)?;
        let mut window_bytes = self.peer_stream_window_bytes;
        for &(name, value) in settings {
            match name {
                // RFC 9113 §4.3.1: the encoder announces a smaller table in the next field block.
                setting::HEADER_TABLE_SIZE => self.output.set_max_table_bytes(value as usize),
                // RFC 9113 §6.5.2: values other than 0 and 1 MUST be treated as a PROTOCOL_ERROR.
                setting::ENABLE_PUSH if value > 1 => return Err(ErrorCode::Protocol),
                setting::INITIAL_WINDOW_SIZE => window_bytes = checked_window(value)?,
                setting::MAX_FRAME_SIZE => {
                    // RFC 9113 §6.5.2: values outside of 2^14 to 2^24-1 MUST be treated as a PROTOCOL_ERROR.
                    if !(DEFAULT_MAX_FRAME_BYTES..1 << 24).contains(&value) {
                        return Err(ErrorCode::Protocol);
                    }
                    self.output.max_frame_bytes = value;
                }
                // MAX_CONCURRENT_STREAMS limits pushes, of which there are none; MAX_HEADER_LIST_SIZE is advisory.
                _ => {}
            }
        }
        self.set_initial_window(window_bytes)?;
        self.output.control(frame::frame(kind::SETTINGS, flag::ACK, 0, &[]));
        Ok(())
    }

    fn set_initial_window(&mut self, value: u32) -> Result<(), ErrorCode> {
        let by = i64::from(value) - i64::from(self.peer_stream_window_bytes);
        if by == 0 {
            return Ok(());
        }
        self.peer_stream_window_bytes = value;
        // RFC 9113 §6.9.2: all stream windows MUST be changed by the difference; one that exceeds the largest window
        // MUST be treated as a connection error of type FLOW_CONTROL_ERROR. The connection's window stays.
        for (&id, stream) in &mut self.streams {
            if !stream.send_window.change(by) {
                return Err(ErrorCode::FlowControl);
            }
            if stream.unblock() {
                self.unblocked.push(id);
            }
        }
        Ok(())
    }
}

/// RFC 9113 §6.5.2: values above 2^31-1 MUST be treated as a FLOW_CONTROL_ERROR.
fn checked_window(value: u32) -> Result<u32, ErrorCode> {
    if value > MAX_WINDOW_BYTES { Err(ErrorCode::FlowControl) } else { Ok(value) }
}
