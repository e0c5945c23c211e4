//! Parses a server's counters, from Triton's statistics or Prometheus metrics.

use quintet_proto::inference::{InferStatistics, ModelStatistics, StatisticDuration};
use serde_json::Value;

use super::page::{Sample, samples};
use crate::model::counters::Counters;

impl Counters {
    /// Parses one model's counters from a page in Prometheus text format.
    /// `None` when the page has no counter of the model.
    pub fn parse(page: &str, model: &str) -> Option<Self> {
        let mut counters = Self::default();
        let mut found = false;
        for Sample { name, labels, value } in samples(page) {
            let Some(counter) = counters.by_name(name) else { continue };
            if labels.get("model").is_some_and(|label| label == model) {
                *counter += value.round() as u64;
                found = true;
            }
        }
        found.then_some(counters)
    }

    /// The counters in a response of the statistics extension, summed over the versions of the model.
    /// `None` without versions.
    pub fn of_statistics(versions: &[ModelStatistics]) -> Option<Self> {
        let counters = |version: &ModelStatistics| {
            let stats = version.inference_stats.unwrap_or_default();
            let us = |duration: &Option<StatisticDuration>| duration.as_ref().map_or(0, |duration| duration.ns / 1_000);
            let count = |duration: &Option<StatisticDuration>| duration.as_ref().map_or(0, |duration| duration.count);
            Self {
                requests: count(&stats.success),
                failures: count(&stats.fail),
                images: version.inference_count,
                executions: version.execution_count,
                request_us: us(&stats.success),
                queue_us: us(&stats.queue),
                compute_input_us: us(&stats.compute_input),
                compute_infer_us: us(&stats.compute_infer),
                compute_output_us: us(&stats.compute_output),
            }
        };
        versions.iter().map(counters).reduce(|sum, version| sum.plus(&version))
    }

    /// As [`Counters::of_statistics`], from JSON.
    pub fn parse_statistics(json: &[u8]) -> Option<Self> {
        let response: Value = serde_json::from_slice(json).ok()?;
        let number = |object: &Value, key: &str| match object.get(key) {
            // Protobuf's JSON form writes 64-bit numbers as strings, Triton's as numbers.
            Some(Value::String(text)) => text.parse().unwrap_or(0),
            value => value.and_then(Value::as_u64).unwrap_or(0),
        };
        let statistics = |version: &Value| {
            let stats = version.get("inference_stats")?;
            let duration = |key| {
                let value = stats.get(key)?;
                Some(StatisticDuration { count: number(value, "count"), ns: number(value, "ns") })
            };
            Some(ModelStatistics {
                inference_count: number(version, "inference_count"),
                execution_count: number(version, "execution_count"),
                inference_stats: Some(InferStatistics {
                    success: duration("success"),
                    fail: duration("fail"),
                    queue: duration("queue"),
                    compute_input: duration("compute_input"),
                    compute_infer: duration("compute_infer"),
                    compute_output: duration("compute_output"),
                    ..InferStatistics::default()
                }),
                ..ModelStatistics::default()
            })
        };
        let versions: Option<Vec<ModelStatistics>> =
            response.get("model_stats")?.as_array()?.iter().map(statistics).collect();
        Self::of_statistics(&versions?)
    }

    fn by_name(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "nv_inference_request_success" => &mut self.requests,
            "nv_inference_request_failure" => &mut self.failures,
            "nv_inference_count" => &mut self.images,
            "nv_inference_exec_count" => &mut self.executions,
            "nv_inference_request_duration_us" => &mut self.request_us,
            "nv_inference_queue_duration_us" => &mut self.queue_us,
            "nv_inference_compute_input_duration_us" => &mut self.compute_input_us,
            "nv_inference_compute_infer_duration_us" => &mut self.compute_infer_us,
            "nv_inference_compute_output_duration_us" => &mut self.compute_output_us,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = r#"# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="resnet50",version="1"} 35
nv_inference_request_success{model="resnet50",version="2"} 5
nv_inference_request_success{model="other",version="1"} 1000
nv_inference_request_failure{model="resnet50",reason="REJECTED",version="1"} 2
nv_inference_count{model="resnet50",version="1"} 140
nv_inference_exec_count{model="resnet50",version="1"} 35.0
nv_inference_queue_duration_us{model="resnet50",version="1"} 4200 1700000000000
nv_inference_compute_infer_duration_us{gpu_uuid="GPU-1",model="resnet50",version="1"} 1.0e6
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
process_start 12
"#;

    #[test]
    fn reads_one_model_and_sums_its_versions() {
        let counters = Counters::parse(PAGE, "resnet50").unwrap();
        assert_eq!(
            counters,
            Counters {
                requests: 40,
                failures: 2,
                images: 140,
                executions: 35,
                queue_us: 4200,
                compute_infer_us: 1_000_000,
                ..Counters::default()
            }
        );
        assert_eq!(Counters::parse(PAGE, "resnet18"), None);
    }

    /// The first version is in Triton's form, the second in protobuf's JSON form.
    #[test]
    fn reads_statistics() {
        let json = r#"{"model_stats":[
            {"name":"m","version":"1","last_inference":1,"inference_count":8,"execution_count":3,
             "inference_stats":{"success":{"count":4,"ns":9000000},"fail":{"count":1,"ns":5},"queue":{"count":4,"ns":20999},
               "compute_input":{"count":4,"ns":1000},"compute_infer":{"count":4,"ns":8000000},"compute_output":{"count":4,"ns":2000},
               "cache_hit":{"count":0,"ns":0}},"batch_stats":[]},
            {"name":"m","version":"2","inference_count":"1","execution_count":"1",
             "inference_stats":{"success":{"count":"1","ns":"1000"}}}]}"#;
        let counters = Counters {
            requests: 5,
            failures: 1,
            images: 9,
            executions: 4,
            request_us: 9_001,
            queue_us: 20,
            compute_input_us: 1,
            compute_infer_us: 8_000,
            compute_output_us: 2,
        };
        assert_eq!(Counters::parse_statistics(json.as_bytes()), Some(counters));
        for nothing in ["", "{}", r#"{"model_stats":[]}"#, r#"{"model_stats":[{"name":"m"}]}"#, r#"{"error":"no"}"#] {
            assert_eq!(Counters::parse_statistics(nothing.as_bytes()), None, "{nothing}");
        }
    }

    #[test]
    fn a_restart_is_detected() {
        let before = Counters { requests: 10, ..Counters::default() };
        let after = Counters { requests: 13, queue_us: 7, ..Counters::default() };
        assert_eq!(after.since(&before), Some(Counters { requests: 3, queue_us: 7, ..Counters::default() }));
        assert_eq!(before.since(&after), None);
    }

    proptest! {
        #[test]
        fn no_page_causes_a_panic(page: String) {
            let _ = Counters::parse(&page, "m");
            let _ = Counters::parse_statistics(page.as_bytes());
        }

        #[test]
        fn a_window_counts_the_difference(a in 0..1_u64 << 50, b in 0..1_u64 << 50) {
            let page = |n: u64| format!("nv_inference_count{{model=\"m\"}} {n}\n");
            let (before, after) = (Counters::parse(&page(a), "m").unwrap(), Counters::parse(&page(a + b), "m").unwrap());
            prop_assert_eq!(after.since(&before).unwrap().images, b);
        }
    }
}
