//! Emulates a link on real sockets: a TCP proxy on loopback that delays bytes as the model computes.
//!
//! The system completes the client's `connect` at once, so the time of TCP's handshake is added to the first bytes in each
//! direction.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::endpoint::Endpoint,
    link::{
        clock::Clock,
        model::{Flow, Pipe, Step},
    },
    model::link::{Direction, LinkSpec},
};

/// Most bytes to read at once.
const READ_BYTES: usize = 64 << 10;
/// About the most bytes to write at once.
const WRITE_BYTES: usize = 256 << 10;
/// Most connections through one proxy; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 4_096;

/// One link, shared by any number of proxies.
pub struct EmulatedLink {
    spec: LinkSpec,
    epoch: Instant,
    clock: Clock,
    up: Mutex<Pipe>,
    down: Mutex<Pipe>,
}

impl EmulatedLink {
    /// A link; `seed` decides its jitter.
    ///
    /// # Errors
    /// When its clock's thread cannot be started.
    pub fn new(spec: LinkSpec, seed: u64) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            spec,
            epoch: Instant::now(),
            clock: Clock::start()?,
            up: Mutex::new(Pipe::new(&spec, Direction::Up, seed)),
            down: Mutex::new(Pipe::new(&spec, Direction::Down, seed.wrapping_add(1))),
        }))
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn pipe(&self, direction: Direction) -> &Mutex<Pipe> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

/// Passes connections to one server over a link; they end with it.
pub struct Proxy {
    /// Where clients connect to.
    pub address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and passes connections to `server`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(link: Arc<EmulatedLink>, server: Endpoint) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move { accept(&listener, &link, &server).await });
        Ok(Self { address, _accepting: AbortOnDropHandle::new(accepting) })
    }
}

async fn accept(listener: &TcpListener, link: &Arc<EmulatedLink>, server: &Endpoint) {
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&free).acquire_owned().await else { return };
        // No descriptors left, or the client has gone: the next one may succeed.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (link, server) = (Arc::clone(link), server.clone());
        connections.spawn(async move {
            // Client and server see an error as a broken connection.
            let _ = connection(&link, client, &server).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(link: &EmulatedLink, client: TcpStream, server: &Endpoint) -> io::Result<()> {
    let begin = link.now();
    client.set_nodelay(true)?;
    let server = server.connect().await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // The client sends after SYN and SYN-ACK; the server receives the ACK half a round trip later.
    let up = Relay::new(link, Direction::Up, begin + link.spec.rtt);
    let down = Relay::new(link, Direction::Down, begin + link.spec.rtt * 3 / 2);
    tokio::try_join!(up.relay(from_client, to_server), down.relay(from_server, to_client))?;
    Ok(())
}

/// One direction of one connection.
struct Relay<'a> {
    link: &'a EmulatedLink,
    pipe: &'a Mutex<Pipe>,
    flow: Flow,
    /// Time of the flow's last step.
    at: Duration,
    /// Bytes read and not yet sent, with the time of reading; at most a window.
    offered: VecDeque<(Duration, Bytes)>,
    offered_bytes: usize,
    most_offered: usize,
    /// Bytes in flight, with the time of arrival; an empty item is the end of the stream.
    wire: VecDeque<(Duration, Bytes)>,
}

impl<'a> Relay<'a> {
    fn new(link: &'a EmulatedLink, direction: Direction, opens: Duration) -> Self {
        Self {
            link,
            pipe: link.pipe(direction),
            flow: Flow::new(&link.spec, direction, opens),
            at: Duration::ZERO,
            offered: VecDeque::new(),
            offered_bytes: 0,
            most_offered: usize::try_from(link.spec.window_bytes).unwrap_or(usize::MAX),
            wire: VecDeque::new(),
        }
    }

    /// Moves bytes until the sender has ended and everything has arrived.
    async fn relay(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut ended_at: Option<Duration> = None;
        let mut buffer = BytesMut::new();
        loop {
            let retry = self.transmit();
            if let Some(at) = ended_at.filter(|_| self.offered.is_empty() && !self.ending()) {
                let last = self.wire.back().map_or(Duration::ZERO, |(arrives, _)| *arrives);
                self.wire.push_back((last.max(at + self.link.spec.rtt / 2), Bytes::new()));
            }
            let next = self.wire.front().map(|(arrives, _)| *arrives).into_iter().chain(retry).min();
            let reading = ended_at.is_none() && self.offered_bytes < self.most_offered;
            buffer.reserve(READ_BYTES);
            tokio::select! {
                biased;
                () = self.sleep_until(next), if next.is_some() => {
                    if self.deliver(&mut to).await? {
                        return Ok(());
                    }
                }
                read = from.read_buf(&mut buffer), if reading => {
                    if read? == 0 {
                        ended_at = Some(self.link.now());
                    } else {
                        let bytes = buffer.split().freeze();
                        self.offered_bytes += bytes.len();
                        self.offered.push_back((self.link.now(), bytes));
                    }
                }
                else => return Ok(()),
            }
        }
    }

    /// Whether the end of the stream is in flight.
    fn ending(&self) -> bool {
        self.wire.back().is_some_and(|(_, bytes)| bytes.is_empty())
    }

    /// Sends what the model allows; returns when to try again.
    fn transmit(&mut self) -> Option<Duration> {
        let mut pipe = self.pipe.lock();
        while let Some((ready, bytes)) = self.offered.front_mut() {
            self.at = self.at.max(*ready);
            match self.flow.offer(&mut pipe, self.at, bytes.len() as u64) {
                Step::Sent { bytes: sent, arrives } => {
                    let sent = bytes.split_to(sent as usize);
                    self.offered_bytes -= sent.len();
                    self.wire.push_back((arrives, sent));
                    if bytes.is_empty() {
                        self.offered.pop_front();
                    }
                }
                // If woken late, the flow continues from the time it was due, so that delays do not add up.
                Step::Wait(until) if until <= self.link.now() => self.at = until,
                Step::Wait(until) => return Some(until),
            }
        }
        None
    }

    async fn sleep_until(&self, time: Option<Duration>) {
        if let Some(time) = time {
            self.link.clock.sleep_until(self.link.epoch + time).await;
        }
    }

    /// Writes the bytes that have arrived; returns whether the stream has ended. A receiver that does not read blocks its
    /// own direction, like a closed window.
    async fn deliver(&mut self, to: &mut OwnedWriteHalf) -> io::Result<bool> {
        let now = self.link.now();
        let mut due = BytesMut::new();
        let mut end = false;
        while !end
            && due.len() < WRITE_BYTES
            && let Some((_, bytes)) = self.wire.front().filter(|(arrives, _)| *arrives <= now)
        {
            // Segments are small: copying them is cheaper than a system call for each.
            due.extend_from_slice(bytes);
            end = bytes.is_empty();
            self.wire.pop_front();
        }
        to.write_all(&due).await?;
        if end {
            to.shutdown().await?;
        }
        Ok(end)
    }
}
