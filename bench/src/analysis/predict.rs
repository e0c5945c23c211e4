//! Predicts how long a request takes on a link from round trips and byte counts. Pure functions.
//!
//! The prediction is the sum of the connection's handshakes, the round trips until the congestion window has opened for
//! all of the request, its bytes at the link's rate, and the server's time.

use std::time::Duration;

use serde::Serialize;

use crate::{
    analysis::summary::{Cell, Form, Summary},
    model::{
        connection::TlsVersion,
        link::{Direction, LinkSpec, SEGMENT_BYTES},
        load::Load,
        protocol::Protocol,
    },
};

/// Round trips before the first byte of a request can leave on a fresh connection: TCP's handshake, that of TLS if it
/// is used, and for gRPC the wait for the server's SETTINGS, as in gRPC's own libraries.
pub fn handshakes(protocol: Protocol, tls: Option<TlsVersion>) -> u32 {
    let tcp_and_http = match protocol {
        Protocol::Jpeg | Protocol::KserveHttp => 1,
        Protocol::KserveGrpc => 2,
    };
    tcp_and_http + tls.map_or(0, TlsVersion::round_trips)
}

/// Round trips to send `bytes` if the first window is `window` bytes and each round trip doubles it up to `largest`.
/// The last one brings the first byte of the response.
pub fn rounds(bytes: u64, window: u64, largest: u64) -> u32 {
    let (mut left, mut window, mut rounds) = (bytes, window.max(1), 1);
    while left > window {
        left -= window;
        window = window.saturating_mul(2).min(largest.max(1));
        rounds += 1;
    }
    rounds
}

/// One request and its response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// Round trips before the first byte leaves; `None` on a reused connection, whose window is open.
    pub handshakes: Option<u32>,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// Time of the request in the server.
    pub server: Duration,
}

/// The predicted time of an exchange, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Round trips before the first byte leaves.
    pub handshakes: u32,
    /// Round trips until the response is complete, including those that wait for a window to open.
    pub rounds: u32,
    /// The bytes of both directions at the link's rates, in ms.
    pub serialisation_ms: f64,
    /// Time in the server, in ms.
    pub server_ms: f64,
    /// The sum, in ms.
    pub total_ms: f64,
}

/// Predicts an exchange on a link without other traffic.
pub fn predict(link: &LinkSpec, exchange: &Exchange) -> Prediction {
    let one_way = |direction, bytes| {
        let largest = link.largest_window(direction);
        let window = if exchange.handshakes.is_some() { link.first_window().min(largest) } else { largest };
        transfer(bytes, window, largest, link.bytes_per_s(direction), link.rtt.as_secs_f64())
    };
    let (up_rounds, up_s) = one_way(Direction::Up, exchange.request_bytes);
    let (down_rounds, down_s) = one_way(Direction::Down, exchange.response_bytes);
    let handshakes = exchange.handshakes.unwrap_or(0);
    // The last round trip of the request brings the first window of the response.
    let rounds = up_rounds + down_rounds - 1;
    let (serialisation_ms, server_ms) = ((up_s + down_s) * 1e3, exchange.server.as_secs_f64() * 1e3);
    let total_ms = link.rtt.as_secs_f64() * 1e3 * f64::from(handshakes + rounds) + serialisation_ms + server_ms;
    Prediction { handshakes, rounds, serialisation_ms, server_ms, total_ms }
}

/// The link rate, in bits per second in both directions, at which two requests on reused connections take the same
/// time. On a slower link the request with fewer bytes is faster, on a faster link the one with less server time.
/// `None` if one request has fewer bytes and less server time.
pub fn crossover(a: &Exchange, b: &Exchange) -> Option<f64> {
    let bits = |exchange: &Exchange| (exchange.request_bytes + exchange.response_bytes) as f64 * 8.0;
    let rate = (bits(b) - bits(a)) / (a.server.as_secs_f64() - b.server.as_secs_f64());
    Some(rate).filter(|rate| rate.is_finite() && *rate > 0.0)
}

/// Round trips and seconds of serialisation of `bytes` in one direction.
fn transfer(bytes: u64, mut window: u64, largest: u64, bytes_per_s: Option<f64>, rtt_s: f64) -> (u32, f64) {
    let Some(rate) = bytes_per_s else { return (rounds(bytes, window, largest), 0.0) };
    let (mut left, mut rounds) = (bytes, 1);
    // Once a window fills the link, the rest is sent without a pause. Until then, each round trip begins with the
    // acknowledgement of a segment, one segment's length later.
    while left > window && (window as f64) < rate * rtt_s {
        left -= window;
        window = window.saturating_mul(2).min(largest);
        rounds += 1;
    }
    (rounds, (left + SEGMENT_BYTES * u64::from(rounds - 1)) as f64 / rate)
}

/// A cell and its prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predicted<'a> {
    /// What was measured.
    pub cell: &'a Cell,
    /// What was predicted.
    pub prediction: Prediction,
}

/// Predicts the serial cells whose bytes are known, with the server's own times where they are plausible.
pub fn predicted<'a>(link: &LinkSpec, summary: &'a Summary) -> Vec<Predicted<'a>> {
    let serial = summary.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. }));
    serial
        .filter_map(|cell| {
            let exchange = Exchange {
                handshakes: opening(summary.form, cell),
                request_bytes: cell.request.exact()?,
                response_bytes: cell.response_bytes.unwrap_or(0),
                server: cell.plausible_server().map_or(Duration::ZERO, |server| {
                    Duration::try_from_secs_f64(server.request_ms / 1e3).unwrap_or_default()
                }),
            };
            Some(Predicted { cell, prediction: predict(link, &exchange) })
        })
        .collect()
}

/// Round trips that each request of a cell spends on opening a connection; `None` if connections are reused.
fn opening(form: Form, cell: &Cell) -> Option<u32> {
    match form {
        // The study made a new client for every request.
        Form::Study => Some(handshakes(Protocol::of(cell.lane), None)),
        Form::Report => {
            let fresh = cell.connections.is_some_and(|opened| opened >= cell.samples);
            fresh.then(|| handshakes(Protocol::of(cell.lane), cell.tls))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::link::INITIAL_WINDOW;

    fn link(text: &str) -> LinkSpec {
        text.parse().unwrap()
    }

    /// The column "predicted" of the study's batch-1 row: one round trip of 35 ms explains it.
    #[test]
    fn one_round_trip_time_explains_the_studys_batch_1_row() {
        let predicted = |protocol, request_bytes, server_ms| {
            let server = Duration::from_millis(server_ms);
            let handshakes = Some(handshakes(protocol, None));
            let exchange = Exchange { handshakes, request_bytes, response_bytes: 4_000, server };
            let prediction = predict(&link("rtt=35ms,iw=10"), &exchange);
            (prediction.handshakes, prediction.rounds, prediction.total_ms.round())
        };
        assert_eq!(predicted(Protocol::Jpeg, 51_350, 0), (1, 3, 140.0));
        assert_eq!(predicted(Protocol::KserveHttp, 602_112, 21), (1, 6, 245.0 + 21.0));
        assert_eq!(predicted(Protocol::KserveHttp, 602_112, 15), (1, 6, 245.0 + 15.0));
        assert_eq!(predicted(Protocol::KserveGrpc, 602_112, 15), (2, 6, 280.0 + 15.0));
        assert_eq!(predicted(Protocol::KserveGrpc, 602_112, 13), (2, 6, 280.0 + 13.0));
    }

    #[test]
    fn tls_adds_round_trips() {
        let round_trips =
            |protocol| [None, Some(TlsVersion::V1_3), Some(TlsVersion::V1_2)].map(|tls| handshakes(protocol, tls));
        assert_eq!(round_trips(Protocol::KserveHttp), [1, 2, 3]);
        assert_eq!(round_trips(Protocol::KserveGrpc), [2, 3, 4]);
    }

    #[test]
    fn a_reused_connection_costs_one_round_trip() {
        let exchange =
            Exchange { handshakes: None, request_bytes: 602_112, response_bytes: 4_000, server: Duration::ZERO };
        assert_eq!(predict(&link("rtt=35ms"), &exchange).total_ms, 35.0);
        let slow = predict(&link("rtt=35ms,up=20mbit"), &exchange);
        assert_eq!((slow.rounds, slow.serialisation_ms.round()), (1, 241.0));
    }

    #[test]
    fn at_the_crossover_both_requests_take_the_same_time() {
        let exchange = |request_bytes, ms| Exchange {
            handshakes: None,
            request_bytes,
            response_bytes: 4_000,
            server: Duration::from_millis(ms),
        };
        let (jpeg, tensor) = (exchange(102_112, 30), exchange(602_112, 20));
        let rate = crossover(&jpeg, &tensor).unwrap();
        assert!((rate / 400e6 - 1.0).abs() < 1e-9, "500 kB more in 10 ms less: {rate}");
        let at =
            |mbit: u64, exchange| predict(&link(&format!("rtt=1ms,up={mbit}mbit,down={mbit}mbit")), exchange).total_ms;
        assert!((at(400, &jpeg) - at(400, &tensor)).abs() < 1e-9);
        assert!(at(200, &jpeg) < at(200, &tensor) && at(800, &jpeg) > at(800, &tensor));
        assert_eq!(crossover(&jpeg, &exchange(602_112, 30)), None);
        assert_eq!(crossover(&jpeg, &exchange(602_112, 40)), None);
    }

    #[test]
    fn the_window_doubles_with_each_round_trip() {
        let rounds = |bytes| rounds(bytes, INITIAL_WINDOW * SEGMENT_BYTES, u64::MAX);
        assert_eq!([1, 14_600, 14_601, 51_350, 602_112, 2_408_448].map(rounds), [1, 1, 2, 3, 6, 8]);
    }
}
