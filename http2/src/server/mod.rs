//! The server's side of HTTP/2 (RFC 9113), by hand: what a client sends of a tensor goes from the socket to its place,
//! and a connection with all its requests is one task.
//!
//! A library hands out whole frames, so each byte of a tensor would be written twice, and its connection, streams and
//! answers wake each other. Here a request's bytes are read to where its [`Intake`] wants them, and answers that are
//! ready leave with the same turn of the task.

mod body;
mod buffer;
mod connection;
mod error;
mod head;
mod output;
mod reader;
mod stream;
#[cfg(test)]
mod tests;
mod window;

use std::pin::Pin;

use bytes::Bytes;
use http::{Response, request};
use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    body::{Body, Cancelled},
    error::{Broken, Code},
};

/// Largest frame that clients may send. Nothing is kept for it: large tensors in few frames.
const MAX_FRAME_BYTES: u32 = 1 << 20;
/// What a client may send before it must wait for us: enough that it never does.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// Requests at once on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// Metadata of one request, as section 6.5.2 counts it.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Metadata of one request, as it comes.
const MAX_BLOCK_BYTES: usize = 64 << 10;
/// What is queued for the socket before more is asked of the answers' bodies.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Acknowledgements and the like that wait for the socket; with more nothing is read.
const MAX_CONTROL_BYTES: usize = 64 << 10;

/// An answer on its way.
pub type Answering<B> = Pin<Box<dyn Future<Output = Response<B>> + Send>>;

/// What a connection's requests are handed to.
pub trait Handler {
    /// The body of an answer.
    type Body: http_body::Body<Data = Bytes> + Unpin;

    /// A request's head is there.
    fn begin(&self, head: request::Parts) -> Taken<Self::Body>;
}

/// How a request is taken.
pub enum Taken<B> {
    /// Its body is collected, and answered when it is whole.
    Whole(Box<dyn Intake<B>>),
    /// It is answered while its body comes.
    Streamed(Box<dyn FnOnce(Body) -> Answering<B> + Send>),
    /// It has its answer already.
    Answered(Response<B>),
}

/// Where the body of a request goes as it comes.
pub trait Intake<B>: Send {
    /// The next bytes.
    ///
    /// # Errors
    /// With an answer, when no more need come.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Box<Response<B>>>;

    /// Where the next bytes may be written instead; empty if they must be pushed.
    fn place(&mut self) -> &mut [u8];

    /// So many bytes of the place were written.
    fn filled(&mut self, bytes: usize);

    /// The body is whole.
    fn end(self: Box<Self>) -> Answering<B>;
}

/// Serves a connection until the client ends it; or from `stop` on until its open requests are answered.
///
/// # Errors
/// When the connection breaks, or the client does not speak HTTP/2.
pub async fn serve<S, H>(stream: S, handler: H, stop: impl Future<Output = ()>) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut connection = connection::Connection::new(stream, handler);
    let mut stopped = std::pin::pin!(stop);
    std::future::poll_fn(|cx| connection.poll(cx, stopped.as_mut())).await
}
