//! Reads the kernel's `TCP_INFO`: round-trip estimate and signs of loss.

use tokio::net::TcpStream;

/// The kernel's view of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// Retransmitted segments so far: loss towards the server.
    pub retransmits: u32,
    /// Segments received out of order so far: loss or reordering towards the client.
    pub out_of_order: u32,
    /// Smoothed round trip in µs.
    pub rtt_us: u32,
}

/// Asks the kernel; `None` if it does not know.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn tcp_info(stream: &TcpStream) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd as _;

    // SAFETY: `tcp_info` is a C struct of integers, for which all bits zero are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the kernel writes at most `length`
    // bytes, which is the size of `info`; older kernels write fewer, and the rest stays zero.
    let failed = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    (failed == 0).then_some(TcpInfo {
        retransmits: info.tcpi_total_retrans,
        out_of_order: info.tcpi_rcv_ooopack,
        rtt_us: info.tcpi_rtt,
    })
}

/// Asks the kernel; `None` if it does not know.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn tcp_info(_: &TcpStream) -> Option<TcpInfo> {
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    #[tokio::test]
    async fn loopback_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        let info = tcp_info(&client).unwrap();
        assert_eq!((info.retransmits, info.out_of_order), (0, 0));
        assert!((1..1_000_000).contains(&info.rtt_us), "{info:?}");
    }
}
