//! Polls the socket, the state machine and the responses of one connection. What happens to its requests is in
//! [`exchange`](super::exchange).

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_util::{future::Abortable, stream::FuturesUnordered};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    error::Error,
    handler::Handler,
    options::Options,
    request::{Request, Sink},
    response::StreamResponse,
    signal::StreamSignal,
    timer::Timer,
};
use crate::{
    connection::Connection,
    frame::{ErrorCode, StreamId},
};

/// Bytes left of a DATA frame from which on they are read past the connection's buffer.
const MIN_DIRECT_BYTES: usize = 4 << 10;
/// Parts that one system call writes.
const MAX_SLICES: usize = 64;

/// The result of reading from the socket.
enum Input {
    /// Nothing can be read now.
    Pending,
    Received,
    /// The client has ended the connection.
    End,
}

/// A connection with its socket and its requests.
pub(super) struct Driver<S, H: Handler> {
    socket: S,
    pub(super) handler: H,
    pub(super) connection: Connection,
    pub(super) requests: HashMap<StreamId, Request<H::ResponseBody>>,
    pub(super) responses: FuturesUnordered<Abortable<StreamResponse<H::ResponseBody>>>,
    /// Streams whose response may be sent on.
    pub(super) sending: VecDeque<StreamId>,
    /// Streams whose response has data that the connection did not take.
    pub(super) blocked: VecDeque<StreamId>,
    /// Streams whose request's body was read, or whose response's body has more.
    pub(super) signal: Arc<StreamSignal>,
    /// Streams that were taken from the signal; empty between uses.
    pub(super) signalled: Vec<StreamId>,
    timer: Timer,
    now: Instant,
    is_shutting_down: bool,
    error: Option<ErrorCode>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, H: Handler> Driver<S, H> {
    pub(super) fn new(socket: S, handler: H, options: Options) -> Self {
        let now = clock();
        Self {
            socket,
            handler,
            connection: Connection::new(options.limits, options.timeouts, now),
            requests: HashMap::new(),
            responses: FuturesUnordered::new(),
            sending: VecDeque::new(),
            blocked: VecDeque::new(),
            signal: Arc::default(),
            signalled: Vec::new(),
            timer: Timer::default(),
            now,
            is_shutting_down: false,
            error: None,
        }
    }

    /// Makes all progress that is possible now. Ready when the connection has ended.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<(), Error>> {
        self.signal.register(cx.waker());
        loop {
            self.now = clock();
            if !self.is_shutting_down && shutdown.as_mut().poll(cx).is_ready() {
                self.is_shutting_down = true;
                self.connection.shut_down(self.now);
            }
            let mut progressed = false;
            if self.error.is_none() {
                match self.poll_input(cx) {
                    Ok(Input::Pending) => {}
                    Ok(Input::Received) => progressed = true,
                    Ok(Input::End) => return Poll::Ready(Ok(())),
                    Err(Failure::Io(error)) => return Poll::Ready(Err(error.into())),
                    Err(Failure::Connection(code)) => self.fail(code),
                }
                progressed |= self.poll_responses(cx);
                progressed |= self.poll_sending(cx);
            }
            let queued = self.connection.queued_bytes();
            match self.poll_write(cx) {
                // An error of the socket does not matter after the client has received all responses.
                Poll::Ready(_)
                    if self.connection.is_closed() && Pin::new(&mut self.socket).poll_shutdown(cx).is_ready() =>
                {
                    return Poll::Ready(self.result());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                _ => {}
            }
            if !progressed && self.connection.queued_bytes() == queued {
                ready!(self.timer.poll(self.connection.next_timeout(), cx));
                if let Err(code) = self.connection.handle_timeout(self.now) {
                    self.fail(code);
                }
                if self.connection.is_given_up() {
                    return Poll::Ready(self.result());
                }
            }
        }
    }

    /// How the connection has ended.
    fn result(&mut self) -> Result<(), Error> {
        self.error.take().map_or(Ok(()), |code| Err(code.into()))
    }

    /// Drops all requests after a connection error.
    fn fail(&mut self, code: ErrorCode) {
        self.error = Some(code);
        self.requests.clear();
        self.responses.clear();
        self.sending.clear();
        self.blocked.clear();
    }

    /// Reads once, and handles what was received.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<Input, Failure> {
        self.handle_signals();
        // RFC 9113 §5.2.2: frames MUST be read as soon as they are available; but while the client does not read the
        // control frames that its own cause, nothing is read, or they would pile up (RFC 9113 §10.5).
        if !self.connection.accepts_input() {
            return Ok(Input::Pending);
        }
        match self.poll_read(cx).map_err(Failure::Io)? {
            Poll::Pending => return Ok(Input::Pending),
            Poll::Ready(0) => return Ok(Input::End),
            Poll::Ready(_) => {}
        }
        self.handle_events().map_err(Failure::Connection)?;
        Ok(Input::Received)
    }

    /// Reads into the memory that a request offers, if only its data comes next and enough of it; else into the
    /// connection's buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some((stream, left)) = self.connection.unbuffered_data()
            && left >= MIN_DIRECT_BYTES
            && let Some(Request { sink: Sink::Buffered(intake), .. }) = self.requests.get_mut(&stream)
        {
            let buffer = intake.buffer();
            let length = buffer.len().min(left);
            if length > 0 {
                let received = ready!(poll_read(&mut self.socket, &mut buffer[..length], cx))?;
                intake.filled(received);
                self.connection.data_received(received, self.now);
                return Poll::Ready(Ok(received));
            }
        }
        let received = ready!(poll_read(&mut self.socket, self.connection.recv_buffer(), cx))?;
        self.connection.received(received, self.now);
        Poll::Ready(Ok(received))
    }

    /// Writes as much as the socket takes, many parts in one call. Ready when nothing is queued.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.queued_bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let used = self.connection.transmit_slices(&mut slices);
            let sent = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..used]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.connection.transmitted(sent, self.now);
        }
        // TLS may hold back bytes that its socket did not take.
        Pin::new(&mut self.socket).poll_flush(cx)
    }
}

/// Reads into `buffer`; how many bytes, 0 at the end.
fn poll_read(
    socket: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Why nothing more is received.
enum Failure {
    Io(io::Error),
    /// A connection error.
    Connection(ErrorCode),
}

/// The time, which tests can stop.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
