//! Conditions that fail a command (`--fail-on`): `error`, `warning`, `refuted`, or `p99(onnx-grpc) > 20ms @ batch=1`.

use std::{fmt, str::FromStr};

use crate::model::{
    hypothesis_text::{At, Error, HypothesisError, Reader, parse},
    lane::Lane,
    load::Load,
    metric::Metric,
    warning::Severity,
};

/// The form of a condition, for error messages.
const FORM: &str = "error, warning, refuted, or METRIC(LANE) > BOUND @ batch=N, with > or <, a bound such as 20ms or \
                    100 (img/s) and batch, concurrency, constant or poisson";

/// A reason to fail a command whose measurements succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// There is a warning of this severity or a worse one.
    Warned(Severity),
    /// A claim of the user is refuted.
    Refuted,
    /// A figure is beyond a bound.
    Beyond(Bound),
}

/// A figure and its bound: `metric(lane) > value @ load`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The metric.
    pub metric: Metric,
    /// The lane.
    pub lane: Lane,
    /// Whether figures above the bound fail; otherwise those below it.
    pub above: bool,
    /// The bound, in the unit of the metric: ms, or images per second.
    pub value: f64,
    /// The load.
    pub load: Load,
}

impl FromStr for Condition {
    type Err = HypothesisError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        parse(input, FORM, |reader| reader.condition())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warned(severity) => write!(f, "{severity}"),
            Self::Refuted => f.write_str("refuted"),
            Self::Beyond(Bound { metric, lane, above, value, load }) => {
                let sign = if *above { '>' } else { '<' };
                let unit = if *metric == Metric::Throughput { "" } else { metric.unit() };
                write!(f, "{metric}({lane}) {sign} {value}{unit} @ {}", At(*load))
            }
        }
    }
}

impl Reader<'_> {
    fn condition(&mut self) -> Result<Condition, Error> {
        let at = self.skip_spaces();
        let word = self.word("error, warning, refuted or a metric, such as p99")?;
        let end = self.skip_spaces();
        if self.rest().starts_with('(') {
            self.at = at;
            return self.bound().map(Condition::Beyond);
        }
        let condition = match word {
            "error" => Condition::Warned(Severity::Error),
            "warning" => Condition::Warned(Severity::Warning),
            "refuted" => Condition::Refuted,
            _ => match word.parse::<Metric>() {
                Ok(_) => return Err((end, format!("expected (, found {}", self.found()))),
                Err(_) => return Err((at, format!("`{word}` is not a condition"))),
            },
        };
        if !self.rest().is_empty() {
            return Err((end, format!("expected the end, found {}", self.found())));
        }
        Ok(condition)
    }

    /// `metric(lane) > bound [@ batch=N, concurrency=N]`.
    fn bound(&mut self) -> Result<Bound, Error> {
        let (metric, lane) = self.figure()?;
        let at = self.skip_spaces();
        let above = match self.rest().chars().next() {
            Some('>') => self.advance('>', true)?,
            Some('<') => self.advance('<', false)?,
            _ => return Err((at, format!("expected > or <, found {}", self.found()))),
        };
        let at = self.skip_spaces();
        if !self.rest().starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let hint = "to compare two lanes, use --hypothesis and --fail-on refuted";
            return Err((at, format!("expected a number, found {}; {hint}", self.found())));
        }
        let value = self.number()? * self.unit(metric)?;
        let load = self.load()?;
        Ok(Bound { metric, lane, above, value, load })
    }

    /// The unit of a bound, as a factor to the unit of the metric. Times have one; images per second may.
    fn unit(&mut self, metric: Metric) -> Result<f64, Error> {
        let at = self.skip_spaces();
        if metric == Metric::Throughput {
            if self.rest().starts_with(|c: char| c.is_ascii_alphabetic()) && self.word("img/s")? != "img/s" {
                return Err((at, "throughput is in images per second: write img/s or no unit".into()));
            }
            return Ok(1.0);
        }
        match self.word("a unit: us, ms or s")? {
            "us" => Ok(1e-3),
            "ms" => Ok(1.0),
            "s" => Ok(1e3),
            other => Err((at, format!("`{other}` is not a unit of time; units are us, ms and s"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_parsed() {
        let text = |text: &str| text.parse::<Condition>().unwrap().to_string();
        assert_eq!(["error", " warning", "refuted "].map(text), ["error", "warning", "refuted"]);
        assert_eq!(text("p99(onnx-grpc)>20ms"), "p99(onnx-grpc) > 20ms @ batch=1");
        assert_eq!(text("mean( jpeg ) > 1.5 s @ batch=8"), "mean(jpeg) > 1500ms @ batch=8");
        assert_eq!(text("infer(onnx-http) > 250us"), "infer(onnx-http) > 0.25ms @ batch=1");
        assert_eq!(
            text("throughput(triton/onnx-http) < 100 img/s @ concurrency=8"),
            "throughput(triton/onnx-http) < 100 @ concurrency=8"
        );
        assert_eq!(text("throughput(jpeg) < 9"), "throughput(jpeg) < 9 @ batch=1");
    }

    #[test]
    fn errors_point_at_the_mistake() {
        let errors = [
            "errors",
            "p99",
            "p99(onnx) > 20ms",
            "p98(jpeg) > 20ms",
            "p99(jpeg) ~ 20ms",
            "p99(jpeg) >= 20ms",
            "p99(jpeg) > 20",
            "p99(jpeg) > 20 min",
            "p99(jpeg) > p99(onnx-http)",
            "throughput(jpeg) < 20ms",
            "p99(jpeg) > 20ms @ batch=0",
            "error, warning",
            "",
        ]
        .map(|text| text.parse::<Condition>().unwrap_err().to_string())
        .map(|error| error.rsplit_once('\n').unwrap().0.to_owned())
        .to_vec();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
