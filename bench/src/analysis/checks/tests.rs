use std::{collections::HashSet, path::PathBuf};

use super::*;
use crate::{
    fixture,
    model::{
        cell::{BlockSpan, Cell},
        estimate::Estimate,
        lane::Lane,
        load::Load,
        machine::{BlockMachines, GpuState},
        samples::Samples,
    },
};

/// The codes that a change to the fixture adds, with their lanes.
fn codes(change: impl FnOnce(&mut Report)) -> Vec<(String, Vec<&'static str>)> {
    let mut report = fixture::report();
    let before: Vec<Warning> = report.warnings.clone();
    change(&mut report);
    let new = judge(&report).into_iter().filter(|warning| !before.contains(warning));
    new.map(|warning| (warning.code, warning.lanes.iter().map(|lane| lane.kind.name()).collect())).collect()
}

fn one(code: &str, lane: &'static str) -> Vec<(String, Vec<&'static str>)> {
    vec![(code.to_owned(), vec![lane])]
}

#[test]
fn the_fixture_has_three_warnings() {
    let shown: Vec<_> = fixture::report().warnings.iter().map(|w| format!("{} {:?}", w.code, w.severity)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn an_engine_build_in_the_window_is_reported() {
    let change = |report: &mut Report| report.cells[3].server.as_mut().unwrap().compute_infer_ms = 1_169.6;
    assert_eq!(codes(change), one("engine-build-in-window", "trt-http"));
}

#[test]
fn a_queue_time_equal_to_the_delay_is_reported() {
    let change = |delay| move |report: &mut Report| report.lanes[4].max_queue_delay_us = Some(delay);
    // The fixture's counters have 0.1 ms for every request.
    assert_eq!(codes(change(100)), one("queue-equals-delay", "trt-grpc"));
    assert_eq!(codes(change(10_000)), []);
    assert_eq!(codes(change(0)), []);
}

#[test]
fn a_link_that_takes_nearly_all_the_time_is_reported() {
    let change = |report: &mut Report| {
        let latency = report.cells[1].latency_ms.as_mut().unwrap();
        latency.mean = latency.mean.scaled(20.0);
    };
    assert_eq!(codes(change), one("link-bound", "onnx-http"));
}

#[test]
fn a_saturated_client_is_reported() {
    let change = |report: &mut Report| report.cells[0].client_cpu_s = Some(report.cells[0].wall_s * 0.9);
    assert_eq!(codes(change), one("client-saturated", "jpeg"));
}

/// The fixture's cells with one GPU, whose states in two blocks are given.
fn with_gpu(states: [GpuState; 2]) -> impl FnOnce(&mut Report) {
    |report| {
        report.cells[1].machines = states.map(|state| BlockMachines { gpus: vec![state], client_steal: None }).into()
    }
}

#[test]
fn a_gpu_that_changes_is_reported() {
    let state = |mhz, celsius, reason: Option<&str>| GpuState {
        gpu: "GPU-1".into(),
        sm_clock_mhz: Some(mhz),
        temperature_celsius: Some(celsius),
        throttled_by: reason.map(str::to_owned).into_iter().collect(),
        ..GpuState::default()
    };
    let steady = || state(1980.0, 60.0, None);
    assert_eq!(codes(with_gpu([steady(), state(1900.0, 69.0, None)])), []);
    assert_eq!(codes(with_gpu([steady(), state(1410.0, 60.0, None)])), one("gpu-clock-changed", "onnx-http"));
    assert_eq!(codes(with_gpu([steady(), state(1980.0, 71.0, None)])), one("gpu-temperature-changed", "onnx-http"));
    assert_eq!(codes(with_gpu([steady(), state(1980.0, 60.0, Some("thermal"))])), one("gpu-throttled", "onnx-http"));
    assert_eq!(codes(with_gpu([steady(), GpuState { gpu: "GPU-1".into(), ..GpuState::default() }])), []);
}

#[test]
fn stolen_time_and_changing_clocks_of_the_client_are_reported() {
    let stolen = |share| {
        move |report: &mut Report| {
            report.cells[0].machines = vec![BlockMachines { client_steal: Some(share), gpus: Vec::new() }];
        }
    };
    assert_eq!(codes(stolen(0.02)), one("client-steal", "jpeg"));
    assert_eq!(codes(stolen(0.0)), []);
    let change = |report: &mut Report| report.environment.governor = Some("powersave".into());
    assert_eq!(codes(change), [("client-governor".to_owned(), vec![])]);
}

/// With 64 cores, one busy thread is a small share of the CPU time that 8 workers can use.
#[test]
fn a_client_with_one_busy_thread_is_saturated() {
    let change = |report: &mut Report| {
        report.environment.cores = 64;
        let cell = &mut report.cells[CONCURRENT];
        (cell.client_cpu_s, cell.client_busiest_thread_s) = (Some(cell.wall_s), Some(cell.wall_s * 0.95));
    };
    assert_eq!(codes(change), one("client-saturated", "onnx-http"));
}

/// A difference that the client makes is not the server's.
#[test]
fn a_difference_no_larger_than_that_of_the_client_is_reported() {
    let change = |http_ms: f64, grpc_ms: f64| {
        move |report: &mut Report| {
            for (lane, ms) in [(Lane::ONNX_HTTP, http_ms), (Lane::ONNX_GRPC, grpc_ms)] {
                let cells = report.cells.iter_mut().filter(|cell| cell.lane == lane);
                cells.for_each(|cell| cell.client_ms = Some(Estimate::new(ms, ms, ms, 20)));
            }
        }
    };
    // Over gRPC the fixture's requests take 0.3 ms more for each image.
    let both = vec![("client-cost".to_owned(), vec!["onnx-http", "onnx-grpc"])];
    assert_eq!(codes(change(1.0, 11.0)), both);
    assert_eq!(codes(change(1.0, 1.12)), [], "the client is a small part of the difference");
    assert_eq!(codes(change(10.0, 10.5)), [], "the costs are within 10 %");
    assert_eq!(codes(change(11.0, 1.0)), [], "the client is on the other side");
}

#[test]
fn parts_that_do_not_add_up_are_reported() {
    let change = |report: &mut Report| report.cells[2].waterfall.as_mut().unwrap().gap = -0.2;
    assert_eq!(codes(change), one("parts-do-not-add-up", "onnx-grpc"));
}

#[test]
fn a_median_that_changes_is_reported() {
    let change = |report: &mut Report| {
        let cell = &mut report.cells[2];
        let last = cell.blocks[5];
        cell.samples.latency_us[last.first..].iter_mut().for_each(|us| *us *= 2.0);
    };
    assert_eq!(codes(change), one("unstable", "onnx-grpc"));
}

#[test]
fn lanes_with_one_block_are_not_paired() {
    let change = |report: &mut Report| report.differences[0].difference.paired = false;
    assert_eq!(codes(change), [("not-paired".to_owned(), vec!["jpeg", "onnx-http"])]);
}

/// Gives a cell one window of 4 s, in which each worker sends every `period_ms` and is answered `latency_ms` later.
fn window(cell: &mut Cell, period_ms: f64, latency_ms: f64) {
    let (start_us, wall_us) = (10e6, 4e6);
    cell.samples = Samples::default();
    let rounds = (0..).map(|round| f64::from(round) * period_ms * 1e3).take_while(|at| *at < wall_us);
    for (number, at) in rounds.flat_map(|at| vec![at; cell.load.workers()]).enumerate() {
        // Each is a little slower than the one before, so the first is not a cold start.
        let latency_us = latency_ms * 1e3 + number as f64;
        if at + latency_us <= wall_us {
            cell.samples.start_us.push(start_us + at);
            cell.samples.latency_us.push(latency_us);
        }
    }
    let samples = cell.samples.start_us.len();
    cell.blocks =
        vec![BlockSpan { start_s: start_us / 1e6, first: 0, samples, wall_s: wall_us / 1e6, completed: None }];
}

const CONCURRENT: usize = 16;

#[test]
fn workers_that_pause_do_not_reach_their_concurrency() {
    let pausing = |report: &mut Report| {
        assert_eq!(report.cells[CONCURRENT].load, Load::Concurrent { concurrency: 8, batch: 1 });
        window(&mut report.cells[CONCURRENT], 100.0, 80.0);
    };
    assert_eq!(codes(pausing), one("concurrency-not-reached", "onnx-http"));
    let mut report = fixture::report();
    pausing(&mut report);
    let found = judge(&report).into_iter().find(|warning| warning.code == "concurrency-not-reached").unwrap();
    assert!(found.message.contains("concurrent c=8 (mean 6.4 over "), "{}", found.message);
}

/// 3 rounds of 1.1 s end in a window of 4 s: rate times mean latency would be 6.6.
#[test]
fn requests_in_flight_at_the_end_of_a_window_do_not_lower_the_concurrency() {
    assert_eq!(codes(|report| window(&mut report.cells[CONCURRENT], 1_100.0, 1_100.0)), []);
}

#[test]
fn concurrency_is_not_judged_from_a_short_window_or_beside_failures() {
    assert_eq!(codes(|report| window(&mut report.cells[CONCURRENT], 2_600.0, 2_500.0)), []);
    let failing = |report: &mut Report| {
        window(&mut report.cells[CONCURRENT], 100.0, 80.0);
        report.cells[CONCURRENT].failures.count = 1;
    };
    assert_eq!(codes(failing), one("request-errors", "onnx-http"));
}

/// A report is judged by its blocks, imported figures by single latencies.
#[test]
fn imported_figures_are_unstable_by_their_extremes() {
    let mut summary = Summary::from_report("", &fixture::report());
    let unstable = |summary: &Summary| {
        let found = judge_imported(summary).into_iter().filter(|warning| warning.code == "unstable");
        found.map(|warning| warning.message).collect::<Vec<_>>()
    };
    assert_eq!(unstable(&summary), Vec::<String>::new());
    summary.cells[2].max_ms = summary.cells[2].min_ms.map(|ms| 6.0 * ms);
    assert_eq!(unstable(&summary), ["the largest latency is a multiple of the smallest: serial b=1 (6.0×)"]);
}

#[test]
fn every_code_is_unique() {
    let codes: HashSet<_> = RULES.iter().map(|rule| rule.code).collect();
    assert_eq!(codes.len(), RULES.len());
    for rule in &RULES {
        assert!(rule.code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", rule.code);
    }
}

#[test]
fn every_rule_has_a_meaning_and_a_remedy() {
    for rule in &RULES {
        let remedies = [Some(rule.remedy), rule.imported.map(|(_, remedy)| remedy)];
        for text in remedies.into_iter().flatten().chain([rule.meaning]) {
            assert!(text.len() > 10 && text.ends_with('.'), "{}: {text}", rule.code);
        }
    }
}

#[test]
fn the_documentation_lists_every_code() {
    let row = |rule: &Rule| {
        let imported = rule.imported.map(|(severity, _)| severity).filter(|severity| *severity != rule.severity);
        let imported = imported.map_or(String::new(), |severity| format!(" (imported: {severity})"));
        format!("| `{}` | {}{imported} | {} |\n", rule.code, rule.severity, rule.meaning)
    };
    let head = "| Code | Severity | Meaning |\n|---|---|---|\n";
    let table = head.to_owned() + &RULES.iter().map(row).collect::<String>();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarking.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, after) = page.split_once(head).expect("the table's head");
    let rest = &after[after.find("\n\n").map_or(after.len(), |end| end + 1)..];
    let wanted = format!("{before}{table}{rest}");
    if std::env::var_os("QUINTET_WRITE_CHECKS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page == wanted, "docs/benchmarking.md does not list the rules; run this test with QUINTET_WRITE_CHECKS=1");
}
