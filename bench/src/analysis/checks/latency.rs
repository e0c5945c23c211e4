//! Rules about latencies: what they are made of, and whether they hold still.

use super::rule::{Evidence, Finding, Rule, per_lane};
use crate::{
    analysis::{stats, summary},
    model::{
        cell::Cell, estimate::Statistic, lane::Lane, load::Load, metric::Metric, warning::Severity,
        waterfall::TOLERANCE,
    },
};

/// A server's share of the mean latency below which the link, not the server, was measured.
const LINK_BOUND_SHARE: f64 = 0.1;
/// Largest by smallest median of a cell's blocks from which on the cell is unstable: medians of one distribution hardly
/// differ.
const UNSTABLE_MEDIANS: f64 = 1.3;
/// Fewest samples of a block whose median counts for that.
const UNSTABLE_SAMPLES: usize = 3;
/// Largest by smallest latency of a cell from which on it is unstable, where no blocks are known: single latencies of
/// one distribution do differ, so this is far above [`UNSTABLE_MEDIANS`].
const UNSTABLE_EXTREMES: f64 = 5.0;

/// The parts of the latency are more or less than the latency.
pub const PARTS_DO_NOT_ADD_UP: Rule = Rule {
    code: "parts-do-not-add-up",
    severity: Severity::Warning,
    meaning: "The parts of the latency do not add up to it.",
    remedy: "Too much: the server counts time that is not in these requests. Too little: the client was held up \
             between its own marks; leave it a CPU of its own.",
    imported: None,
    find: |evidence| {
        let found = evidence.cells().iter().filter_map(|cell| {
            let waterfall = cell.waterfall.as_ref().filter(|waterfall| !waterfall.adds_up())?;
            let (sum, latency, gap) = (waterfall.sum_ms, waterfall.latency_ms, waterfall.gap * 100.0);
            Some((cell.lane, cell.load, format!("{sum:.2} of {latency:.2} ms, {gap:+.0} %")))
        });
        per_lane(&format!("the parts of the latency miss it by more than {:.0} %", TOLERANCE * 100.0), found)
    },
};

/// The way to the server takes nearly all the time.
pub const LINK_BOUND: Rule = Rule {
    code: "link-bound",
    severity: Severity::Warning,
    meaning: "The server's share of the mean latency is so small that the link was measured, not the server.",
    remedy: "These cells measured the way to the server: compare servers by their own times, or measure from nearby.",
    imported: None,
    find: link_bound,
};

fn link_bound(evidence: &Evidence) -> Vec<Finding> {
    let measured = |cell: &Cell| {
        let share = cell.server_ms()? / cell.latency_ms.as_ref()?.mean.value;
        Some((cell.lane, cell.load, share))
    };
    let imported = |cell: &summary::Cell| Some((cell.lane, cell.load, cell.server?.request_ms / cell.mean_ms));
    let shares: Vec<(Lane, Load, f64)> = match evidence.report {
        Some(report) => report.cells.iter().filter_map(measured).collect(),
        None => evidence.summary.cells.iter().filter_map(imported).collect(),
    };
    let bound = shares.into_iter().filter(|(.., share)| *share < LINK_BOUND_SHARE);
    let found = bound.map(|(lane, load, share)| (lane, load, format!("{:.1} %", share * 100.0)));
    per_lane("the server accounts for next to nothing of the latency", found)
}

/// Latency moves while it is measured.
pub const UNSTABLE: Rule = Rule {
    code: "unstable",
    severity: Severity::Warning,
    meaning: "The median moves from block to block; in imported figures, the largest latency is a multiple of the \
              smallest.",
    remedy: "Something else uses the machine or the link. Differences are paired and survive it; single figures do \
             not.",
    imported: Some((
        Severity::Warning,
        "A median of such samples moves from run to run: take more samples, in interleaved blocks, with intervals.",
    )),
    find: |evidence| match evidence.report {
        Some(report) => {
            per_lane("the median moves from block to block", report.cells.iter().filter_map(moving_medians))
        }
        None => {
            let message = "the largest latency is a multiple of the smallest";
            per_lane(message, evidence.summary.cells.iter().filter_map(wide_extremes))
        }
    },
};

fn moving_medians(cell: &Cell) -> Option<(Lane, Load, String)> {
    let values = Metric::Latency(Statistic::Median).values(cell)?;
    let blocks = values.into_iter().filter(|block| block.len() >= UNSTABLE_SAMPLES);
    let medians: Vec<f64> = blocks.filter_map(|mut block| stats::median(&mut block)).collect();
    let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let high = medians.iter().copied().fold(0.0, f64::max);
    let moves = medians.len() > 1 && high > UNSTABLE_MEDIANS * low;
    moves.then(|| (cell.lane, cell.load, format!("{low:.1} to {high:.1} ms")))
}

fn wide_extremes(cell: &summary::Cell) -> Option<(Lane, Load, String)> {
    let spread = cell.max_ms? / cell.min_ms?;
    (spread >= UNSTABLE_EXTREMES).then(|| (cell.lane, cell.load, format!("{spread:.1}×")))
}
