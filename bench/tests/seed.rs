//! Imports the study's raw data: its tables to the last digit, and the warnings for them.
#![allow(clippy::unwrap_used, reason = "a test may fail by panic in its helpers too")]

use std::path::PathBuf;

use quintet_bench::{
    analysis::checks::judge_imported,
    cli::report::{Format, ReportArgs, report},
    model::warning::Warning,
    study::import::Results,
};

const RTX_4090: &str = "step7_5way_20260220_232454.json";
const A100: &str = "step7_5way_20260220_221313.json";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/seed").join(name)
}

fn shown(files: &[&str], format: Format) -> String {
    report(&ReportArgs { files: files.iter().map(|name| file(name)).collect(), format, link: None }).unwrap()
}

fn warnings(name: &str) -> Vec<Warning> {
    judge_imported(&Results::read(&file(name)).unwrap().summary())
}

/// A Markdown table: heads of its columns, and rows with their names.
struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// The first table after the first heading that begins with `heading`.
fn table(markdown: &str, heading: &str) -> Table {
    let is_heading = |line: &&str| line.trim_start_matches('#').trim().to_lowercase().starts_with(heading);
    let lines = markdown.lines().skip_while(|line| !(line.starts_with('#') && is_heading(line)));
    let lines: Vec<_> =
        lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).collect();
    let cells =
        |line: &str| -> Vec<String> { line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect() };
    assert!(lines.len() > 2, "no table `{heading}`");
    let columns = cells(lines[0]).split_off(1);
    let rows = lines[2..].iter().map(|line| {
        let mut values = cells(line);
        // The study aligns some names with two spaces, and shortens some.
        let name = values.remove(0).split_whitespace().collect::<Vec<_>>().join(" ");
        (name.replace("PyTorch HTTP (JPEG)", "PyTorch HTTP").replace("Triton ", ""), values)
    });
    Table { columns, rows: rows.collect() }
}

/// The figure of a cell, without emphasis, unit or remark.
fn figure(cell: &str) -> String {
    let plain = cell.replace("**", "").replace("⚠️", "").replace('⚠', "");
    plain.trim().split(' ').next().unwrap().trim_end_matches("ms").to_owned()
}

/// The plot in the documentation equals the one drawn from the study's figures.
#[test]
fn the_studys_plot_is_drawn() {
    let drawn = shown(&[RTX_4090], Format::Svg);
    let published = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/the-seed-revisited-study.svg");
    if std::env::var_os("QUINTET_WRITE_SVG").is_some() {
        std::fs::write(&published, &drawn).unwrap();
    }
    assert!(
        std::fs::read_to_string(&published).unwrap_or_default() == drawn,
        "{} is out of date; run this test with QUINTET_WRITE_SVG=1",
        published.display()
    );
    let summary = Results::read(&file(RTX_4090)).unwrap().summary();
    let lanes = summary.lanes();
    assert_eq!(
        drawn.matches("<circle ").count(),
        lanes.iter().map(|&lane| summary.serial(lane).len()).sum::<usize>() + lanes.len()
    );
    for name in ["PyTorch HTTP (JPEG)", "Triton ONNX gRPC", "Triton TRT HTTP"] {
        assert!(drawn.contains(&format!(">{name}</text>")), "{name}");
    }
    assert!(!drawn.contains("class=\"whisker\""), "the study has no intervals");
}

#[test]
fn a_format_that_does_not_fit_the_file_is_refused() {
    let refused = |files: &[&str], format| {
        let files = files.iter().map(|name| file(name)).collect();
        report(&ReportArgs { files, format, link: None }).unwrap_err().to_string()
    };
    assert!(refused(&[RTX_4090, A100], Format::Svg).contains("2 are given"));
    let error = refused(&[A100], Format::Html);
    assert!(error.contains(A100) && error.contains("use --format markdown or svg"), "{error}");
}

#[test]
fn every_cell_equals_the_one_in_the_study() {
    let study = std::fs::read_to_string(file("STEP_7_RTX_4090.md")).unwrap();
    let ours = shown(&[RTX_4090], Format::Markdown);
    let mut compared = 0;
    for heading in
        ["serial p50 latency", "serial throughput", "grpc speedup", "server-side gpu compute", "concurrent throughput"]
    {
        let (printed, ours) = (table(&study, heading), table(&ours, heading));
        for (name, values) in &printed.rows {
            let (_, found) =
                ours.rows.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{heading}: no {name}"));
            for (column, value) in printed.columns.iter().zip(values) {
                // The study shows server compute at batch 1 only.
                let column = if column == "GPU compute" { "b=1" } else { column };
                let index = ours.columns.iter().position(|c| c == column).unwrap();
                assert_eq!(figure(&found[index]), figure(value), "{heading}: {name}, {column}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 25 + 25 + 10 + 4 + 15);
}

#[test]
fn the_rtx_4090_report() {
    insta::assert_snapshot!(shown(&[RTX_4090], Format::Markdown));
}

#[test]
fn the_a100_report() {
    insta::assert_snapshot!(shown(&[A100], Format::Markdown));
}

/// One round trip explains the first row of the study.
#[test]
fn a_link_explains_the_batch_1_row() {
    let link = Some("rtt=35ms,iw=10".parse().unwrap());
    let shown = report(&ReportArgs { files: vec![file(RTX_4090)], format: Format::Markdown, link }).unwrap();
    let explained = table(&shown, "predicted beside measured");
    let batch_1 = explained.rows.iter().filter(|(_, values)| values[0] == "1");
    let lines: Vec<_> = batch_1.map(|(lane, values)| format!("{lane}: {}", values[1..].join(" | "))).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Both runs have the same mistakes.
#[test]
fn the_checks_find_the_mistakes_of_both_runs() {
    for name in [RTX_4090, A100] {
        let found = warnings(name);
        for code in [
            "engine-build-in-window",
            "counters-outside-window",
            "cold-start",
            "queue-equals-delay",
            "fresh-connections",
            "connections-shared",
            "link-bound",
            "unstable",
            "throughput-not-measured",
            "concurrency-not-reached",
            "too-few-samples-for-p99",
            "bytes-not-counted",
            "outputs-not-compared",
        ] {
            assert!(found.iter().any(|w| w.code == code), "{name}: {code} is missing");
        }
        let lanes_of = |code: &str| -> Vec<&str> {
            found.iter().filter(|w| w.code == code).flat_map(|w| &w.lanes).map(|lane| lane.kind.name()).collect()
        };
        assert_eq!(lanes_of("engine-build-in-window"), ["trt-http"], "{name}");
        assert_eq!(lanes_of("cold-start"), ["onnx-http"], "{name}: the lane that always ran first");
        assert!(found.iter().all(|w| !w.remedy.is_empty()));
    }
}

#[test]
fn csv_and_json_hold_every_cell_unrounded() {
    let csv = shown(&[RTX_4090, A100], Format::Csv);
    assert_eq!(csv.lines().count(), 1 + 2 * 5 * 8);
    assert!(csv.contains("step7_5way_20260220_232454,onnx-grpc,serial,1,1,30,318.4640414999649,"), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&shown(&[RTX_4090, A100], Format::Json)).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(json[0]["cells"].as_array().unwrap().len(), 5 * 8);
    assert_eq!(json[0]["cells"][0]["p50_ms"], 137.20304199999987);
    assert_eq!(json[0]["warnings"].as_array().unwrap().len(), warnings(RTX_4090).len());
}
