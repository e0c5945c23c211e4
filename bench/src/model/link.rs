//! A network link as `--link` describes it: `rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10`.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::parse_duration;

/// Longest round trip that is emulated.
const MAX_RTT: Duration = Duration::from_secs(10);
/// Largest window and queue: each connection may hold this much in memory in each direction.
const MAX_BUFFER_BYTES: u64 = 256 << 20;
/// Most segments in an initial window.
const MAX_INITIAL_WINDOW: u64 = 1_000;

/// A link between client and server, the same for all connections over it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct LinkSpec {
    /// Round trip without queues; each direction takes half of it.
    pub rtt: Duration,
    /// Client to server, in bits per second, shared by all connections; `None` is unlimited.
    pub up: Option<u64>,
    /// Server to client.
    pub down: Option<u64>,
    /// The delay of each direction varies by up to half of this, up and down.
    pub jitter: Duration,
    /// Segments of 1,460 bytes that a connection may send before the first acknowledgement (RFC 6928).
    pub initial_window: u64,
    /// Size of the bottleneck's queue in each direction, in bytes.
    pub queue_bytes: u64,
    /// Largest window of a connection, in bytes, as its socket buffers would limit it.
    pub window_bytes: u64,
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self {
            rtt: Duration::ZERO,
            up: None,
            down: None,
            jitter: Duration::ZERO,
            initial_window: INITIAL_WINDOW,
            queue_bytes: 256 << 10,
            window_bytes: 4 << 20,
        }
    }
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

impl LinkSpec {
    /// Bytes per second in one direction; `None` if unlimited.
    pub fn bytes_per_s(&self, direction: Direction) -> Option<f64> {
        let bits = match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        };
        bits.map(|bits| bits as f64 / 8.0)
    }

    /// Bytes of a new connection's first window.
    pub fn first_window(&self) -> u64 {
        (self.initial_window * SEGMENT_BYTES).min(self.window_bytes)
    }

    /// The largest window that a connection reaches: the bytes that the link holds in flight and in its queue, after
    /// which a real one would lose packets, but at most the size of its buffers.
    pub fn largest_window(&self, direction: Direction) -> u64 {
        let in_flight = self.bytes_per_s(direction).map(|rate| (rate * self.rtt.as_secs_f64()) as u64);
        in_flight
            .map_or(self.window_bytes, |bytes| (bytes + self.queue_bytes).min(self.window_bytes))
            .max(SEGMENT_BYTES)
    }
}

/// A link that cannot be emulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` in a link: {reason}; write e.g. rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10")]
pub struct LinkSpecError {
    part: String,
    reason: String,
}

impl FromStr for LinkSpec {
    type Err = LinkSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut spec = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim) {
            let error = |reason: String| LinkSpecError { part: part.to_owned(), reason };
            let (key, value) = part.split_once('=').ok_or_else(|| error("`=` is missing".into()))?;
            if seen.contains(&key) {
                return Err(error("given twice".into()));
            }
            seen.push(key);
            match key {
                "rtt" => spec.rtt = parse_duration(value).map_err(error)?,
                "jitter" => spec.jitter = parse_duration(value).map_err(error)?,
                "up" => spec.up = Some(parse_rate(value).map_err(error)?),
                "down" => spec.down = Some(parse_rate(value).map_err(error)?),
                "iw" => spec.initial_window = value.parse().map_err(|_| error("not a number of segments".into()))?,
                "queue" => spec.queue_bytes = parse_bytes(value).map_err(error)?,
                "window" => spec.window_bytes = parse_bytes(value).map_err(error)?,
                _ => return Err(error("keys are rtt, up, down, jitter, iw, queue, window".into())),
            }
            let in_range = [
                (spec.rtt <= MAX_RTT, "the round trip is at most 10s"),
                ((1..=MAX_INITIAL_WINDOW).contains(&spec.initial_window), "iw is 1 to 1000 segments"),
                ((SEGMENT_BYTES..=MAX_BUFFER_BYTES).contains(&spec.window_bytes), "the window is 1460b to 256mib"),
                (spec.queue_bytes <= MAX_BUFFER_BYTES, "the queue is at most 256mib"),
            ];
            if let Some((_, reason)) = in_range.iter().find(|(fine, _)| !fine) {
                return Err(error((*reason).to_owned()));
            }
        }
        if spec.jitter > spec.rtt {
            let reason = "jitter is at most the round trip".to_owned();
            return Err(LinkSpecError { part: text.to_owned(), reason });
        }
        Ok(spec)
    }
}

impl fmt::Display for LinkSpec {
    /// The form that [`LinkSpec::from_str`] parses, without most defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::default();
        let ms = |duration: Duration| duration.as_nanos() as f64 / 1e6;
        write!(f, "rtt={}ms", ms(self.rtt))?;
        for (key, rate) in [("up", self.up), ("down", self.down)] {
            if let Some(bits) = rate {
                write!(f, ",{key}={}mbit", bits as f64 / 1e6)?;
            }
        }
        if !self.jitter.is_zero() {
            write!(f, ",jitter={}ms", ms(self.jitter))?;
        }
        write!(f, ",iw={}", self.initial_window)?;
        if self.queue_bytes != default.queue_bytes {
            write!(f, ",queue={}b", self.queue_bytes)?;
        }
        if self.window_bytes != default.window_bytes {
            write!(f, ",window={}b", self.window_bytes)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for LinkSpec {
    type Error = LinkSpecError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LinkSpec> for String {
    fn from(spec: LinkSpec) -> Self {
        spec.to_string()
    }
}

/// Parses `20mbit`: bits per second, in powers of ten.
fn parse_rate(text: &str) -> Result<u64, String> {
    let units = [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    let bits = scaled(text, &units).filter(|bits| (1e3..=1e12).contains(bits));
    bits.map(|bits| bits as u64).ok_or_else(|| "a rate is 1kbit to 1000gbit".to_owned())
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("kib", 1024.0), ("mib", 1024.0 * 1024.0), ("kb", 1e3), ("mb", 1e6), ("b", 1.0)];
    scaled(text, &units).map(|bytes| bytes as u64).ok_or_else(|| "a size is e.g. 256kib or 4mib".to_owned())
}

/// A number followed by a unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let value = number.trim().parse::<f64>().ok()? * factor;
    (value.is_finite() && value >= 0.0).then(|| value.round())
}

/// Segments that a new connection may send before the first acknowledgement (RFC 6928).
pub const INITIAL_WINDOW: u64 = 10;
/// Bytes of a full TCP segment on Ethernet.
pub const SEGMENT_BYTES: u64 = 1_460;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_link_is_parsed() {
        let spec: LinkSpec = "rtt=35ms,up=20mbit,down=0.1gbit,jitter=2ms,iw=10".parse().unwrap();
        let expected = LinkSpec {
            rtt: Duration::from_millis(35),
            up: Some(20_000_000),
            down: Some(100_000_000),
            jitter: Duration::from_millis(2),
            ..LinkSpec::default()
        };
        assert_eq!(spec, expected);
        assert_eq!(spec.to_string(), "rtt=35ms,up=20mbit,down=100mbit,jitter=2ms,iw=10");
        assert_eq!("rtt=0.12ms".parse::<LinkSpec>().unwrap().to_string(), "rtt=0.12ms,iw=10");
        assert_eq!(spec.largest_window(Direction::Up), 87_500 + (256 << 10));
        assert_eq!("rtt=1ms".parse::<LinkSpec>().unwrap().largest_window(Direction::Up), 4 << 20);
    }

    #[test]
    fn errors_name_the_part_and_the_problem() {
        let messages: Vec<_> = [
            "",
            "rtt",
            "rtt=35",
            "rtt=11s",
            "up=20",
            "up=0mbit",
            "speed=1mbit",
            "iw=0",
            "window=1kb",
            "queue=xmib",
            "rtt=1ms,rtt=2ms",
            "rtt=1ms,jitter=2ms",
        ]
        .map(|text| text.parse::<LinkSpec>().unwrap_err().to_string())
        .to_vec();
        insta::assert_snapshot!(messages.join("\n"));
    }

    proptest! {
        #[test]
        fn a_written_link_parses_to_the_same(
            rtt_us in 0_u64..10_000_000, up in proptest::option::of(1_000_u64..1_000_000_000_000),
            down in proptest::option::of(1_000_u64..1_000_000_000_000), initial_window in 1_u64..1000,
            queue_bytes in 0_u64..(256 << 20), window_bytes in 1_460_u64..(256 << 20)
        ) {
            let rtt = Duration::from_micros(rtt_us);
            let spec = LinkSpec { rtt, up, down, jitter: rtt / 2, initial_window, queue_bytes, window_bytes };
            let read: LinkSpec = spec.to_string().parse().unwrap();
            prop_assert!(read.rtt.abs_diff(spec.rtt) <= Duration::from_nanos(1));
            prop_assert!(read.jitter.abs_diff(spec.jitter) <= Duration::from_nanos(1));
            prop_assert_eq!(LinkSpec { rtt: spec.rtt, jitter: spec.jitter, ..read }, spec);
        }

        #[test]
        fn any_text_parses_without_panic(text: String) {
            let _ = text.parse::<LinkSpec>();
        }
    }
}
