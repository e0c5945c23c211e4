//! Serves a connection: its socket, its state machine and its requests are one task.
//!
//! The body of a request that is [buffered](Admission::Buffered) is read from the socket directly into the memory that
//! its [`Intake`] offers. Responses that are ready leave in the same turn of the task, in one vectored write.

mod driver;
mod error;
mod exchange;
mod handler;
mod options;
mod request;
mod request_body;
mod response;
mod signal;
#[cfg(test)]
mod tests;
mod timer;

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    error::Error,
    handler::{Admission, Handler, Intake, ResponseFuture},
    options::Options,
    request_body::{RequestBody, RequestCancelled},
};

/// Serves a connection until the client ends it. From `shutdown` on the client is told to open no more streams, and the
/// connection ends when all open ones are answered.
///
/// # Errors
/// When the socket fails or the client breaks a rule of HTTP/2.
pub async fn serve<S, H>(
    socket: S,
    handler: H,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let mut driver = driver::Driver::new(socket, handler, options);
    let mut shutdown = std::pin::pin!(shutdown);
    std::future::poll_fn(|cx| driver.poll(cx, shutdown.as_mut())).await
}
