//! HTTP/2 for servers (RFC 9113): the protocol without I/O, and a thin asynchronous shell around it.
//!
//! From bottom to top; a module imports only from those above it in this list:
//!
//! * [`hpack`]: field blocks to fields and back (RFC 7541);
//! * [`frame`]: frame headers, settings and error codes;
//! * `message`: fields to a request's head, and a response's head to fields (RFC 9113 §8);
//! * [`connection`]: the state machine of a server's connection: bytes in, events out; responses in, bytes out;
//! * [`serve`]: drives a connection, its socket and its requests as one task.
//!
//! Lines that meet a requirement cite it: `RFC 9113 §6.5.3: ...`.

pub mod connection;
pub mod frame;
pub mod hpack;
mod message;
pub mod serve;

pub use self::serve::{Admission, Error, Handler, Intake, RequestBody, RequestCancelled, ResponseFuture, serve};
