//! Warnings about the load itself: warm-up that did not settle, schedules that were not kept.

use crate::{
    analysis::checks::frame::each_lane,
    model::{
        cell::{Cell, OpenLoopFigures},
        report::Report,
        warning::{Severity, Warning},
    },
};

/// Largest 99th percentile of the schedule's lag that goes unmentioned, in ms.
pub const LAG_BOUND_MS: f64 = 1.0;
/// A first request above this multiple of the last ones is a cold start.
const COLD_FACTOR: u64 = 3;

/// Whether the client itself did not keep the schedule.
pub fn is_late(open: &OpenLoopFigures) -> bool {
    open.lag_ms.is_some_and(|[_, p99, _]| p99 >= LAG_BOUND_MS)
}

/// Cells of which `what` says something, in brackets.
fn of_cells(
    report: &Report,
    code: &str,
    severity: Severity,
    what: impl Fn(&Cell) -> Option<String>,
    message: &str,
    remedy: &str,
) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| Some((cell.lane, format!("{} ({})", cell.load, what(cell)?))));
    each_lane(code, severity, found, |cells| format!("{message}: {cells}"), remedy)
}

pub(super) fn schedule_lag(report: &Report) -> Vec<Warning> {
    let late = |cell: &Cell| {
        let open = cell.open.as_ref().filter(|open| is_late(open) && open.schedule.waited == 0)?;
        open.lag_ms.map(|[_, p99, most]| format!("p99 {p99:.1} ms, most {most:.1} ms"))
    };
    let remedy = "The client is too busy for the rate: use another machine or more cores for it, or a lower rate.";
    of_cells(report, "schedule-lag", Severity::Warning, late, "requests were sent later than intended", remedy)
}

pub(super) fn in_flight_limit(report: &Report) -> Vec<Warning> {
    let full = |cell: &Cell| {
        let schedule = cell.open.as_ref()?.schedule;
        (schedule.waited > 0 || schedule.unsent > 0)
            .then(|| format!("{} of {} waited, {} unsent", schedule.waited, schedule.scheduled, schedule.unsent))
    };
    let remedy = "The server does not keep up with the rate, or --max-in-flight is too low: latency includes the wait.";
    of_cells(report, "in-flight-limit", Severity::Warning, full, "no more requests might be in flight", remedy)
}

pub(super) fn unsteady(report: &Report) -> Vec<Warning> {
    let unsteady = |cell: &Cell| (cell.warm_up.steady == Some(false)).then(|| format!("{} sent", cell.warm_up.sent));
    let remedy = "Raise --max-warmup, or find out what still changes.";
    of_cells(report, "unsteady", Severity::Warning, unsteady, "warm-up ended before latency was steady", remedy)
}

pub(super) fn cold_start_in_warm_up(report: &Report) -> Vec<Warning> {
    let cold = |cell: &Cell| {
        let (first, last) = cell.warm_up.first_us.zip(cell.warm_up.last_us)?;
        let ms = |us: u64| us as f64 / 1e3;
        (first > COLD_FACTOR * last).then(|| format!("{:.1} ms, then {:.1} ms", ms(first), ms(last)))
    };
    let remedy = "It is not in the figures; a service that scales up will see it.";
    of_cells(report, "cold-start-in-warm-up", Severity::Note, cold, "the first request was far slower", remedy)
}
