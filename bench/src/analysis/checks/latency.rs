//! Rules about latency: whether its parts add up, whether the link dominates it, whether it is stable.

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
/// Ratio of the largest to the smallest median of a cell's blocks above which the cell is unstable: medians of one
/// distribution hardly differ.
const UNSTABLE_MEDIANS: f64 = 1.3;
/// Fewest samples of a block whose median is compared.
const UNSTABLE_SAMPLES: usize = 3;
/// Ratio of the largest to the smallest latency from which a cell without known blocks is unstable. Single latencies of
/// one distribution do differ, so this is far above [`UNSTABLE_MEDIANS`].
const UNSTABLE_EXTREMES: f64 = 5.0;

/// The sum of the parts is not the latency.
pub const PARTS_DO_NOT_ADD_UP: Rule = Rule {
    code: "parts-do-not-add-up",
    severity: Severity::Warning,
    meaning: "The parts of the latency do not add up to the latency.",
    remedy: "If the sum is too large, the server's times include other requests. If it is too small, the client was \
             delayed between two of its time stamps: give the client its own CPU.",
    imported: None,
    find: |evidence| {
        let found = evidence.cells().iter().filter_map(|cell| {
            let waterfall = cell.waterfall.as_ref().filter(|waterfall| !waterfall.adds_up())?;
            let (sum, latency, gap) = (waterfall.sum_ms, waterfall.latency_ms, waterfall.gap * 100.0);
            Some((cell.lane, cell.load, format!("{sum:.2} of {latency:.2} ms, {gap:+.0} %")))
        });
        per_lane(
            &format!("the sum of the parts differs from the latency by more than {:.0} %", TOLERANCE * 100.0),
            found,
        )
    },
};

/// The network takes nearly all the time.
pub const LINK_BOUND: Rule = Rule {
    code: "link-bound",
    severity: Severity::Warning,
    meaning: "The server's share of the mean latency is so small that the link was measured, not the server.",
    remedy: "These cells measure the network: compare servers by their own times, or measure from a machine close to \
             them.",
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
    per_lane("the server's share of the latency is very small", found)
}

/// Latency changes during the measurement.
pub const UNSTABLE: Rule = Rule {
    code: "unstable",
    severity: Severity::Warning,
    meaning: "The median changes from block to block; in imported figures, the largest latency is a multiple of the \
              smallest.",
    remedy: "Something else uses the machine or the link. Differences between lanes are paired by block and remain \
             valid; single figures do not.",
    imported: Some((
        Severity::Warning,
        "A median of such samples changes from run to run: measure more samples in interleaved blocks, and report \
         intervals.",
    )),
    find: |evidence| match evidence.report {
        Some(report) => {
            per_lane("the median changes from block to block", report.cells.iter().filter_map(unstable_medians))
        }
        None => {
            let message = "the largest latency is a multiple of the smallest";
            per_lane(message, evidence.summary.cells.iter().filter_map(unstable_extremes))
        }
    },
};

fn unstable_medians(cell: &Cell) -> Option<(Lane, Load, String)> {
    let values = Metric::Latency(Statistic::Median).values(cell)?;
    let blocks = values.into_iter().filter(|block| block.len() >= UNSTABLE_SAMPLES);
    let medians: Vec<f64> = blocks.filter_map(|mut block| stats::median(&mut block)).collect();
    let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let high = medians.iter().copied().fold(0.0, f64::max);
    let unstable = medians.len() > 1 && high > UNSTABLE_MEDIANS * low;
    unstable.then(|| (cell.lane, cell.load, format!("{low:.1} to {high:.1} ms")))
}

fn unstable_extremes(cell: &summary::Cell) -> Option<(Lane, Load, String)> {
    let spread = cell.max_ms? / cell.min_ms?;
    (spread >= UNSTABLE_EXTREMES).then(|| (cell.lane, cell.load, format!("{spread:.1}×")))
}
