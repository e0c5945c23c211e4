//! The schedule of an open loop: intended send times, calculated before anything is sent.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Highest rate, in requests per second.
const MAX_RATE: f64 = 1_000_000.0;
/// Largest trace that is read, in bytes and in requests.
const MAX_TRACE_BYTES: u64 = 64 << 20;

/// Requests per second, stored in thousandths so that rates can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64")]
pub struct Rate(u32);

impl Rate {
    /// A rate in requests per second.
    ///
    /// # Errors
    /// A message when it is not between 0.001 and 1,000,000.
    pub fn per_second(rate: f64) -> Result<Self, String> {
        if !(0.001..=MAX_RATE).contains(&rate) {
            return Err(format!("{rate} is not a rate: use 0.001 to {MAX_RATE} requests per second"));
        }
        Ok(Self((rate * 1e3).round() as u32))
    }

    /// In requests per second.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1e3
    }
}

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, Self::Error> {
        Self::per_second(rate)
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.get()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.trim().parse::<f64>();
        rate.map_err(|_| format!("`{text}` is not a rate: use a number of requests per second, e.g. 50"))?.try_into()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.get())
    }
}

/// How the intended send times are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At equal intervals.
    Constant,
    /// As from many independent users (a Poisson process): exponential gaps.
    Poisson,
    /// As in a recorded trace.
    Replay,
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
            Self::Replay => "replay",
        })
    }
}

/// The intended send times within `length`, ascending, at most `most`; the first is 0. `seed` determines random times.
/// Empty for [`Arrivals::Replay`]: a trace has its own times.
pub fn intended(arrivals: Arrivals, rate: Rate, length: Duration, most: usize, seed: u64) -> Vec<Duration> {
    let gap = 1.0 / rate.get();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0.0;
    let mut times = Vec::new();
    while times.len() < most && at < length.as_secs_f64() {
        times.push(Duration::from_secs_f64(at));
        at = match arrivals {
            Arrivals::Constant => times.len() as f64 * gap,
            Arrivals::Poisson => at - gap * (1.0 - rng.random::<f64>()).ln(),
            Arrivals::Replay => return Vec::new(),
        };
    }
    times
}

/// A recorded trace: the times of its requests since its start, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// The file.
    pub path: PathBuf,
    /// The times; not stored in the report.
    #[serde(skip)]
    pub times: Arc<[Duration]>,
}

impl Trace {
    /// Reads a trace: a line for each request with its time in seconds. Empty lines and `#` comments are skipped.
    ///
    /// # Errors
    /// A message that names the file and the line.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        let name = path.display();
        let length = std::fs::metadata(&path).map_err(|e| format!("cannot read {name}: {e}"))?.len();
        if length > MAX_TRACE_BYTES {
            return Err(format!("{name} is larger than {MAX_TRACE_BYTES} bytes"));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {name}: {e}"))?;
        let times = Self::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { path, times })
    }

    fn parse(text: &str) -> Result<Arc<[Duration]>, String> {
        let mut times: Vec<Duration> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let time = line.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let time = time.ok_or_else(|| format!("line {}: `{line}` is not a time in seconds", number + 1))?;
            if times.last().is_some_and(|last| *last > time) {
                return Err(format!("line {}: the time is before the previous one; sort the trace", number + 1));
            }
            times.push(time);
        }
        match times.last() {
            Some(last) if !last.is_zero() => Ok(times.into()),
            _ => Err("a trace needs at least two requests at different times".into()),
        }
    }

    /// Its length: the time of its last request plus one mean gap.
    pub fn length(&self) -> Duration {
        self.times.last().map_or(Duration::ZERO, |last| *last + last.div_f64(self.times.len() as f64))
    }

    /// Its mean rate.
    pub fn rate(&self) -> Rate {
        let rate = self.times.len() as f64 / self.length().as_secs_f64();
        Rate::per_second(rate.clamp(0.001, MAX_RATE)).unwrap_or(Rate(1))
    }
}

/// The load of a lane, as given by `--load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadSpec {
    /// Workers with one request in flight each: `--batches` and `--concurrency`.
    Closed,
    /// Requests at these rates, independent of the responses; one cell for each rate.
    Open {
        /// How the send times are distributed.
        arrivals: Arrivals,
        /// The rates.
        rates: Vec<Rate>,
    },
    /// Requests at the times of a trace.
    Replay(Trace),
}

impl FromStr for LoadSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |arrivals, rate: &str| Ok(Self::Open { arrivals, rates: vec![rate.parse()?] });
        match text.split_once(':') {
            None if text == "closed" => Ok(Self::Closed),
            Some(("constant", rate)) => one(Arrivals::Constant, rate),
            Some(("poisson", rate)) => one(Arrivals::Poisson, rate),
            Some(("steps", rates)) => {
                let rates = rates.split(',').map(str::parse).collect::<Result<_, _>>()?;
                Ok(Self::Open { arrivals: Arrivals::Constant, rates })
            }
            Some(("replay", path)) => Trace::read(path.into()).map(Self::Replay),
            _ => Err(format!(
                "`{text}` is not a load; write closed, constant:RATE, poisson:RATE, steps:RATE,RATE,... or replay:FILE"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(rate: f64) -> Rate {
        Rate::per_second(rate).unwrap()
    }

    #[test]
    fn loads_are_parsed() {
        let open =
            |arrivals, rates: &[f64]| LoadSpec::Open { arrivals, rates: rates.iter().map(|r| rate(*r)).collect() };
        assert_eq!("closed".parse(), Ok(LoadSpec::Closed));
        assert_eq!("constant:50".parse(), Ok(open(Arrivals::Constant, &[50.0])));
        assert_eq!("poisson:0.5".parse(), Ok(open(Arrivals::Poisson, &[0.5])));
        assert_eq!("steps:10,20,40".parse(), Ok(open(Arrivals::Constant, &[10.0, 20.0, 40.0])));
        let errors = ["open", "constant:", "constant:0", "steps:1,x", "replay:/no/such/file"]
            .map(|text| text.parse::<LoadSpec>().unwrap_err());
        insta::assert_snapshot!(errors.join("\n"), @r"
        `open` is not a load; write closed, constant:RATE, poisson:RATE, steps:RATE,RATE,... or replay:FILE
        `` is not a rate: use a number of requests per second, e.g. 50
        0 is not a rate: use 0.001 to 1000000 requests per second
        `x` is not a rate: use a number of requests per second, e.g. 50
        cannot read /no/such/file: No such file or directory (os error 2)
        ");
    }

    #[test]
    fn a_trace_is_a_list_of_times() {
        let times = Trace::parse("# seconds\n0\n0.25\n\n0.25\n1.5\n").unwrap();
        let trace = Trace { path: "t".into(), times };
        assert_eq!(trace.times.iter().map(Duration::as_millis).collect::<Vec<_>>(), [0, 250, 250, 1_500]);
        assert_eq!((trace.length(), trace.rate()), (Duration::from_millis(1_875), rate(2.133)));
        let errors = ["1\n0.5", "now", "-1", "", "0\n0"].map(|text| Trace::parse(text).unwrap_err());
        insta::assert_snapshot!(errors.join("\n"), @r"
        line 2: the time is before the previous one; sort the trace
        line 1: `now` is not a time in seconds
        line 1: `-1` is not a time in seconds
        a trace needs at least two requests at different times
        a trace needs at least two requests at different times
        ");
    }

    proptest! {
        #[test]
        fn times_rise_within_the_length(per_second in 0.5..5e3_f64, ms in 1_u64..3_000, seed: u64) {
            let length = Duration::from_millis(ms);
            for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
                let times = intended(arrivals, rate(per_second), length, usize::MAX, seed);
                prop_assert_eq!(times.first(), Some(&Duration::ZERO));
                prop_assert!(times.is_sorted() && times.last().unwrap() < &length);
                prop_assert_eq!(&times, &intended(arrivals, rate(per_second), length, usize::MAX, seed));
                let cut = intended(arrivals, rate(per_second), length, 3, seed);
                prop_assert_eq!(&cut[..], &times[..times.len().min(3)]);
            }
        }

        #[test]
        fn constant_times_keep_their_distance(per_second in 0.5..5e3_f64) {
            let times = intended(Arrivals::Constant, rate(per_second), Duration::from_secs(2), usize::MAX, 1);
            let expected = (2.0 * rate(per_second).get()).ceil();
            prop_assert!((times.len() as f64 - expected).abs() <= 1.0);
            for pair in times.windows(2) {
                prop_assert!(((pair[1] - pair[0]).as_secs_f64() - 1.0 / rate(per_second).get()).abs() < 1e-6);
            }
        }

        /// The standard deviation of a Poisson process's count is its square root; six of them never occur.
        #[test]
        fn poisson_times_keep_their_rate(seed: u64) {
            let times = intended(Arrivals::Poisson, rate(100.0), Duration::from_secs(40), usize::MAX, seed);
            prop_assert!((times.len() as f64 - 4_000.0).abs() < 6.0 * 4_000_f64.sqrt());
            let gaps: Vec<f64> = times.windows(2).map(|p| (p[1] - p[0]).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let deviation = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
            prop_assert!((deviation / mean - 1.0).abs() < 0.15, "gaps are exponential: {}", deviation / mean);
        }
    }
}
