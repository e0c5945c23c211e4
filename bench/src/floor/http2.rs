//! A minimal HTTP/2 client on a blocking socket that repeats one prepared request, without event loop or copies.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use quintet_http2::{
    frame::{
        self, DEFAULT_MAX_FRAME_BYTES, DEFAULT_WINDOW_BYTES, FrameHeader, HEADER_BYTES, MAX_WINDOW_BYTES, PREFACE,
        flag, kind, setting,
    },
    hpack::{DEFAULT_TABLE_BYTES, Decoder, Encoder},
};

use crate::floor::{answer::Answer, raw::Stream};

/// Most bytes to read at once where a frame may begin.
const READ_BYTES: usize = 16 << 10;
/// Largest frame accepted (RFC 9113 §6.5.2).
const MAX_FRAME_BYTES: u32 = (1 << 24) - 1;
/// Longest payload of a frame other than DATA, and longest header block.
const MAX_CONTROL_BYTES: usize = 64 << 10;
/// Most frames in one system call; each needs two slices, and Linux allows 1024 (`IOV_MAX`).
const MAX_FRAMES_AT_ONCE: usize = 256;

/// A connection and its request.
pub(super) struct Connection {
    stream: Stream,
    /// Bytes read; the range `unread` is not used yet.
    buffer: Box<[u8; READ_BYTES]>,
    unread: std::ops::Range<usize>,
    decoder: Decoder,
    /// The server's settings: largest frame, and initial window of a stream.
    max_frame: u32,
    initial_window: u32,
    /// Bytes that may still be sent on the connection and on the open stream.
    window: i64,
    stream_window: i64,
    /// Bytes received since the last WINDOW_UPDATE.
    received: u32,
    next_stream: u32,
    /// Header block of the first request, and of all later ones.
    blocks: [Vec<u8>; 2],
    /// Payloads of the request's DATA frames.
    chunks: Vec<Bytes>,
}

impl Connection {
    /// Begins HTTP/2 on a new stream, for a request with these fields and this body.
    ///
    /// # Errors
    /// When the server does not speak HTTP/2.
    pub(super) fn new(stream: Stream, fields: &[(&str, &str)], body: &[Bytes]) -> anyhow::Result<Self> {
        let mut connection = Self {
            stream,
            buffer: Box::new([0; READ_BYTES]),
            unread: 0..0,
            decoder: Decoder::new(DEFAULT_TABLE_BYTES),
            max_frame: DEFAULT_MAX_FRAME_BYTES,
            initial_window: DEFAULT_WINDOW_BYTES,
            window: DEFAULT_WINDOW_BYTES.into(),
            stream_window: 0,
            received: 0,
            next_stream: 1,
            blocks: [Vec::new(), Vec::new()],
            chunks: Vec::new(),
        };
        let settings = [
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, MAX_WINDOW_BYTES),
            (setting::MAX_FRAME_SIZE, MAX_FRAME_BYTES),
        ];
        let opening = [
            PREFACE.to_vec(),
            frame::settings(&settings),
            frame::window_update(0, MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES),
        ];
        connection.stream.write_all(&opening.concat())?;
        let table_bytes = connection.read_server_settings().context("the server does not speak HTTP/2")?;
        let mut encoder = Encoder::default();
        encoder.set_max_table_bytes(table_bytes);
        let mut block = || {
            let mut block = Vec::new();
            encoder.encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
            block
        };
        connection.blocks = [block(), block()];
        let max_chunk = connection.max_frame.min(connection.initial_window).max(1) as usize;
        let pieces = body.iter().flat_map(|part| {
            (0..part.len()).step_by(max_chunk).map(move |from| part.slice(from..part.len().min(from + max_chunk)))
        });
        connection.chunks = pieces.collect();
        Ok(connection)
    }

    /// Reads and acknowledges the server's SETTINGS, its first frame; returns the size of its HPACK table.
    fn read_server_settings(&mut self) -> anyhow::Result<usize> {
        let header = self.header()?;
        ensure!(header.kind == kind::SETTINGS && !header.has(flag::ACK), "its first frame is not SETTINGS");
        let payload = self.control(header)?;
        self.stream.write_all(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[]))?;
        self.apply_settings(&payload);
        let table = frame::read_settings(&payload).find(|(name, _)| *name == setting::HEADER_TABLE_SIZE);
        Ok(table.map_or(DEFAULT_TABLE_BYTES, |(_, bytes)| bytes as usize))
    }

    fn apply_settings(&mut self, payload: &[u8]) {
        for (name, value) in frame::read_settings(payload) {
            match name {
                setting::INITIAL_WINDOW_SIZE => {
                    self.stream_window += i64::from(value) - i64::from(self.initial_window);
                    self.initial_window = value;
                }
                setting::MAX_FRAME_SIZE => self.max_frame = value,
                _ => {}
            }
        }
    }

    /// Sends the request and reads the complete response.
    ///
    /// # Errors
    /// When the connection or the stream ends early.
    pub(super) fn exchange(&mut self, answer: &mut Answer) -> anyhow::Result<()> {
        answer.fields.clear();
        (answer.received, answer.ended) = (0, false);
        ensure!(self.next_stream < MAX_WINDOW_BYTES, "the connection has no stream identifiers left");
        let stream = self.next_stream;
        self.next_stream += 2;
        self.stream_window = self.initial_window.into();
        let block = std::mem::take(&mut self.blocks[usize::from(stream > 1)]);
        let mut heads = frame::frame(kind::HEADERS, flag::END_HEADERS, stream, &block);
        self.blocks[usize::from(stream > 1)] = block;
        let chunks = std::mem::take(&mut self.chunks);
        let sent = self.send(stream, &mut heads, &chunks, answer);
        self.chunks = chunks;
        sent?;
        while !answer.ended {
            self.frame(stream, answer)?;
        }
        Ok(())
    }

    /// Sends `heads` and the chunks, as many at a time as the windows allow.
    fn send(&mut self, stream: u32, heads: &mut Vec<u8>, chunks: &[Bytes], answer: &mut Answer) -> anyhow::Result<()> {
        let mut from = 0;
        while from < chunks.len() && !answer.ended {
            let mut upto = from;
            let early = heads.len();
            while let Some(chunk) = chunks.get(upto).filter(|_| upto - from < MAX_FRAMES_AT_ONCE) {
                let length = chunk.len() as u32;
                if i64::from(length) > self.window.min(self.stream_window) {
                    break;
                }
                self.window -= i64::from(length);
                self.stream_window -= i64::from(length);
                upto += 1;
                let flags = if upto == chunks.len() { flag::END_STREAM } else { 0 };
                heads.extend(FrameHeader { length, kind: kind::DATA, flags, stream }.bytes());
            }
            let (first, rest) = heads.split_at(early);
            let mut slices = vec![IoSlice::new(first)];
            for (head, chunk) in rest.chunks(HEADER_BYTES).zip(&chunks[from..upto]) {
                slices.extend([IoSlice::new(head), IoSlice::new(chunk)]);
            }
            write_all(&mut self.stream, &mut slices)?;
            heads.clear();
            from = upto;
            if from < chunks.len() {
                self.frame(stream, answer)?;
            }
        }
        Ok(())
    }

    /// Reads and handles one frame.
    fn frame(&mut self, stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        let header = self.header()?;
        if header.kind == kind::DATA {
            return self.data(header, stream, answer);
        }
        let payload = self.control(header)?;
        let number = || payload.first_chunk().map(|&bytes| u32::from_be_bytes(bytes)).unwrap_or_default();
        match header.kind {
            kind::HEADERS => {
                let content =
                    frame::content(header, &payload).context("a frame's padding is longer than its payload")?;
                answer.last = header.has(flag::END_STREAM);
                self.headers(header, content, stream, answer)?;
            }
            kind::CONTINUATION => self.headers(header, &payload, stream, answer)?,
            kind::SETTINGS if !header.has(flag::ACK) => {
                self.apply_settings(&payload);
                self.stream.write_all(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[]))?;
            }
            kind::PING if !header.has(flag::ACK) => {
                self.stream.write_all(&frame::frame(kind::PING, flag::ACK, 0, &payload))?;
            }
            kind::WINDOW_UPDATE if header.stream == 0 => self.window += i64::from(number()),
            kind::WINDOW_UPDATE if header.stream == stream => self.stream_window += i64::from(number()),
            kind::RST_STREAM if header.stream == stream && !answer.ended => {
                bail!("the server reset the stream with code {}", number())
            }
            kind::GOAWAY => bail!("the server closed the connection (GOAWAY)"),
            _ => {}
        }
        Ok(())
    }

    /// Adds a part of a header block, and decodes the block when it is complete.
    fn headers(&mut self, header: FrameHeader, part: &[u8], stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        answer.block.extend_from_slice(part);
        ensure!(answer.block.len() <= MAX_CONTROL_BYTES, "the headers of the response are too long");
        if header.has(flag::END_HEADERS) {
            let block = std::mem::take(&mut answer.block);
            let mut fields = Vec::new();
            self.decoder.decode(&block, |name, value| fields.push((name, value)))?;
            if header.stream == stream {
                answer.fields.extend(fields);
                answer.ended |= answer.last;
            }
        }
        Ok(())
    }

    /// Reads the payload of a DATA frame into the body.
    fn data(&mut self, header: FrameHeader, stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        ensure!(
            header.stream == stream && !header.has(flag::PADDED),
            "a DATA frame is padded or belongs to another stream"
        );
        let upto = answer.received + header.length as usize;
        if answer.body.len() < upto {
            answer.body.resize(upto, 0);
        }
        self.read(&mut answer.body[answer.received..upto])?;
        answer.received = upto;
        answer.ended = header.has(flag::END_STREAM);
        self.received += header.length;
        if self.received > MAX_WINDOW_BYTES / 4 {
            self.stream.write_all(&frame::window_update(0, self.received))?;
            self.received = 0;
        }
        Ok(())
    }

    fn header(&mut self) -> anyhow::Result<FrameHeader> {
        let mut bytes = [0; HEADER_BYTES];
        self.read(&mut bytes)?;
        Ok(FrameHeader::parse(bytes))
    }

    /// Reads the payload of a frame other than DATA.
    fn control(&mut self, header: FrameHeader) -> anyhow::Result<Vec<u8>> {
        let length = header.length as usize;
        ensure!(length <= MAX_CONTROL_BYTES, "a frame of type {} has {length} bytes", header.kind);
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok(payload)
    }

    /// Fills `target`, from the buffer or, for large reads, directly from the socket.
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<()> {
        let mut filled = 0;
        loop {
            let some = self.unread.len().min(target.len() - filled);
            target[filled..filled + some].copy_from_slice(&self.buffer[self.unread.start..self.unread.start + some]);
            self.unread.start += some;
            filled += some;
            match target.len() - filled {
                0 => return Ok(()),
                READ_BYTES.. => return self.stream.read_exact(&mut target[filled..]),
                _ => match self.stream.read(&mut self.buffer[..])? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    got => self.unread = 0..got,
                },
            }
        }
    }
}

/// Writes all slices, in as few calls as possible.
fn write_all(stream: &mut Stream, mut slices: &mut [IoSlice<'_>]) -> std::io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match stream.write_vectored(slices)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            sent => IoSlice::advance_slices(&mut slices, sent),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::TcpListener, thread};

    use futures_util::stream;
    use http::{HeaderMap, HeaderValue, Request, Response};
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::{
        body::{Frame, Incoming},
        server::conn::http2::Builder,
        service::service_fn,
    };
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::*;
    use crate::floor::target::Address;

    /// Returns the request's body, and its length and path in a trailer that is `padding` longer.
    async fn echo(
        request: Request<Incoming>,
        padding: usize,
    ) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers
            .insert("echo", HeaderValue::from_str(&format!("{} {path} {}", body.len(), "p".repeat(padding))).unwrap());
        Ok(Response::new(StreamBody::new(stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]))))
    }

    /// A hyper server for one connection.
    fn serve(builder: impl FnOnce(&mut Builder<TokioExecutor>) + Send + 'static, padding: usize) -> Stream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
                let mut server = Builder::new(TokioExecutor::new());
                builder(&mut server);
                let _ = server.serve_connection(stream, service_fn(move |request| echo(request, padding))).await;
            });
        });
        Stream::connect(&address).unwrap()
    }

    #[test]
    fn exchanges_with_hyper() {
        let body: Vec<Bytes> = [10, 700_000].map(|n| (0..n).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()).into();
        let expected = body.concat();
        let fields = [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "a"), ("x", "y")];
        let small = |builder: &mut Builder<TokioExecutor>| {
            // A window that the body exceeds many times, and headers in several frames.
            builder.initial_stream_window_size(70_000).initial_connection_window_size(70_000).max_frame_size(16_384);
        };
        let large = |builder: &mut Builder<TokioExecutor>| {
            builder.initial_stream_window_size(1 << 24).initial_connection_window_size(1 << 24).max_frame_size(1 << 18);
        };
        for stream in [serve(small, 20_000), serve(large, 0)] {
            let mut connection = Connection::new(stream, &fields, &body).unwrap();
            let mut answer = Answer::default();
            for _ in 0..5 {
                connection.exchange(&mut answer).unwrap();
                assert!(answer.body() == expected);
                assert_eq!(answer.field(":status"), Some("200"));
                assert!(answer.field("echo").unwrap().starts_with("700010 /p "));
            }
        }
    }

    #[test]
    fn a_server_without_http2_is_reported() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 100]);
        });
        let error = Connection::new(Stream::connect(&address).unwrap(), &[], &[]).err().unwrap();
        assert_eq!(error.to_string(), "the server does not speak HTTP/2");
    }
}
