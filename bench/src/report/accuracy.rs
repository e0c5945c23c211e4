//! What a payload costs in accuracy, as tables and the answer state it.

use crate::{
    analysis::claims::difference,
    model::{
        cell::Cell, encoding::Encoding, estimate::Statistic, load::Load, metric::Metric, outputs::PayloadAccuracy,
        protocol::Protocol, report::Report,
    },
    report::table::label,
};

/// A cosine that is shown as 1.
const AS_GOOD_AS_EXACT: f64 = 0.99995;

/// The accuracy of a cell's payload in requests of its batch, or else of single images.
pub(super) fn of<'a>(report: &'a Report, cell: &Cell) -> Option<&'a PayloadAccuracy> {
    let of_payload = || {
        let found = report.outputs.payloads.iter();
        found.filter(|found| found.lane == cell.lane && Some(found.payload) == cell.payload)
    };
    of_payload().find(|found| found.batch == cell.load.batch()).or_else(|| of_payload().next())
}

/// The cell of a lane's exact payload under the load of another of its payloads.
pub(super) fn exact_cell<'a>(report: &'a Report, cell: &Cell) -> Option<&'a Cell> {
    let protocol = Protocol::of(cell.lane);
    let is_exact = |payload: Option<Encoding>| payload.is_some_and(|payload| payload.is_exact(protocol));
    let same = |other: &&Cell| {
        (other.lane, other.load, other.connection, other.transport)
            == (cell.lane, cell.load, cell.connection, cell.transport)
    };
    let mut others = report.cells.iter().filter(|other| !is_exact(cell.payload) && same(other));
    others.find(|other| is_exact(other.payload))
}

/// `3 of 4`: the images whose class is the same.
pub(super) fn top1(found: &PayloadAccuracy) -> String {
    let same = found.top1.map_or(0.0, |share| (share * found.images as f64).round());
    format!("{same} of {}", found.images)
}

/// Whether a lane's model has random weights, as far as its server says.
pub(super) fn has_random_weights(report: &Report) -> bool {
    report.lanes.iter().filter_map(|info| info.weights.as_deref()).any(|weights| weights.starts_with("seed "))
}

/// A line for each payload that costs accuracy, the one that costs the most first, of single images on the lane where it differs
/// the most: what it saves there, and what it costs.
pub(super) fn lines(report: &Report, load: Load) -> Vec<String> {
    let mut payloads: Vec<Encoding> = report.outputs.payloads.iter().map(|found| found.payload).collect();
    payloads.sort_unstable();
    payloads.dedup();
    let line = |payload: &Encoding| {
        let found = report.outputs.payloads.iter().filter(|found| found.payload == *payload && found.batch == 1);
        let worst = found.min_by(|a, b| a.min_cosine.unwrap_or(-2.0).total_cmp(&b.min_cosine.unwrap_or(-2.0)))?;
        let cosine = worst
            .min_cosine
            .filter(|cosine| *cosine < AS_GOOD_AS_EXACT || worst.top1.is_some_and(|top1| top1 < 1.0))?;
        let cells = report.cells.iter().filter(|cell| cell.load == load && cell.payload == Some(*payload));
        let saved = cells.filter(|cell| cell.lane == worst.lane).find_map(|cell| {
            let exact = exact_cell(report, cell)?;
            let found = difference(cell, exact, Metric::Latency(Statistic::Median), 1.0, &report.settings)?;
            Some(format!("{:+.1} ms, ", found.difference.value))
        });
        let random = if has_random_weights(report) { "; random weights" } else { "" };
        let (lane, saved, top1) = (label(worst.lane), saved.unwrap_or_default(), top1(worst));
        Some((cosine, format!("{payload} ({lane}): {saved}top-1 {top1}, cosine {cosine:.4}{random}")))
    };
    let mut lines: Vec<(f64, String)> = payloads.iter().filter_map(line).collect();
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    lines.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture, model::lane::Lane};

    #[test]
    fn the_payload_that_costs_the_most_comes_first_and_one_that_costs_nothing_is_left_out() {
        let mut report = fixture::report();
        let accuracy = |lane, payload, cosine, top1| PayloadAccuracy {
            lane,
            payload,
            exact: Encoding::Fp32,
            batch: 1,
            images: 4,
            top1: Some(top1),
            min_cosine: Some(cosine),
            mean_cosine: Some(cosine),
            missing: None,
        };
        report.outputs.payloads = vec![
            accuracy(Lane::ONNX_HTTP, Encoding::Jpeg, 0.99999, 1.0),
            accuracy(Lane::ONNX_HTTP, Encoding::U8, 0.999, 1.0),
            accuracy(Lane::ONNX_HTTP, Encoding::Jpeg224, 0.9991, 1.0),
            accuracy(Lane::ONNX_GRPC, Encoding::Jpeg224, 0.99, 0.75),
        ];
        assert_eq!(
            lines(&report, Load::Serial { batch: 1 }),
            ["jpeg-224 (ONNX gRPC): top-1 3 of 4, cosine 0.9900", "u8 (ONNX HTTP): top-1 4 of 4, cosine 0.9990"]
        );
    }
}
