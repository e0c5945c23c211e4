//! Judges the conditions of `--fail-on` by warnings and figures. Pure functions.
//!
//! A figure is beyond its bound if its whole interval is. If the interval contains the bound, nothing is shown and the
//! condition does not hold; a figure that is not known cannot pass.

use crate::model::{
    cell::Cell,
    condition::{Bound, Condition},
    estimate::{Estimate, Percentile, Statistic},
    hypothesis::Verdict,
    metric::Metric,
    report::Report,
    warning::Warning,
    words::list,
};

/// What the measurements say about a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds, or cannot be judged: the command fails. With the reason.
    Fails(String),
    /// The interval of the figure contains the bound: the command does not fail. With the figure.
    Open(String),
    /// It does not hold.
    Passes,
}

impl Condition {
    /// Judges the condition by the warnings about a result, and by its figures if it is a report.
    pub fn judge(&self, warnings: &[Warning], report: Option<&Report>) -> Outcome {
        match (self, report) {
            (Self::Warned(severity), _) => {
                let found = warnings.iter().filter(|warning| warning.severity >= *severity);
                fails_with(found.map(|warning| format!("{} ({})", warning.code, warning.severity)).collect())
            }
            (_, None) => Outcome::Fails("only a report.json has what this condition needs".into()),
            (Self::Refuted, Some(report)) => {
                let claims = || report.hypotheses.iter().filter(|finding| finding.name == "user");
                if claims().next().is_none() {
                    return Outcome::Fails("the run has no claim (--hypothesis)".into());
                }
                let refuted = claims().filter(|finding| finding.verdict == Verdict::Refuted);
                fails_with(refuted.map(|finding| finding.statement.clone()).collect())
            }
            (Self::Beyond(bound), Some(report)) => bound.judge(report),
        }
    }
}

fn fails_with(found: Vec<String>) -> Outcome {
    if found.is_empty() { Outcome::Passes } else { Outcome::Fails(list(found)) }
}

impl Bound {
    fn judge(&self, report: &Report) -> Outcome {
        let Self { metric, lane, above, value, load } = *self;
        let Some(cell) = report.cell(lane, load) else {
            return Outcome::Fails(format!("{lane} was not measured at {load}"));
        };
        let figure = match figure(cell, metric) {
            Ok(figure) => figure,
            Err(reason) => return Outcome::Fails(reason),
        };
        let text = format!("{:.3} {} ({:.3} to {:.3})", figure.value, metric.unit(), figure.low, figure.high);
        let (beyond, within) =
            if above { (figure.low > value, figure.high <= value) } else { (figure.high < value, figure.low >= value) };
        match (beyond, within) {
            (true, _) => Outcome::Fails(text),
            (_, true) => Outcome::Passes,
            _ => Outcome::Open(text),
        }
    }
}

/// A cell's figure with its interval, or why it is not known.
fn figure(cell: &Cell, metric: Metric) -> Result<Estimate, String> {
    let unknown = || format!("{metric} of {} is not known at {}", cell.lane, cell.load);
    let latency = || cell.latency_ms.as_ref().ok_or_else(unknown);
    let tail = |percentile: &Percentile| {
        let (fewest, there) = (metric.statistic().fewest_for_verdict(), cell.completed as usize);
        match percentile {
            Percentile::Known(figure) if there >= fewest => Ok(*figure),
            _ => Err(format!("a verdict on {metric} needs {fewest} requests, there are {there}")),
        }
    };
    match metric {
        Metric::Latency(Statistic::Mean) => Ok(latency()?.mean),
        Metric::Latency(Statistic::Median) => Ok(latency()?.p50),
        Metric::Latency(Statistic::P95) => tail(&latency()?.p95),
        Metric::Latency(Statistic::P99) => tail(&latency()?.p99),
        Metric::Throughput => cell.images_per_s.ok_or_else(unknown),
        Metric::Part(part) => {
            let parts = cell.waterfall.as_ref().map_or(&[][..], |waterfall| &waterfall.parts);
            parts.iter().find(|time| time.part == part).and_then(|time| time.ms).ok_or_else(unknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::warning::Severity};

    fn judged(condition: &str) -> Outcome {
        let report = fixture::report();
        condition.parse::<Condition>().unwrap().judge(&report.warnings, Some(&report))
    }

    /// The fixture's lanes have p50 of about 10 ms on ONNX and 5 ms on TensorRT.
    #[test]
    fn a_figure_fails_only_if_its_interval_is_beyond_the_bound() {
        assert!(matches!(judged("p50(onnx-http) > 5ms"), Outcome::Fails(text) if text.contains(" ms (")));
        assert_eq!(judged("p50(onnx-http) > 50ms"), Outcome::Passes);
        assert_eq!(judged("p50(onnx-http) < 5ms"), Outcome::Passes);
        let report = fixture::report();
        let cell = report.cells.iter().find(|cell| cell.lane.to_string() == "onnx-http").unwrap();
        let p50 = cell.latency_ms.as_ref().unwrap().p50.value;
        assert!(matches!(judged(&format!("p50(onnx-http) > {p50}ms")), Outcome::Open(_)));
        assert!(matches!(judged("throughput(trt-http) < 1000 @ concurrency=8"), Outcome::Fails(_)));
        assert!(matches!(judged("infer(onnx-http) > 1ms"), Outcome::Fails(_)));
    }

    #[test]
    fn what_is_not_known_does_not_pass() {
        let fails = |condition: &str, reason: &str| assert_eq!(judged(condition), Outcome::Fails(reason.into()));
        fails("p50(jpeg) > 1s @ batch=4", "jpeg was not measured at serial b=4");
        fails("p99(jpeg) > 1s", "a verdict on p99 needs 662 requests, there are 30");
        fails("infer(jpeg) > 1s", "infer of jpeg is not known at serial b=1");
        let imported = "refuted".parse::<Condition>().unwrap().judge(&[], None);
        assert!(matches!(imported, Outcome::Fails(_)));
    }

    #[test]
    fn warnings_of_the_severity_or_a_worse_one_fail() {
        let with = |severity| {
            let warning = Warning {
                code: "unstable".into(),
                severity,
                lanes: Vec::new(),
                message: String::new(),
                remedy: String::new(),
            };
            ["warning", "error"]
                .map(|text| text.parse::<Condition>().unwrap().judge(std::slice::from_ref(&warning), None))
        };
        let fails = |severity: &str| Outcome::Fails(format!("unstable ({severity})"));
        assert_eq!(with(Severity::Note), [Outcome::Passes, Outcome::Passes]);
        assert_eq!(with(Severity::Warning), [fails("warning"), Outcome::Passes]);
        assert_eq!(with(Severity::Error), [fails("error"), fails("error")]);
    }

    /// The study's own hypotheses do not count: nobody claimed them.
    #[test]
    fn only_claims_of_the_user_are_refuted() {
        assert_eq!(judged("refuted"), Outcome::Passes);
        let mut report = fixture::report();
        report.settings.hypotheses = vec!["p50(onnx-http) > p50(onnx-grpc) @ batch=8".parse().unwrap()];
        report.hypotheses = crate::analysis::claims::judge(&report);
        let refuted = Condition::Refuted.judge(&[], Some(&report));
        assert_eq!(refuted, Outcome::Fails("p50(onnx-http) > p50(onnx-grpc) @ batch=8".into()));
        report.hypotheses.clear();
        assert!(matches!(Condition::Refuted.judge(&[], Some(&report)), Outcome::Fails(_)));
    }
}
