//! Tests of the metrics with Triton's names, as scraped.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use quintet_models::passthrough::write_scaled;

use crate::server::Suite;

/// The response to a POST.
fn post(port: u16, path: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        connection,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// The lines of Triton's metrics: help texts, types, and series without their values.
fn series(metrics: &str) -> Vec<&str> {
    let name = |line: &str| line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line).to_owned();
    let lines = metrics.lines().filter(|line| name(line).starts_with("nv_") && !name(line).starts_with("nv_gpu_"));
    let lines = lines.filter(|line| !name(line).starts_with("nv_energy_"));
    lines.map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').unwrap().0 }).collect()
}

/// A metric of Triton's: name, type, help text, and for each series the labels besides the common ones.
type Announced = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// As in `docs/triton.md` and Triton's documentation. Metrics of GPUs are tested in `observe::device_metrics`.
const OF_MODELS: &[Announced] = &[
    ("nv_inference_request_success", "counter", "Number of successful inference requests, all batch sizes", &[""]),
    (
        "nv_inference_request_failure",
        "counter",
        "Number of failed inference requests, all batch sizes",
        &["reason=\"REJECTED\"", "reason=\"CANCELED\"", "reason=\"BACKEND\"", "reason=\"OTHER\""],
    ),
    ("nv_inference_count", "counter", "Number of inferences performed (does not include cached requests)", &[""]),
    (
        "nv_inference_exec_count",
        "counter",
        "Number of model executions performed (does not include cached requests)",
        &[""],
    ),
    (
        "nv_inference_request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        &[""],
    ),
    (
        "nv_inference_queue_duration_us",
        "counter",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        &[""],
    ),
    (
        "nv_inference_compute_input_duration_us",
        "counter",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        &[""],
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        &[""],
    ),
    (
        "nv_inference_compute_output_duration_us",
        "counter",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        &[""],
    ),
    (
        "nv_inference_pending_request_count",
        "gauge",
        "Instantaneous number of pending requests awaiting execution per-model.",
        &[""],
    ),
    ("nv_model_load_duration_secs", "gauge", "Model load time in seconds", &[""]),
    ("nv_cache_num_hits_per_model", "counter", "Number of cache hits per model", &[""]),
    ("nv_cache_num_misses_per_model", "counter", "Number of cache misses per model", &[""]),
    ("nv_cache_hit_duration_per_model", "counter", "Total cache hit duration per model, in microseconds", &[""]),
    ("nv_cache_miss_duration_per_model", "counter", "Total cache miss duration per model, in microseconds", &[""]),
    (
        "nv_inference_request_summary_us",
        "summary",
        "Summary of inference request duration in microseconds (includes cached requests)",
        QUANTILES,
    ),
    (
        "nv_inference_queue_summary_us",
        "summary",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        QUANTILES,
    ),
    (
        "nv_inference_compute_input_summary_us",
        "summary",
        "Summary of inference compute input duration in microseconds (does not include cached requests)",
        QUANTILES,
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "summary",
        "Summary of inference compute infer duration in microseconds (does not include cached requests)",
        QUANTILES,
    ),
    (
        "nv_inference_compute_output_summary_us",
        "summary",
        "Summary of inference compute output duration in microseconds (does not include cached requests)",
        QUANTILES,
    ),
    (
        "nv_inference_first_response_histogram_ms",
        "histogram",
        "Duration from request to first response in milliseconds",
        &["le=\"100\"", "le=\"500\"", "le=\"2000\"", "le=\"5000\"", "le=\"+Inf\""],
    ),
    (
        "nv_inference_request_duration_histogram_us",
        "histogram",
        "Histogram of inference request duration in microseconds (includes cached requests)",
        PHASE_BOUNDS,
    ),
    (
        "nv_inference_queue_duration_histogram_us",
        "histogram",
        "Histogram of inference queuing duration in microseconds (includes cached requests)",
        PHASE_BOUNDS,
    ),
    (
        "nv_inference_compute_input_duration_histogram_us",
        "histogram",
        "Histogram of compute input duration in microseconds (does not include cached requests)",
        PHASE_BOUNDS,
    ),
    (
        "nv_inference_compute_infer_duration_histogram_us",
        "histogram",
        "Histogram of compute inference duration in microseconds (does not include cached requests)",
        PHASE_BOUNDS,
    ),
    (
        "nv_inference_compute_output_duration_histogram_us",
        "histogram",
        "Histogram of compute output duration in microseconds (does not include cached requests)",
        PHASE_BOUNDS,
    ),
];
const OF_THE_MACHINE: &[Announced] = &[
    ("nv_cpu_utilization", "gauge", "CPU utilization rate [0.0 - 1.0]", &[""]),
    ("nv_cpu_memory_total_bytes", "gauge", "CPU total memory (RAM), in bytes", &[""]),
    ("nv_cpu_memory_used_bytes", "gauge", "CPU used memory (RAM), in bytes", &[""]),
];
const PHASE_BOUNDS: &[&str] = &[
    "le=\"100\"",
    "le=\"250\"",
    "le=\"500\"",
    "le=\"1000\"",
    "le=\"2500\"",
    "le=\"5000\"",
    "le=\"10000\"",
    "le=\"25000\"",
    "le=\"50000\"",
    "le=\"100000\"",
    "le=\"250000\"",
    "le=\"500000\"",
    "le=\"1000000\"",
    "le=\"+Inf\"",
];
const QUANTILES: &[&str] = &["quantile=\"0.5\"", "quantile=\"0.99\""];

/// The lines of these metrics, with the labels that all series have.
fn lines(announced: &[Announced], labels: &[&str]) -> Vec<String> {
    let with = |name: String, own: &[&str]| {
        let labels: Vec<_> = labels.iter().chain(own).filter(|label| !label.is_empty()).copied().collect();
        if labels.is_empty() { name } else { format!("{name}{{{}}}", labels.join(",")) }
    };
    let lines_of = |&(name, kind, help, series): &Announced| {
        let mut lines = vec![format!("# HELP {name} {help}"), format!("# TYPE {name} {kind}")];
        let suffix = if kind == "histogram" { "_bucket" } else { "" };
        lines.extend(series.iter().map(|series| with(format!("{name}{suffix}"), &[series])));
        if ["summary", "histogram"].contains(&kind) {
            lines.extend(["_sum", "_count"].map(|suffix| with(format!("{name}{suffix}"), &[])));
        }
        lines
    };
    announced.iter().flat_map(lines_of).collect()
}

#[test]
fn reports_every_name_label_and_help_text_until_the_model_is_unloaded() {
    let root = tempfile::tempdir().unwrap();
    write_scaled(root.path()).unwrap();
    let config = root.path().join("scaled/config.pbtxt");
    let additions = "response_cache { enable: true }\nmetric_tags { key: \"team\" value: \"red\" }\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + additions).unwrap();
    let flags = [
        "--model-control-mode=explicit",
        "--load-model=scaled",
        "--cache-config=local,size=1048576",
        "--metrics-config=summary_latencies=true",
        "--metrics-config=summary_quantiles=0.5:0.05,0.99:0.001",
        "--metrics-config=histogram_latencies=true",
    ];
    let server = Suite::triton(root.path(), &flags);
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[1]}]}"#;
    let answer = post(server.port("http"), "/v2/models/scaled/infer", body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let metrics = server.get("metrics", "/metrics");
    let labels = ["model=\"scaled\"", "version=\"1\"", "_team=\"red\""];
    let mut announced = [lines(OF_MODELS, &labels), lines(OF_THE_MACHINE, &[])].concat();
    let mut found = series(&metrics);
    announced.sort();
    found.sort_unstable();
    assert_eq!(found, announced, "{metrics}");
    let success = "nv_inference_request_success{model=\"scaled\",version=\"1\",_team=\"red\"} 1";
    assert!(metrics.lines().any(|line| line == success), "{metrics}");

    let unloaded = post(server.port("http"), "/v2/repository/models/scaled/unload", "{}");
    assert!(unloaded.starts_with("HTTP/1.1 200"), "{unloaded}");
    let metrics = server.get("metrics", "/metrics");
    assert!(!metrics.contains("scaled"), "{metrics}");
    let mut of_the_machine = lines(OF_THE_MACHINE, &[]);
    of_the_machine.sort();
    let mut found = series(&metrics);
    found.sort_unstable();
    assert_eq!(found, of_the_machine, "{metrics}");
}

/// The answer to a scrape with this `Accept`.
fn scrape(server: &Suite, accept: &str) -> (String, String) {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port("metrics"))).unwrap();
    write!(connection, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: {accept}\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn open_metrics_has_the_same_series_for_clients_that_prefer_it() {
    let root = tempfile::tempdir().unwrap();
    write_scaled(root.path()).unwrap();
    let flags = ["--metrics-config=summary_latencies=true", "--metrics-config=histogram_latencies=true"];
    let server = Suite::triton(root.path(), &flags);
    let (head, open) = scrape(&server, "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4,*/*;q=0.2");
    assert!(head.contains("\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{head}");
    let (head, text) = scrape(&server, "*/*");
    assert!(head.contains("\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(open.ends_with("\n# EOF\n") && open.matches("# EOF").count() == 1, "{open}");
    let samples = |page: &str| {
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.replace(".0\"}", "\"}")).collect::<Vec<_>>()
    };
    assert_eq!(samples(&open), samples(&text));
    for line in ["# TYPE nv_inference_count unknown", "# TYPE quintet_connections_closed counter"] {
        assert!(open.lines().any(|found| found == line), "{line} is not in {open}");
    }
    assert!(open.contains("_duration_histogram_us_bucket{model=\"scaled\",version=\"1\",le=\"100.0\"} 0\n"), "{open}");
}
