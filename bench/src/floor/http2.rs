//! HTTP/2 on a blocking socket, for one prepared request that is sent again and again: no event loop, no copy of what
//! is sent, nothing read that is not needed.

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

/// What is read at once where a frame may begin.
const READ_BYTES: usize = 16 << 10;
/// Largest frame that is taken: 2^24 - 1.
const MAX_FRAME_BYTES: u32 = (1 << 24) - 1;
/// Longest payload of a frame that is no data, and longest header block.
const MAX_CONTROL_BYTES: usize = 64 << 10;
/// Frames that one system call takes; each is two slices, of which the system allows 1024.
const MAX_FRAMES_AT_ONCE: usize = 256;

/// A connection and its request.
pub(super) struct Connection {
    stream: Stream,
    /// Of these, `unread` are not used yet.
    buffer: Box<[u8; READ_BYTES]>,
    unread: std::ops::Range<usize>,
    decoder: Decoder,
    /// Of the server: what it takes in one frame, and of a stream before it says more.
    max_frame: u32,
    initial_window: u32,
    /// What may still be sent: on the connection, and on the open stream.
    window: i64,
    stream_window: i64,
    /// What came since the server was last told of more room.
    received: u32,
    next_stream: u32,
    /// Header block of the first request, and of all later ones.
    blocks: [Vec<u8>; 2],
    /// Payloads of the request's DATA frames.
    chunks: Vec<Bytes>,
}

impl Connection {
    /// Speaks HTTP/2 on a fresh stream, for a request of these fields and this body.
    ///
    /// # Errors
    /// When the server does not speak it.
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
        let hello = [
            PREFACE.to_vec(),
            frame::settings(&settings),
            frame::window_update(0, MAX_WINDOW_BYTES - DEFAULT_WINDOW_BYTES),
        ];
        connection.stream.write_all(&hello.concat())?;
        let table_bytes = connection.greeting().context("the server does not speak HTTP/2")?;
        let mut encoder = Encoder::default();
        encoder.set_max_table_bytes(table_bytes);
        let mut block = || {
            let mut block = Vec::new();
            encoder.encode(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), &mut block);
            block
        };
        connection.blocks = [block(), block()];
        let most = connection.max_frame.min(connection.initial_window).max(1) as usize;
        let pieces = body.iter().flat_map(|part| {
            (0..part.len()).step_by(most).map(move |from| part.slice(from..part.len().min(from + most)))
        });
        connection.chunks = pieces.collect();
        Ok(connection)
    }

    /// The server's settings, which come first; the size of the table that it keeps.
    fn greeting(&mut self) -> anyhow::Result<usize> {
        let header = self.header()?;
        ensure!(header.kind == kind::SETTINGS && !header.has(flag::ACK), "its first frame is none of settings");
        let payload = self.control(header)?;
        self.stream.write_all(&frame::frame(kind::SETTINGS, flag::ACK, 0, &[]))?;
        self.take_settings(&payload);
        let table = frame::read_settings(&payload).find(|(name, _)| *name == setting::HEADER_TABLE_SIZE);
        Ok(table.map_or(DEFAULT_TABLE_BYTES, |(_, bytes)| bytes as usize))
    }

    fn take_settings(&mut self, payload: &[u8]) {
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

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection or the stream ends early.
    pub(super) fn exchange(&mut self, answer: &mut Answer) -> anyhow::Result<()> {
        answer.fields.clear();
        (answer.received, answer.ended) = (0, false);
        ensure!(self.next_stream < MAX_WINDOW_BYTES, "the connection has no stream left");
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

    /// Sends what is in `heads` and the chunks, as far at a time as the windows allow.
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

    /// Reads one frame and does what it asks for.
    fn frame(&mut self, stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        let header = self.header()?;
        if header.kind == kind::DATA {
            return self.data(header, stream, answer);
        }
        let payload = self.control(header)?;
        let number = || payload.first_chunk().map(|&bytes| u32::from_be_bytes(bytes)).unwrap_or_default();
        match header.kind {
            kind::HEADERS => {
                let content = frame::content(header, &payload).context("a frame's padding is longer than it")?;
                answer.last = header.has(flag::END_STREAM);
                self.headers(header, content, stream, answer)?;
            }
            kind::CONTINUATION => self.headers(header, &payload, stream, answer)?,
            kind::SETTINGS if !header.has(flag::ACK) => {
                self.take_settings(&payload);
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
            kind::GOAWAY => bail!("the server ends the connection"),
            _ => {}
        }
        Ok(())
    }

    /// Takes a part of a header block, and decodes it with its last.
    fn headers(&mut self, header: FrameHeader, part: &[u8], stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        answer.block.extend_from_slice(part);
        ensure!(answer.block.len() <= MAX_CONTROL_BYTES, "the answer's headers are too long");
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

    /// Reads a DATA frame's payload to its place in the body.
    fn data(&mut self, header: FrameHeader, stream: u32, answer: &mut Answer) -> anyhow::Result<()> {
        ensure!(header.stream == stream && !header.has(flag::PADDED), "data that was not asked for, or is padded");
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

    /// The payload of a frame that is no data.
    fn control(&mut self, header: FrameHeader) -> anyhow::Result<Vec<u8>> {
        let length = header.length as usize;
        ensure!(length <= MAX_CONTROL_BYTES, "a frame of type {} has {length} bytes", header.kind);
        let mut payload = vec![0; length];
        self.read(&mut payload)?;
        Ok(payload)
    }

    /// Fills `place`: small reads from the buffer, large ones past it.
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<()> {
        let mut filled = 0;
        loop {
            let some = self.unread.len().min(place.len() - filled);
            place[filled..filled + some].copy_from_slice(&self.buffer[self.unread.start..self.unread.start + some]);
            self.unread.start += some;
            filled += some;
            match place.len() - filled {
                0 => return Ok(()),
                READ_BYTES.. => return self.stream.read_exact(&mut place[filled..]),
                _ => match self.stream.read(&mut self.buffer[..])? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    got => self.unread = 0..got,
                },
            }
        }
    }
}

/// All of them, in as few calls as it takes.
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

    /// Answers with what it was sent, and tells the length and the path in a trailer as long as `padding`.
    async fn echo(
        request: Request<Incoming>,
        padding: usize,
    ) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers
            .insert("told", HeaderValue::from_str(&format!("{} {path} {}", body.len(), "p".repeat(padding))).unwrap());
        Ok(Response::new(StreamBody::new(stream::iter([Ok(Frame::data(body)), Ok(Frame::trailers(trailers))]))))
    }

    /// A server of the library's for one connection.
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
    fn it_speaks_with_the_library() {
        let body: Vec<Bytes> = [10, 700_000].map(|n| (0..n).map(|i| (i % 251) as u8).collect::<Vec<_>>().into()).into();
        let whole = body.concat();
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
                assert!(answer.body() == whole);
                assert_eq!(answer.field(":status"), Some("200"));
                assert!(answer.field("told").unwrap().starts_with("700010 /p "));
            }
        }
    }

    #[test]
    fn what_speaks_no_http2_is_found_out() {
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
