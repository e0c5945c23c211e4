//! Rules about the client: whether its own work distorts the figures.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::model::{
    cell::Cell,
    lane::Lane,
    load::Load,
    report::{LaneDifference, Report},
    warning::Severity,
};

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

/// Largest deviation of two client costs that counts as alike, as a share.
const ALIKE: f64 = 0.1;

/// Whether two costs of the client are within 10 % of each other.
pub(crate) fn alike(a_ms: f64, b_ms: f64) -> bool {
    let ratio = a_ms / b_ms;
    (1.0 - ALIKE..=1.0 + ALIKE).contains(&ratio) || (1.0 - ALIKE..=1.0 + ALIKE).contains(&ratio.recip())
}

/// The client itself may be the difference between two lanes.
pub const COST: Rule = Rule {
    code: "client-cost",
    severity: Severity::Warning,
    meaning: "Two lanes differ by no more than what their requests cost the client itself.",
    remedy: "Do not take this difference for the server's: the table of client costs has each lane's share.",
    imported: None,
    find: cost,
};

fn cost(evidence: &Evidence) -> Vec<Finding> {
    let Some(report) = evidence.report else { return Vec::new() };
    let serial = report.differences.iter().filter(|d| matches!(d.load, Load::Serial { .. }));
    let found = serial.filter_map(|compared| {
        let (cost, difference) = (cost_difference(report, compared)?, compared.difference.difference.value);
        let explained = compared.difference.is_significant() && (difference > 0.0) == (cost > 0.0);
        let detail = format!("{difference:+.2} ms, of which the client {cost:+.2} ms");
        (explained && difference.abs() <= cost.abs()).then_some(((compared.a, compared.b), compared.load, detail))
    });
    let mut findings: Vec<Finding> = Vec::new();
    for ((a, b), load, detail) in found {
        match findings.iter_mut().find(|finding| finding.lanes == [a, b]) {
            Some(same) => same.message = format!("{}, {load} ({detail})", same.message),
            None => findings.push(Finding {
                lanes: vec![a, b],
                message: format!(
                    "the difference between the lanes is no larger than that of the client: {load} ({detail})"
                ),
            }),
        }
    }
    findings
}

/// What the requests of the first lane cost the client more than those of the second, in ms, if that is not alike.
fn cost_difference(report: &Report, compared: &LaneDifference) -> Option<f64> {
    let cost = |lane: Lane, side: usize| {
        let same = |cell: &&Cell| {
            (cell.lane, cell.load, cell.connection) == (lane, compared.load, compared.connection)
                && (cell.payload, cell.transport) == (compared.payloads[side], compared.transports[side])
        };
        Some(report.cells.iter().find(same)?.client_ms?.value)
    };
    let (a, b) = (cost(compared.a, 0)?, cost(compared.b, 1)?);
    (!alike(a, b)).then_some(a - b)
}
