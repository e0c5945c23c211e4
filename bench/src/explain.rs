//! How long a request should take on a link, from round trips and byte counts alone. Pure.

use crate::target::Protocol;

/// Bytes of a full TCP segment on Ethernet.
pub const SEGMENT_BYTES: u64 = 1_460;
/// Segments that a new connection may send before the first acknowledgement (RFC 6928).
pub const INITIAL_WINDOW: u64 = 10;

/// Round trips before the first byte of a request can leave on a fresh connection: TCP's handshake, and
/// for gRPC the wait for the server's SETTINGS, as gRPC's own libraries do it.
pub fn handshakes(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Jpeg | Protocol::KserveHttp => 1,
        Protocol::KserveGrpc => 2,
    }
}

/// Round trips that `bytes` need when the first window is `window` bytes, each one doubles it, and it
/// stays at `largest` at most. The last one brings the first byte of the answer.
pub fn rounds(bytes: u64, window: u64, largest: u64) -> u32 {
    let (mut left, mut window, mut rounds) = (bytes, window.max(1), 1);
    while left > window {
        left -= window;
        window = window.saturating_mul(2).min(largest.max(1));
        rounds += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_those_of_the_doubling() {
        let rounds = |bytes| rounds(bytes, INITIAL_WINDOW * SEGMENT_BYTES, u64::MAX);
        assert_eq!([1, 14_600, 14_601, 51_350, 602_112, 2_408_448].map(rounds), [1, 1, 2, 3, 6, 8]);
    }
}
