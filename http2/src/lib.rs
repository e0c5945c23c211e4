//! HTTP/2 for servers (RFC 9113): the protocol without I/O, and a thin asynchronous shell around it.
//!
//! From bottom to top; a module imports only from those above it in this list:
//!
//! * [`hpack`]: field blocks to fields and back (RFC 7541);
//! * [`frame`]: frame headers, settings and error codes;
//! * `message`: fields to a request's head, and a response's head to fields (RFC 9113 §8);
//! * [`connection`]: the state machine of a server's connection: bytes in, events out; responses in, bytes out;
//! * [`mod@serve`]: drives a connection, its socket and its requests as one task.
//!
//! Lines that meet a requirement of a server cite it: `RFC 9113 §6.5.3: ...`. These requirements are not met yet:
//!
//! * §5.1.1: HEADERS that open a stream below the largest one are ignored, not treated as a PROTOCOL_ERROR;
//! * §6.1: DATA of a closed stream is ignored, as §5.1 allows, not answered with STREAM_CLOSED;
//! * §8.1 and §8.2.1: the fields of trailers are not validated;
//! * §8.1.1: `content-length` is not compared with the length of the body;
//! * §8.2.1: field values may start or end with whitespace;
//! * §8.2.3: several `cookie` fields are not joined;
//! * §8.3.1: the values of `:scheme` and `:authority` are not validated;
//! * §8.5: CONNECT needs `:scheme` and `:path`, which it must not have.

pub mod connection;
pub mod frame;
pub mod hpack;
mod message;
pub mod serve;

pub use self::serve::{
    Activity, Admission, Error, Handler, Intake, Options, RequestBody, RequestCancelled, ResponseFuture, serve,
};
