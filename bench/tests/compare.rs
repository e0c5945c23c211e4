//! Compares the study's two runs: its cross-GPU tables, and the conclusion that they hide.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic in its helpers too")]

use std::path::PathBuf;

use quintet_bench::{
    analysis::compare::{Layer, Run, dollars_per_million, reversals, seconds_per_image},
    cli::compare::{CompareArgs, compare},
    model::{lane::Lane, load::Load},
    study::import::Results,
};

/// Dollars an hour, from the study's key takeaways.
const A100: (&str, f64) = ("step7_5way_20260220_221313.json", 0.894);
const RTX_4090: (&str, f64) = ("step7_5way_20260220_232454.json", 0.391);

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/seed").join(name)
}

fn run((name, price): (&str, f64)) -> Run {
    Run { summary: Results::read(&file(name)).unwrap().summary(), price_per_hour: Some(price) }
}

fn args(prices: Vec<f64>) -> CompareArgs {
    CompareArgs { files: vec![file(A100.0), file(RTX_4090.0)], price_per_hour: prices, link: Vec::new() }
}

/// The study's tables "Serial p50 latency, batch=1" and "Peak throughput, batch=32 serial".
#[test]
fn the_cross_gpu_tables_of_the_study_are_reproduced() {
    let study = std::fs::read_to_string(file("STEP_7_RTX_4090.md")).unwrap();
    let ours = compare(&args(Vec::new())).unwrap();
    let names = [
        ("PyTorch HTTP", "JPEG HTTP"),
        ("Triton ONNX HTTP", "ONNX HTTP"),
        ("Triton ONNX gRPC", "ONNX gRPC"),
        ("Triton TRT  HTTP", "TRT HTTP"),
        ("Triton TRT  gRPC", "TRT gRPC"),
    ];
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let row = |text: &str, heading: &str, name: &str| {
        let table = text.split(heading).nth(1).unwrap();
        cells(table.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap())
    };
    for (theirs, mine) in names {
        for (heading, batch) in [("### Serial p50 Latency — batch=1", 1), ("### Peak Throughput", 32)] {
            let printed = row(&study, heading, theirs);
            let ours_heading = if batch == 1 { "## Serial p50 latency (ms)" } else { "## Serial throughput (img/s)" };
            let found = row(&ours, ours_heading, &format!("{mine} serial b={batch}"));
            assert_eq!(found[2..4], printed[2..4], "{mine} b={batch}");
            // The study divided rounded figures; ours is the ratio of the figures themselves.
            let ratio = |text: &str| text.trim_end_matches(" slower").trim_end_matches('×').parse::<f64>().unwrap();
            assert!((ratio(&found[4]) - ratio(&printed[4])).abs() < 0.011, "{mine} b={batch}: {}", found[4]);
        }
    }
}

/// By the server's own counters the 4090 is the faster one, and costs a third in compute.
#[test]
fn the_conclusion_depends_on_the_layer() {
    let runs = [run(A100), run(RTX_4090)];
    let figures = |batch, what: &dyn Fn(&Run, &quintet_bench::analysis::summary::Cell) -> Option<f64>| {
        runs.each_ref().map(|run| what(run, run.summary.cell(Lane::TRT_GRPC, Load::Serial { batch }).unwrap()).unwrap())
    };
    let compute_ms = |batch| {
        let ms =
            |run: &Run, cell: &_| Some(seconds_per_image(&run.summary, cell, Layer::Compute)? * 1e3 * batch as f64);
        figures(batch, &ms).map(|ms| format!("{ms:.2}"))
    };
    assert_eq!(compute_ms(1), ["3.63", "2.68"]);
    assert_eq!(compute_ms(32), ["6.32", "4.42"]);
    let compute = figures(32, &|run, cell| dollars_per_million(run, cell, Layer::Compute));
    assert_eq!(compute.map(|dollars| format!("{dollars:.3}")), ["0.049", "0.015"]);
    let measured = figures(32, &|run, cell| dollars_per_million(run, cell, Layer::Measured));
    assert_eq!(measured.map(|dollars| format!("{dollars:.1}")), ["17.3", "28.6"]);
    let reversed = reversals(&runs);
    for batch in [1, 4, 8, 16, 32] {
        assert!(reversed.iter().any(|r| r.lane == Lane::TRT_GRPC && r.load == Load::Serial { batch }), "b={batch}");
    }
    assert!(reversed.iter().all(|reversal| reversal.lane != Lane::TRT_HTTP), "an engine build is not compute time");
}

#[test]
fn the_comparison_with_prices() {
    insta::assert_snapshot!(compare(&args(vec![A100.1, RTX_4090.1])).unwrap());
}

#[test]
fn a_price_is_needed_for_each_file() {
    let error = compare(&args(vec![1.0])).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"--price-per-hour needs a value for each of the 2 files; 1 are given");
}

/// Two runs over different links: the latency that the link explains is subtracted.
#[test]
fn latency_is_normalised_for_known_links() {
    let link = |text: &str| text.parse().unwrap();
    let args = CompareArgs { link: vec![link("rtt=20ms,iw=10"), link("rtt=35ms,iw=10")], ..args(Vec::new()) };
    let text = compare(&args).unwrap();
    let table = text.split("## Serial p50 latency that the link does not explain").nth(1).unwrap();
    let row = table.lines().find(|line| line.starts_with("| ONNX gRPC serial b=1 |")).unwrap();
    // 217.5 - 8 * 20 and 318.5 - 8 * 35
    assert!(row.starts_with("| ONNX gRPC serial b=1 | 57.5 | 38.5 |"), "{row}");
    assert!(!text.contains("link-unknown"));
}
