//! Serves a connection: its socket, its state machine and its requests are one task.
//!
//! The body of a request that is [buffered](Admission::Buffered) is read from the socket directly into the memory that
//! its [`Intake`] offers. Responses that are ready leave in the same turn of the task, in one vectored write.

mod driver;
mod request;
mod request_body;
mod response;
#[cfg(test)]
mod tests;

use std::{io, pin::Pin};

use bytes::Bytes;
use http::{Response, request::Parts};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::request_body::{RequestBody, RequestCancelled};
use crate::frame::ErrorCode;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke a rule: a connection error (RFC 9113 §5.4.1). A GOAWAY with its code was sent.
    #[error("the client broke a rule of HTTP/2: {0}")]
    Protocol(ErrorCode),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A response in the making.
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

/// Serves a connection until the client ends it. From `shutdown` on the client is told to open no more streams, and the
/// connection ends when all open ones are answered.
///
/// # Errors
/// When the socket fails or the client breaks a rule of HTTP/2.
pub async fn serve<S, H>(socket: S, handler: H, shutdown: impl Future<Output = ()>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut driver = driver::Driver::new(socket, handler);
    let mut shutdown = std::pin::pin!(shutdown);
    std::future::poll_fn(|cx| driver.poll(cx, shutdown.as_mut())).await
}
