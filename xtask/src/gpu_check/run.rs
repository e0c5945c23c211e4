//! What a `report.json` of `quintet-bench run` says of providers, outputs and compute times.

use serde_json::Value;

/// The peer whose lanes run on the CPU.
pub(super) const CPU: &str = "cpu";

/// A run of the benchmark.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// What it printed.
    pub(super) printed: String,
    /// Whether it succeeded.
    pub(super) success: bool,
    /// Its report; null if it wrote none.
    pub(super) report: Value,
}

/// A lane, where it ran, and how far its outputs are from those of the same lane on the CPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) provider: String,
    /// `None` if it is the model's own.
    pub(super) precision: Option<String>,
    /// Why another provider was not used.
    pub(super) reason: Option<String>,
    /// Relative to the largest element; `None` if the outputs cannot be compared.
    pub(super) difference: Option<f64>,
    pub(super) tolerance: Option<f64>,
    pub(super) agrees: bool,
}

/// The model's own time for one image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compute {
    pub(super) lane: String,
    pub(super) provider: String,
    pub(super) precision: Option<String>,
    pub(super) ms: f64,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Run {
    /// The lanes that were compared with those of the peer [`CPU`].
    pub(super) fn lanes(&self) -> Vec<Lane> {
        let own = list(&self.report["lanes"]).iter().filter(|lane| lane["lane"].as_str().is_some_and(is_own));
        own.map(|lane| self.lane(lane)).collect()
    }

    fn lane(&self, lane: &Value) -> Lane {
        let name = text(&lane["lane"]).unwrap_or_default();
        let on_cpu = format!("{CPU}/{name}");
        let is_pair = |pair: &&Value| {
            let (a, b) = (pair["a"].as_str().unwrap_or_default(), pair["b"].as_str().unwrap_or_default());
            (a, b) == (&name, &on_cpu) || (b, a) == (&name, &on_cpu)
        };
        let pair = list(&self.report["outputs"]["pairs"]).iter().find(is_pair).unwrap_or(&Value::Null);
        let scale = pair["scale"].as_f64().filter(|scale| *scale > 0.0);
        Lane {
            provider: text(&lane["effective_provider"]).unwrap_or_else(|| "unknown".into()),
            precision: text(&lane["precision"]),
            reason: text(&lane["provider_reason"]),
            difference: pair["max_abs_difference"].as_f64().map(|difference| difference / scale.unwrap_or(1.0)),
            tolerance: pair["tolerance"].as_f64(),
            agrees: pair["agree"].as_bool().unwrap_or(false),
            name,
        }
    }

    /// The time of the model for one image in each lane whose server states it.
    pub(super) fn compute(&self) -> Vec<Compute> {
        let cells = list(&self.report["cells"]).iter();
        let single = cells.filter(|cell| cell["load"]["kind"] == "serial" && cell["load"]["batch"] == 1);
        let times = single.filter_map(|cell| {
            let of_lane = |lane: &&Value| lane["lane"] == cell["lane"];
            let lane = list(&self.report["lanes"]).iter().find(of_lane)?;
            Some(Compute {
                lane: text(&cell["lane"])?,
                provider: text(&lane["effective_provider"])?,
                precision: text(&lane["precision"]),
                ms: cell["server"]["compute_infer_ms"].as_f64()?,
            })
        });
        times.collect()
    }
}

fn is_own(lane: &str) -> bool {
    !lane.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a report that `gpu-check --without-gpu` had from `quintet-bench run`.
    fn run() -> Run {
        let report = serde_json::from_str(include_str!("report.json")).unwrap();
        Run { report, success: true, printed: String::new() }
    }

    #[test]
    fn lanes_are_compared_with_the_same_lane_on_the_cpu() {
        insta::assert_debug_snapshot!(run().lanes());
    }

    #[test]
    fn the_time_of_the_model_is_that_of_serial_requests_of_one_image() {
        insta::assert_debug_snapshot!(run().compute());
    }

    #[test]
    fn a_run_without_a_report_has_no_lanes() {
        assert!(Run::default().lanes().is_empty() && Run::default().compute().is_empty());
    }
}
