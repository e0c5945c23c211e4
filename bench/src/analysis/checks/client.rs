//! Rules about the client: whether its own work distorts the figures.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::model::warning::Severity;

/// The client's CPU time as a share of what its workers can use, above which it is saturated.
const SATURATED_SHARE: f64 = 0.8;

/// The CPU time of the busiest thread as a share of the time, above which it delays requests.
const BUSY_THREAD: f64 = 0.9;

/// The client had hardly any CPU time left.
pub const SATURATED: Rule = Rule {
    code: "client-saturated",
    severity: Severity::Warning,
    meaning: "The client used nearly all the CPU time that its workers can use, or one of its threads did.",
    remedy: "The latency includes the client's own work: give the client more CPUs, fewer workers, or its own machine.",
    imported: None,
    find: saturated,
};

fn saturated(evidence: &Evidence) -> Vec<Finding> {
    let cores = evidence.report.map_or(1, |report| report.environment.cores);
    let found = evidence.cells().iter().filter_map(|cell| {
        let workers = cell.load.workers().min(cores).max(1);
        let share = cell.client_cpu_s? / cell.wall_s / workers as f64;
        let busiest = cell.client_busiest_thread_s.map_or(0.0, |seconds| seconds / cell.wall_s);
        if share > SATURATED_SHARE {
            Some((cell.lane, cell.load, format!("{:.0} %", share * 100.0)))
        } else {
            let detail = || format!("{:.0} %; one thread {:.0} %", share * 100.0, busiest * 100.0);
            (busiest > BUSY_THREAD).then(|| (cell.lane, cell.load, detail()))
        }
    });
    per_lane("the client used most of the CPU time that its workers can use", found)
}

/// The client is a debug build.
pub const UNOPTIMISED: Rule = Rule {
    code: "unoptimised-client",
    severity: Severity::Warning,
    meaning: "quintet-bench was built without optimisation.",
    remedy: "Build it with --release.",
    imported: None,
    find: |evidence| {
        let message =
            "quintet-bench was built without optimisation: the client's own work distorts every figure".to_owned();
        let unoptimised = evidence.report.is_some_and(|report| !report.environment.optimised);
        if unoptimised { vec![Finding { lanes: Vec::new(), message }] } else { Vec::new() }
    },
};
