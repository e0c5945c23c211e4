//! How recent streams were closed, which decides what their late frames mean (RFC 9113 §5.1).

use std::collections::VecDeque;

use crate::frame::StreamId;

/// Streams that the server did not reset of which it is remembered how they were closed. Only a client that breaks a
/// rule sends frames of them.
const MAX_OTHERS: usize = 64;

/// How a stream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedBy {
    /// By the server's RST_STREAM, which the client may not have read yet.
    ServerReset,
    /// By the client's RST_STREAM.
    ClientReset,
    /// By END_STREAM of both sides.
    End,
}

/// The last streams that were closed.
pub(super) struct ClosedStreams {
    reset_by_server: VecDeque<StreamId>,
    max_reset_by_server: usize,
    others: VecDeque<(StreamId, ClosedBy)>,
}

impl ClosedStreams {
    /// Remembers as many streams that the server has reset.
    pub(super) fn new(max_reset_by_server: usize) -> Self {
        Self { reset_by_server: VecDeque::new(), max_reset_by_server, others: VecDeque::new() }
    }

    pub(super) fn add(&mut self, stream: StreamId, by: ClosedBy) {
        if by == ClosedBy::ServerReset {
            push(&mut self.reset_by_server, stream, self.max_reset_by_server);
        } else {
            push(&mut self.others, (stream, by), MAX_OTHERS);
        }
    }

    /// How this stream was closed, if that is remembered.
    pub(super) fn how(&self, stream: StreamId) -> Option<ClosedBy> {
        if self.reset_by_server.contains(&stream) {
            return Some(ClosedBy::ServerReset);
        }
        self.others.iter().rev().find(|(closed, _)| *closed == stream).map(|(_, by)| *by)
    }
}

fn push<T>(last: &mut VecDeque<T>, item: T, max: usize) {
    if last.len() >= max {
        last.pop_front();
    }
    last.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_streams_do_not_displace_those_that_the_server_reset() {
        let mut closed = ClosedStreams::new(2);
        closed.add(1, ClosedBy::ServerReset);
        closed.add(3, ClosedBy::ServerReset);
        for stream in 2..1000 {
            closed.add(2 * stream + 1, ClosedBy::End);
        }
        assert_eq!(closed.how(1), Some(ClosedBy::ServerReset));
        assert_eq!(closed.how(1999), Some(ClosedBy::End));
        assert_eq!(closed.how(5), None);
        closed.add(2001, ClosedBy::ServerReset);
        assert_eq!((closed.how(1), closed.how(3)), (None, Some(ClosedBy::ServerReset)));
    }
}
