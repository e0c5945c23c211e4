//! Parses and writes a hypothesis: `p50(onnx-http) < 0.9 * p50(onnx-grpc) @ batch=1`.

use std::{fmt, str::FromStr};

use crate::model::{
    arrivals::{Arrivals, Rate},
    hypothesis::{Hypothesis, Relation},
    lane::{Lane, UnknownLane},
    load::Load,
    metric::Metric,
};

/// Default margin of `~`.
const MARGIN: f64 = 0.05;
/// Largest batch, concurrency and factor that are accepted.
const MAX_COUNT: usize = 1_000_000;
const MAX_FACTOR: f64 = 1e6;

/// The form of a claim, for error messages.
const FORM: &str =
    "METRIC(LANE) < METRIC(LANE) @ batch=N, with <, > or ~ 5% and batch, concurrency, constant or poisson";

/// A claim or a condition that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}\n  {input}\n  {:>width$}\nwrite {form}", '^', width = at + 1)]
pub struct HypothesisError {
    input: String,
    at: usize,
    reason: String,
    form: &'static str,
}

/// Parses a text with `read`; an error points at the mistake and gives the `form` that is accepted.
///
/// # Errors
/// That of `read`.
pub(super) fn parse<T>(
    input: &str,
    form: &'static str,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>,
) -> Result<T, HypothesisError> {
    // One line, so that the mark is below the mistake.
    let input: String = input.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut reader = Reader { input: &input, at: 0 };
    read(&mut reader).map_err(|(at, reason)| {
        let at = input[..at].chars().count();
        HypothesisError { input: input.clone(), at, reason, form }
    })
}

impl FromStr for Hypothesis {
    type Err = HypothesisError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        parse(input, FORM, |reader| reader.hypothesis())
    }
}

impl TryFrom<String> for Hypothesis {
    type Error = HypothesisError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hypothesis> for String {
    fn from(hypothesis: Hypothesis) -> Self {
        hypothesis.to_string()
    }
}

impl fmt::Display for Hypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, left, relation, factor, right, load } = self;
        write!(f, "{metric}({left}) ")?;
        match relation {
            Relation::Less => f.write_str("< ")?,
            Relation::Greater => f.write_str("> ")?,
            Relation::Within(margin) => write!(f, "~ {}% ", margin * 100.0)?,
        }
        if *factor != 1.0 {
            write!(f, "{factor} * ")?;
        }
        write!(f, "{metric}({right}) @ {}", At(*load))
    }
}

/// A load as claims and conditions write it.
pub(super) struct At(pub(super) Load);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Load::Serial { batch } => write!(f, "batch={batch}"),
            Load::Concurrent { concurrency, batch: 1 } => write!(f, "concurrency={concurrency}"),
            Load::Concurrent { concurrency, batch } => write!(f, "concurrency={concurrency}, batch={batch}"),
            Load::Open { arrivals, rate, batch: 1 } => write!(f, "{arrivals}={}", rate.get()),
            Load::Open { arrivals, rate, batch } => write!(f, "{arrivals}={}, batch={batch}", rate.get()),
        }
    }
}

/// The byte offset of a mistake, and the reason.
pub(super) type Error = (usize, String);

/// Reads a claim or a condition from left to right.
pub(super) struct Reader<'a> {
    input: &'a str,
    /// Bytes read.
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    fn hypothesis(&mut self) -> Result<Hypothesis, Error> {
        let (left_factor, left_metric, left) = self.side()?;
        let relation = self.relation()?;
        let right_at = self.skip_spaces();
        let (right_factor, metric, right) = self.side()?;
        if metric != left_metric {
            return Err((right_at, format!("both sides must have the same metric, not {left_metric} and {metric}")));
        }
        if right == left {
            return Err((right_at, format!("{left} is compared with itself")));
        }
        let load = self.load()?;
        Ok(Hypothesis { metric, left, relation, factor: right_factor / left_factor, right, load })
    }

    /// `[number *] metric(lane)`.
    fn side(&mut self) -> Result<(f64, Metric, Lane), Error> {
        let at = self.skip_spaces();
        let factor = if self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let factor = self.number()?;
            if !(1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&factor) {
                return Err((at, format!("a factor is between {} and {MAX_FACTOR}", 1.0 / MAX_FACTOR)));
            }
            self.expect("*")?;
            factor
        } else {
            1.0
        };
        let (metric, lane) = self.figure()?;
        Ok((factor, metric, lane))
    }

    /// `metric(lane)`.
    pub(super) fn figure(&mut self) -> Result<(Metric, Lane), Error> {
        let at = self.skip_spaces();
        let metric = self.word("a metric, such as p50")?.parse().map_err(|reason| (at, reason))?;
        self.expect("(")?;
        let at = self.skip_spaces();
        let name = self.word("a lane, such as onnx-http")?;
        let lane = name.parse().map_err(|error: UnknownLane| (at, error.to_string()))?;
        self.expect(")")?;
        Ok((metric, lane))
    }

    fn relation(&mut self) -> Result<Relation, Error> {
        let at = self.skip_spaces();
        match self.rest().chars().next() {
            Some('<') => self.advance('<', Relation::Less),
            Some('>') => self.advance('>', Relation::Greater),
            Some(sign @ ('~' | '≈')) => {
                self.at += sign.len_utf8();
                let at = self.skip_spaces();
                // `~ 5%` has a margin, `~ 5 * p50(...)` a factor.
                let number = self.rest().trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
                if number.len() == self.rest().len() || !number.trim_start().starts_with('%') {
                    return Ok(Relation::Within(MARGIN));
                }
                let margin = self.number()? / 100.0;
                self.expect("%")?;
                if margin <= 0.0 || margin > 10.0 {
                    return Err((at, "a margin is more than 0 % and at most 1000 %".into()));
                }
                Ok(Relation::Within(margin))
            }
            _ => Err((at, format!("expected <, > or ~, found {}", self.found()))),
        }
    }

    pub(super) fn advance<T>(&mut self, sign: char, relation: T) -> Result<T, Error> {
        self.at += sign.len_utf8();
        if self.rest().starts_with('=') {
            return Err((self.at, format!("measured values are never exactly equal: write {sign}")));
        }
        Ok(relation)
    }

    /// `[@ batch=N, concurrency=N]` or `[@ batch=N, poisson=RATE]` and the end; the default is batch 1, one request at a
    /// time. Replayed arrivals have no rate by which they could be named.
    pub(super) fn load(&mut self) -> Result<Load, Error> {
        let mut batch = None;
        let mut load: Option<Load> = None;
        self.skip_spaces();
        if !self.rest().is_empty() {
            self.expect("@")?;
            loop {
                let at = self.skip_spaces();
                let condition = self.word("batch, concurrency, constant or poisson")?;
                let given = if condition == "batch" { batch.is_some() } else { load.is_some() };
                if given {
                    return Err((at, "batch, or the load, is given twice".into()));
                }
                self.expect("=")?;
                match condition {
                    "batch" => batch = Some(self.count()?),
                    "concurrency" => load = Some(Load::Concurrent { concurrency: self.count()?, batch: 1 }),
                    "constant" => load = Some(self.open(Arrivals::Constant)?),
                    "poisson" => load = Some(self.open(Arrivals::Poisson)?),
                    other => {
                        let reason = format!(
                            "`{other}` is not a load; loads are batch=N, concurrency=N, constant=RATE and poisson=RATE"
                        );
                        return Err((at, reason));
                    }
                }
                self.skip_spaces();
                if self.rest().is_empty() {
                    break;
                }
                self.expect(",")?;
            }
        }
        let batch = batch.unwrap_or(1);
        Ok(load.map_or(Load::Serial { batch }, |load| load.with_batch(batch)))
    }

    /// The rate of an open loop, in requests per second.
    fn open(&mut self, arrivals: Arrivals) -> Result<Load, Error> {
        let at = self.skip_spaces();
        let rate = Rate::per_second(self.number()?).map_err(|reason| (at, reason))?;
        Ok(Load::Open { arrivals, rate, batch: 1 })
    }

    fn count(&mut self) -> Result<usize, Error> {
        let at = self.skip_spaces();
        let digits = self.rest().len() - self.rest().trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count = self.rest()[..digits].parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
        self.at += digits;
        count.ok_or_else(|| (at, format!("expected a number from 1 to {MAX_COUNT}")))
    }

    pub(super) fn number(&mut self) -> Result<f64, Error> {
        let at = self.skip_spaces();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        self.at += end;
        rest[..end].parse().map_err(|_| (at, format!("`{}` is not a number", &rest[..end])))
    }

    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, Error> {
        let at = self.skip_spaces();
        let rest = self.rest();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '/')).unwrap_or(rest.len());
        if end == 0 {
            return Err((at, format!("expected {what}, found {}", self.found())));
        }
        self.at += end;
        Ok(&rest[..end])
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<(), Error> {
        let at = self.skip_spaces();
        if !self.rest().starts_with(sign) {
            return Err((at, format!("expected {sign}, found {}", self.found())));
        }
        self.at += sign.len();
        Ok(())
    }

    pub(super) fn skip_spaces(&mut self) -> usize {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.at
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    pub(super) fn found(&self) -> String {
        self.rest().chars().next().map_or("the end".into(), |c| format!("`{c}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_point_at_the_mistake() {
        let errors: Vec<_> = [
            "p50(onnx) < p50(onnx-grpc)",
            "p50(onnx-http) < p95(onnx-grpc)",
            "latency(jpeg) < p50(onnx-grpc)",
            "p50(onnx-http) = p50(onnx-grpc)",
            "p50(onnx-http) <= p50(onnx-grpc)",
            "p50(onnx-http) < p50(onnx-grpc) @ batch=0",
            "p50(onnx-http) < p50(onnx-grpc) at batch=1",
            "p50(onnx-http) < p50(onnx-http)",
            "p50(onnx-http) <",
            "p50(onnx-http) < p50(onnx-grpc) @ concurrency=8, poisson=5",
            "p50(onnx-http) < p50(onnx-grpc) @ constant=0",
            "p50(onnx-http) < p50(onnx-grpc) @ replay=5",
        ]
        .map(|text| text.parse::<Hypothesis>().unwrap_err().to_string())
        .map(|error| error.rsplit_once('\n').unwrap().0.to_owned())
        .to_vec();
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn claims_are_parsed() {
        let text = |text: &str| text.parse::<Hypothesis>().unwrap().to_string();
        assert_eq!(text("p50(onnx-http)<p50(onnx-grpc)"), "p50(onnx-http) < p50(onnx-grpc) @ batch=1");
        assert_eq!(
            text("2*p99(jpeg) > p99( trt-grpc )@concurrency=16"),
            "p99(jpeg) > 0.5 * p99(trt-grpc) @ concurrency=16"
        );
        assert_eq!(
            text("infer(onnx-http) ~2.5% infer(trt-http) @batch=8"),
            "infer(onnx-http) ~ 2.5% infer(trt-http) @ batch=8"
        );
        assert_eq!(
            text("p99(jpeg) < p99(onnx-http) @ batch=4, poisson=12.5"),
            "p99(jpeg) < p99(onnx-http) @ poisson=12.5, batch=4"
        );
        assert_eq!(text("mean(jpeg) ≈ 3 * mean(trt-http)"), "mean(jpeg) ~ 5% 3 * mean(trt-http) @ batch=1");
    }

    fn hypotheses() -> impl Strategy<Value = Hypothesis> {
        let metrics: Vec<_> = Metric::all().collect();
        let relation = prop_oneof![
            Just(Relation::Less),
            Just(Relation::Greater),
            (1_u32..1_000).prop_map(|percent| Relation::Within(f64::from(percent) / 100.0))
        ];
        let load = prop_oneof![
            (1..500_usize).prop_map(|batch| Load::Serial { batch }),
            (1..500_usize, 1..9_usize).prop_map(|(concurrency, batch)| Load::Concurrent { concurrency, batch }),
            (1..500_000_u32, 1..9_usize, proptest::bool::ANY).prop_map(|(rate, batch, constant)| Load::Open {
                arrivals: if constant { Arrivals::Constant } else { Arrivals::Poisson },
                rate: Rate::per_second(f64::from(rate) / 1e3).unwrap(),
                batch,
            })
        ];
        (proptest::sample::select(metrics), relation, 0..5_usize, 1..5_usize, 1..40_u32, load).prop_map(
            |(metric, relation, left, other, factor, load)| Hypothesis {
                metric,
                left: Lane::ALL[left],
                relation,
                factor: f64::from(factor) / 4.0,
                right: Lane::ALL[(left + other) % 5],
                load,
            },
        )
    }

    proptest! {
        #[test]
        fn a_written_claim_parses_to_the_same(hypothesis in hypotheses()) {
            let read: Hypothesis = hypothesis.to_string().parse().unwrap();
            prop_assert_eq!(read.to_string(), hypothesis.to_string());
            prop_assert_eq!((read.left, read.right, read.load, read.factor), (hypothesis.left, hypothesis.right, hypothesis.load, hypothesis.factor));
        }

        #[test]
        fn any_text_parses_without_panic(text: String, cut in 0..60_usize, claim in hypotheses()) {
            let _ = text.parse::<Hypothesis>();
            let claim: String = claim.to_string().chars().take(cut).chain(text.chars()).collect();
            if let Err(error) = claim.parse::<Hypothesis>() {
                let _ = error.to_string();
            }
        }
    }
}
