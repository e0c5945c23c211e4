//! The trait that answers the requests of a connection.

use std::pin::Pin;

use bytes::Bytes;
use http::{Response, request::Parts};

use super::request_body::RequestBody;

/// A future response.
pub type ResponseFuture<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

/// Answers the requests of a connection.
pub trait Handler {
    /// The body of a response. One that ends with an error resets its stream with INTERNAL_ERROR.
    type ResponseBody: http_body::Body<Data = Bytes> + Unpin;

    /// Decides from a request's head how its body is received.
    fn handle(&self, head: Parts) -> Admission<Self::ResponseBody>;
}

/// How the body of a request is received.
pub enum Admission<B> {
    /// Into memory of the intake, which responds to the complete request.
    Buffered(Box<dyn Intake<B>>),
    /// As a stream, while the response is made.
    Streaming(Box<dyn FnOnce(RequestBody) -> ResponseFuture<B> + Send>),
    /// Not at all: the response is there. What the client still sends is discarded.
    Answered(Response<B>),
}

/// Collects the body of one request.
pub trait Intake<B>: Send {
    /// Appends the next bytes of the body.
    ///
    /// # Errors
    /// With a response, when the request is refused. What the client still sends is discarded.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Box<Response<B>>>;

    /// Where the next bytes of the body may be written instead; empty if they must be pushed.
    fn buffer(&mut self) -> &mut [u8];

    /// The first `bytes` of [`Self::buffer`] were written.
    fn filled(&mut self, bytes: usize);

    /// The body is complete.
    fn finish(self: Box<Self>) -> ResponseFuture<B>;
}
