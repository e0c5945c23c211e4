//! The floor: the same bytes over a bare socket, without a protocol.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use anyhow::Context as _;

use crate::floor::{
    exchange::{Exchange, Sizes},
    target::Address,
};

/// Serves exchanges of fixed sizes on loopback TCP and on a Unix domain socket until the process ends; each connection has
/// a thread.
pub(super) struct Floor {
    /// The TCP address.
    pub(super) tcp: Address,
    /// The Unix domain socket.
    pub(super) unix: Address,
}

impl Floor {
    /// Starts the server; makes the socket in `folder`.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on loopback")?;
        let port = tcp.local_addr().context("cannot read a listener's port")?.port();
        let path = folder.join("floor.sock");
        let unix = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let _ = stream.set_nodelay(true);
                thread::spawn(move || serve(stream));
            }
        });
        thread::spawn(move || unix.incoming().flatten().for_each(|stream| drop(thread::spawn(move || serve(stream)))));
        Ok(Self { tcp: Address::Tcp(format!("127.0.0.1:{port}")), unix: Address::Unix(path) })
    }
}

/// Reads the sizes of request and response once, then answers each request.
fn serve(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut sizes = [[0; 8]; 2];
    for size in &mut sizes {
        stream.read_exact(size)?;
    }
    let [mut request, reply] = sizes.map(|size| vec![0; u64::from_le_bytes(size) as usize]);
    loop {
        stream.read_exact(&mut request)?;
        stream.write_all(&reply)?;
    }
}

/// A connection to the floor.
pub(super) struct Raw {
    stream: Stream,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Raw {
    pub(super) fn connect(address: &Address, sizes: Sizes) -> anyhow::Result<Self> {
        let mut stream = Stream::connect(address)?;
        for size in [sizes.request, sizes.reply] {
            stream.write_all(&(size as u64).to_le_bytes())?;
        }
        Ok(Self { stream, request: vec![1; sizes.request], reply: vec![0; sizes.reply] })
    }
}

impl Exchange for Raw {
    fn exchange(&mut self) -> anyhow::Result<f64> {
        self.stream.write_all(&self.request)?;
        self.stream.read_exact(&mut self.reply)?;
        Ok(0.0)
    }
}

/// A blocking stream over TCP or a Unix domain socket.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn connect(address: &Address) -> anyhow::Result<Self> {
        Ok(match address {
            Address::Tcp(authority) => {
                let stream = TcpStream::connect(authority).with_context(|| format!("cannot connect to {authority}"))?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Address::Unix(path) => {
                Self::Unix(UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))?)
            }
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
