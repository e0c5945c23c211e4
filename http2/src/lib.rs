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
//! Lines that meet a requirement of a server cite it: `RFC 9113 §6.5.3: ...`. No requirement of a server is known not to
//! be met. `connection/tests/conformance` has 145 of the 147 cases of h2spec as tests; its module says which two are not
//! there and why. What a client may make a connection hold and compute is in [`connection::Limits`].

pub mod connection;
pub mod frame;
pub mod hpack;
mod message;
pub mod serve;

pub use self::serve::{
    Admission, Error, Handler, Intake, Options, RequestBody, RequestCancelled, ResponseFuture, serve,
};
