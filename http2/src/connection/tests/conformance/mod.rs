//! The cases of h2spec (<https://github.com/summerwind/h2spec>, at af83a65), a conformance suite for HTTP/2, as tests of
//! the state machine: the bytes that a client sends, and what must follow.
//!
//! Each check has the number that h2spec gives the case, which follows RFC 7540; the tests are in the order of RFC 9113.
//! 145 of its 147 cases are here. The other two, `http2/5.3.1/1` and `/2`, want an error for a stream that depends on
//! itself: RFC 9113 §5.3.2 has deprecated priorities, which are ignored. The checks of `ours` are beyond h2spec.

mod framing;
mod generic;
mod hpack;
mod messages;
mod ours;
mod payloads;
mod streams;

use super::*;

/// A field block: POST http /.
const REQUEST: &[u8] = b"\x83\x86\x84";
/// A field block: POST http /wait, which is never answered.
const WAIT: &[u8] = b"\x83\x86\x04\x05/wait";
/// Payload of the PING that shows that the connection still works.
const PING: &[u8; 8] = b"h2spec!!";
const END: u8 = flag::END_STREAM;

/// What must follow.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// A complete response with status 200 on stream 1, and no error.
    Response,
    /// These lengths of DATA frames on stream 1, and no error.
    Data(&'static [usize]),
    /// An acknowledgement of [`PING`], and no error.
    Pong,
    /// RST_STREAM with this code for this stream; the connection works on.
    Reset(StreamId, ErrorCode),
    /// GOAWAY with this code.
    GoAway(ErrorCode),
}

use Expected::{Data, GoAway, Pong, Reset, Response as Answer};

fn frame(kind: u8, flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    frame::frame(kind, flags, stream, payload)
}

/// A complete field block in HEADERS.
fn headers(flags: u8, stream: StreamId, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flags, stream, block)
}

fn data(flags: u8, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, payload)
}

fn ping() -> Vec<u8> {
    frame(kind::PING, 0, 0, PING)
}

fn rst(stream: StreamId) -> Vec<u8> {
    frame::rst_stream(stream, ErrorCode::Cancel)
}

/// A literal field that is not added to the dynamic table.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// A request with more fields.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    [REQUEST.to_vec(), fields.iter().flat_map(|(name, value)| field(name, value)).collect()].concat()
}

/// Sends the frames after the preface.
fn check(id: &str, frames: &[Vec<u8>], expected: Expected) {
    verify(id, Peer::start(), frames, expected);
}

/// Sends the frames one after the other; each is answered before the next.
fn verify(id: &str, mut peer: Peer, frames: &[Vec<u8>], expected: Expected) {
    for bytes in frames {
        peer.send(bytes);
    }
    let sent: Vec<_> = std::iter::from_fn(|| peer.next_frame()).collect();
    let of_kind = |kind| sent.iter().filter(move |(header, _)| header.kind == kind);
    let code = |payload: &[u8]| u32::from_be_bytes(*payload.last_chunk().unwrap());
    if let GoAway(expected) = expected {
        assert_eq!(peer.error, Some(expected), "{id}");
        let (header, payload) = sent.last().unwrap();
        assert_eq!((header.kind, code(payload)), (kind::GOAWAY, expected as u32), "{id}");
        return assert!(peer.connection.is_closed(), "{id}");
    }
    assert_eq!(peer.error, None, "{id}");
    let resets: Vec<_> = of_kind(kind::RST_STREAM).map(|(header, payload)| (header.stream, code(payload))).collect();
    match expected {
        Reset(stream, code) => assert_eq!(resets, [(stream, code as u32)], "{id}"),
        Answer => {
            let (_, block) = of_kind(kind::HEADERS).find(|(header, _)| header.stream == 1).expect(id);
            assert_eq!(block[0], 0x88, "{id}: another status than 200");
            assert!(sent.iter().any(|(header, _)| header.stream == 1 && header.has(END)), "{id}: no end");
            assert_eq!(resets, [], "{id}");
        }
        Data(lengths) => {
            let sent: Vec<_> = of_kind(kind::DATA).map(|(_, payload)| payload.len()).collect();
            assert_eq!(sent, lengths, "{id}");
        }
        Pong => {
            let pongs: Vec<_> = of_kind(kind::PING).collect();
            assert_eq!(pongs.len(), 1, "{id}");
            assert_eq!((pongs[0].0.flags, &pongs[0].1[..]), (flag::ACK, &PING[..]), "{id}");
        }
        GoAway(_) => {}
    }
    assert!(!peer.connection.is_closed(), "{id}");
}
