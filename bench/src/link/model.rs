//! Computes when bytes arrive on a link. Pure, in virtual time: all times are since a common epoch.
//!
//! A [`Pipe`] is one direction of the link, shared by all connections: delay, rate and a bounded queue. A [`Flow`] models
//! the timing of one direction of a TCP connection: a window that doubles each round trip from the initial window
//! (RFC 5681, RFC 6928), grows only while it limits the sender (RFC 7661), and shrinks when the sender is idle
//! (RFC 2861). Nothing is lost: where a real queue would overflow and losses would halve the window, this window stays at
//! the capacity of link and queue.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::model::link::{Direction, LinkSpec, SEGMENT_BYTES};

/// The least that Linux adds to the round trip for its retransmission timeout.
const TIMEOUT_ABOVE_RTT: Duration = Duration::from_millis(200);

/// One direction of the link.
pub struct Pipe {
    bytes_per_s: Option<f64>,
    delay: Duration,
    jitter: Duration,
    queue: Duration,
    rng: ChaCha8Rng,
    /// When the last byte so far leaves the bottleneck.
    free_at: Duration,
}

impl Pipe {
    /// One direction of a link; `seed` decides its jitter.
    pub fn new(spec: &LinkSpec, direction: Direction, seed: u64) -> Self {
        let bytes_per_s = spec.bytes_per_s(direction);
        Self {
            bytes_per_s,
            delay: spec.rtt / 2,
            jitter: spec.jitter,
            queue: serialisation(spec.queue_bytes.max(SEGMENT_BYTES), bytes_per_s),
            rng: ChaCha8Rng::seed_from_u64(seed),
            free_at: Duration::ZERO,
        }
    }

    /// When the queue accepts a segment that is ready at `at`.
    fn room_at(&self, at: Duration) -> Duration {
        if self.bytes_per_s.is_none() { at } else { at.max(self.free_at.saturating_sub(self.queue)) }
    }

    /// Accepts a segment at `at`; returns when it arrives at the other end.
    fn carry(&mut self, at: Duration, bytes: u64) -> Duration {
        self.free_at = self.free_at.max(at) + serialisation(bytes, self.bytes_per_s);
        // Without a rate, no segment waits for another.
        let leaves = if self.bytes_per_s.is_some() { self.free_at } else { at };
        leaves + self.delay()
    }

    fn delay(&mut self) -> Duration {
        if self.jitter.is_zero() {
            return self.delay;
        }
        // Within rtt/2 ± jitter/2, which jitter <= rtt keeps positive.
        (self.delay + self.jitter.mul_f64(self.rng.random::<f64>())).saturating_sub(self.jitter / 2)
    }
}

fn serialisation(bytes: u64, bytes_per_s: Option<f64>) -> Duration {
    bytes_per_s.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate))
}

/// One direction of one connection.
pub struct Flow {
    first_window: u64,
    largest_window: u64,
    /// Bytes that may be in flight.
    window: u64,
    in_flight: u64,
    /// Segments in flight, by time of acknowledgement.
    unacknowledged: VecDeque<Segment>,
    /// Bytes sent so far, and up to which byte the window limited the sender.
    sent: u64,
    limited_to: u64,
    half_rtt: Duration,
    timeout: Duration,
    last_sent: Option<Duration>,
    last_arrival: Duration,
    opens: Duration,
}

struct Segment {
    acknowledged_at: Duration,
    bytes: u64,
    end: u64,
}

/// The result of offering bytes to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Some bytes leave in one segment and arrive after all earlier ones.
    Sent {
        /// Number of bytes.
        bytes: u64,
        /// Time of arrival.
        arrives: Duration,
    },
    /// No byte can leave before this time: offer them again then.
    Wait(Duration),
}

impl Flow {
    /// One direction of a connection whose first byte can leave at `opens`.
    pub fn new(spec: &LinkSpec, direction: Direction, opens: Duration) -> Self {
        let largest_window = spec.largest_window(direction);
        let first_window = spec.first_window().min(largest_window);
        Self {
            first_window,
            largest_window,
            window: first_window,
            in_flight: 0,
            unacknowledged: VecDeque::new(),
            sent: 0,
            limited_to: 0,
            half_rtt: spec.rtt / 2,
            timeout: spec.rtt + TIMEOUT_ABOVE_RTT,
            last_sent: None,
            last_arrival: Duration::ZERO,
            opens,
        }
    }

    /// Offers `available` bytes (at least one), ready since `at`. Times must not decrease.
    pub fn offer(&mut self, pipe: &mut Pipe, at: Duration, available: u64) -> Step {
        let at = at.max(self.opens);
        self.acknowledge(at);
        self.restart_if_idle(at);
        let room = self.window.saturating_sub(self.in_flight);
        if let (0, Some(next)) = (room, self.unacknowledged.front()) {
            self.limited_to = self.sent;
            return Step::Wait(next.acknowledged_at);
        }
        let taken_at = pipe.room_at(at);
        if taken_at > at {
            return Step::Wait(taken_at);
        }
        let bytes = available.min(room).min(SEGMENT_BYTES);
        // TCP delivers in order, whatever the jitter.
        let arrives = pipe.carry(at, bytes).max(self.last_arrival);
        self.sent += bytes;
        self.in_flight += bytes;
        self.unacknowledged.push_back(Segment { acknowledged_at: arrives + self.half_rtt, bytes, end: self.sent });
        (self.last_sent, self.last_arrival) = (Some(at), arrives);
        Step::Sent { bytes, arrives }
    }

    /// Handles the acknowledgements up to `at`. If the window limited the sender, each grows it by the acknowledged bytes,
    /// so that it doubles in a round trip.
    fn acknowledge(&mut self, at: Duration) {
        while let Some(segment) = self.unacknowledged.front().filter(|segment| segment.acknowledged_at <= at) {
            self.in_flight -= segment.bytes;
            if segment.end <= self.limited_to {
                self.window = (self.window + segment.bytes).min(self.largest_window);
            }
            self.unacknowledged.pop_front();
        }
    }

    /// Halves the window for each timeout without sending, down to the first window.
    fn restart_if_idle(&mut self, at: Duration) {
        let Some(last) = self.last_sent.filter(|_| self.in_flight == 0) else { return };
        let mut idle = at.saturating_sub(last);
        while idle > self.timeout && self.window > self.first_window {
            self.window = (self.window / 2).max(self.first_window);
            idle -= self.timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::predict::{Exchange, predict};
    use proptest::prelude::*;

    /// One direction of a link in virtual time, with one connection that opens at once.
    pub(crate) struct Link {
        pub(crate) pipe: Pipe,
        pub(crate) flow: Flow,
    }

    impl Link {
        pub(crate) fn new(spec: &LinkSpec) -> Self {
            Self { pipe: Pipe::new(spec, Direction::Up, 1), flow: Flow::new(spec, Direction::Up, Duration::ZERO) }
        }

        /// Sends `bytes` at `at`; returns departure, arrival and size of each segment.
        pub(crate) fn send(&mut self, mut at: Duration, mut bytes: u64) -> Vec<(Duration, Duration, u64)> {
            let mut segments = Vec::new();
            while bytes > 0 {
                match self.flow.offer(&mut self.pipe, at, bytes) {
                    Step::Wait(until) => {
                        assert!(until > at, "time advances");
                        at = until;
                    }
                    Step::Sent { bytes: sent, arrives } => {
                        bytes -= sent;
                        segments.push((at, arrives, sent));
                    }
                }
            }
            segments
        }

        fn arrival(&mut self, at: Duration, bytes: u64) -> Duration {
            self.send(at, bytes).last().unwrap().1
        }
    }

    fn spec(text: &str) -> LinkSpec {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn off_by(measured: Duration, expected: f64) -> f64 {
        (measured.as_secs_f64() - expected).abs() / expected
    }

    #[test]
    fn round_trips_follow_slow_start() {
        for (bytes, rounds) in [(1_000, 1), (14_600, 1), (14_601, 2), (51_350, 3), (602_112, 6), (2_408_448, 8)] {
            let mut link = Link::new(&spec("rtt=35ms,iw=10"));
            let departures: std::collections::BTreeSet<_> =
                link.send(Duration::ZERO, bytes).into_iter().map(|(left, ..)| left).collect();
            assert_eq!(departures.len(), rounds, "{bytes} bytes");
            assert_eq!(*departures.last().unwrap(), ms(35) * (rounds as u32 - 1), "a round trip apart");
        }
    }

    /// The next request on a kept connection finds the window open; after a pause the window opens again.
    #[test]
    fn an_open_window_stays_open_until_idle() {
        let mut link = Link::new(&spec("rtt=35ms"));
        let first = link.arrival(Duration::ZERO, 602_112);
        let begin = first + ms(20);
        let second = link.arrival(begin, 602_112) - begin;
        assert!(second < ms(35) * 2, "one or two rounds instead of six: {second:?}");
        let begin = begin + second + Duration::from_secs(60);
        assert_eq!(link.arrival(begin, 602_112) - begin, first, "idle restart: from the initial window again");
        let mut link = Link::new(&spec("rtt=35ms"));
        let begin = link.arrival(Duration::ZERO, 602_112) + ms(300);
        let halved = link.arrival(begin, 602_112) - begin;
        assert!(second <= halved && halved < first, "one timeout halves it once: {halved:?}");
    }

    #[test]
    fn small_requests_do_not_open_the_window() {
        let mut link = Link::new(&spec("rtt=10ms"));
        for i in 0..50 {
            link.send(ms(20 * i), 2_000);
        }
        assert_eq!(link.flow.window, 14_600);
    }

    #[test]
    fn two_connections_share_the_rate() {
        let spec = spec("rtt=0ms,up=8mbit,queue=16kib");
        let mut pipe = Pipe::new(&spec, Direction::Up, 1);
        let mut flows =
            [(); 2].map(|()| (Flow::new(&spec, Direction::Up, Duration::ZERO), 500_000_u64, Duration::ZERO));
        let mut arrivals = [Duration::ZERO; 2];
        while let Some(i) = (0..2).filter(|&i| flows[i].1 > 0).min_by_key(|&i| flows[i].2) {
            let (flow, left, at) = &mut flows[i];
            match flow.offer(&mut pipe, *at, *left) {
                Step::Wait(until) => *at = until,
                Step::Sent { bytes, arrives } => {
                    *left -= bytes;
                    arrivals[i] = arrives;
                }
            }
        }
        assert!(off_by(arrivals[0].max(arrivals[1]), 1.0) < 0.01, "a megabyte at a megabyte a second: {arrivals:?}");
        assert!(arrivals[0].min(arrivals[1]) > ms(400), "they alternate: {arrivals:?}");
    }

    #[test]
    fn jitter_repeats_with_its_seed_and_keeps_its_bounds() {
        let spec = spec("rtt=40ms,jitter=10ms");
        let delays = |seed| {
            let mut pipe = Pipe::new(&spec, Direction::Up, seed);
            (0..1_000).map(|i| pipe.carry(ms(i), 100) - ms(i)).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
        assert!(delays(1).iter().all(|delay| (ms(15)..=ms(25)).contains(delay)));
        let mean = delays(1).iter().sum::<Duration>() / 1_000;
        assert!(off_by(mean, 0.020) < 0.03, "{mean:?}");
    }

    proptest! {
        /// A lone segment takes half a round trip and its own transmission time.
        #[test]
        fn delay_holds(rtt_ms in 1_u64..500, at_ms in 0_u64..10_000) {
            let mut link = Link::new(&spec(&format!("rtt={rtt_ms}ms,up=1000mbit")));
            prop_assert!(off_by(link.arrival(ms(at_ms), 100) - ms(at_ms), rtt_ms as f64 / 2e3) < 0.03);
        }

        /// With an open window the rate is within 3 %, for any round trip.
        #[test]
        fn rate_holds(rtt_ms in 0_u64..200, mbit in 1_u64..500) {
            let mut link = Link::new(&spec(&format!("rtt={rtt_ms}ms,up={mbit}mbit,window=64mib")));
            let segments = link.send(Duration::ZERO, mbit * 1_000_000);
            let half = segments.len() / 2;
            let bytes: u64 = segments[half + 1..].iter().map(|(.., bytes)| bytes).sum();
            let time = segments[segments.len() - 1].1 - segments[half].1;
            prop_assert!(off_by(time, bytes as f64 * 8.0 / (mbit as f64 * 1e6)) < 0.03, "{bytes} bytes in {time:?}");
        }

        #[test]
        fn every_byte_arrives_once_in_order_and_not_too_early(
            sizes in proptest::collection::vec(1_u64..200_000, 1..8), pause_ms in 0_u64..1_000, rtt_ms in 0_u64..100,
            jitter in 0.0..1.0_f64, up in proptest::option::of(1_u64..100)
        ) {
            let rate = up.map_or(String::new(), |mbit| format!(",up={mbit}mbit"));
            let link_spec = spec(&format!("rtt={rtt_ms}ms,jitter={}ms{rate}", rtt_ms as f64 * jitter));
            let mut link = Link::new(&link_spec);
            let (mut at, mut last, mut total) = (Duration::ZERO, Duration::ZERO, 0);
            for size in &sizes {
                for (left, arrives, bytes) in link.send(at, *size) {
                    prop_assert!(left >= at && arrives >= last && bytes > 0);
                    prop_assert!(arrives + link_spec.jitter / 2 >= left + link_spec.rtt / 2);
                    prop_assert!(link.flow.window <= link_spec.largest_window(Direction::Up));
                    (last, total) = (arrives, total + bytes);
                }
                at = last + ms(pause_ms);
            }
            prop_assert_eq!(total, sizes.iter().sum::<u64>());
        }
    }

    /// When the last byte of a request on a fresh connection arrives, by the model of the proxy.
    fn arrival_ms(link: &LinkSpec, bytes: u64) -> f64 {
        let (mut pipe, mut flow) = (Pipe::new(link, Direction::Up, 1), Flow::new(link, Direction::Up, link.rtt));
        let (mut at, mut left, mut last) = (Duration::ZERO, bytes, Duration::ZERO);
        while left > 0 {
            match flow.offer(&mut pipe, at, left) {
                Step::Wait(until) => at = until,
                Step::Sent { bytes, arrives } => (left, last) = (left - bytes, arrives),
            }
        }
        last.as_secs_f64() * 1e3
    }

    proptest! {
        /// The prediction is within 3 % of the emulated link.
        #[test]
        fn prediction_and_emulation_agree(
            rtt_ms in 5_u64..200, up in proptest::option::of(5_u64..1_000), bytes in 1_000_u64..20_000_000
        ) {
            let rate = up.map_or(String::new(), |mbit| format!(",up={mbit}mbit"));
            let link: LinkSpec = format!("rtt={rtt_ms}ms{rate}").parse().unwrap();
            let exchange =
                Exchange { handshakes: Some(1), request_bytes: bytes, response_bytes: 1, server: Duration::ZERO };
            let predicted = predict(&link, &exchange).total_ms;
            let emulated = arrival_ms(&link, bytes) + rtt_ms as f64 / 2.0;
            prop_assert!((predicted / emulated - 1.0).abs() < 0.03, "{predicted} predicted, {emulated} emulated");
        }
    }
}
