use super::*;
use crate::fixture;

/// The codes that a change to an unremarkable report brings about, with their lanes.
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
fn an_unremarkable_report() {
    let shown: Vec<_> = fixture::report().warnings.iter().map(|w| format!("{} {:?}", w.code, w.severity)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn an_engine_build_in_the_window() {
    let change = |report: &mut Report| report.cells[3].server.as_mut().unwrap().compute_infer_ms = 1_169.6;
    assert_eq!(codes(change), one("engine-build-in-window", "trt-http"));
}

#[test]
fn a_queue_that_equals_the_delay() {
    let change = |delay| move |report: &mut Report| report.lanes[4].max_queue_delay_us = Some(delay);
    // The made-up counters say 0.1 ms for every request.
    assert_eq!(codes(change(100)), one("queue-equals-delay", "trt-grpc"));
    assert_eq!(codes(change(10_000)), []);
    assert_eq!(codes(change(0)), []);
}

#[test]
fn a_link_that_takes_all_the_time() {
    let change = |report: &mut Report| {
        let latency = report.cells[1].latency_ms.as_mut().unwrap();
        latency.mean = latency.mean.scaled(20.0);
    };
    assert_eq!(codes(change), one("link-bound", "onnx-http"));
}

#[test]
fn a_client_at_its_limit() {
    let change = |report: &mut Report| report.cells[0].client_cpu_s = Some(report.cells[0].wall_s * 0.9);
    assert_eq!(codes(change), one("client-saturated", "jpeg"));
}

#[test]
fn parts_that_do_not_add_up() {
    let change = |report: &mut Report| report.cells[2].waterfall.as_mut().unwrap().gap = -0.2;
    assert_eq!(codes(change), one("parts-do-not-add-up", "onnx-grpc"));
}

#[test]
fn a_median_that_moves() {
    let change = |report: &mut Report| {
        let cell = &mut report.cells[2];
        let last = cell.blocks[5];
        cell.samples.latency_us[last.first..].iter_mut().for_each(|us| *us *= 2.0);
    };
    assert_eq!(codes(change), one("unstable", "onnx-grpc"));
}

#[test]
fn lanes_without_turns_are_not_paired() {
    let change = |report: &mut Report| report.differences[0].difference.paired = false;
    assert_eq!(codes(change), [("not-paired".to_owned(), vec!["jpeg", "onnx-http"])]);
}
