//! Warnings: what a reader should know before believing a figure. The rules on whole reports stand here and in [`load`],
//! those on figures alone in [`crate::analysis::suspicions`].

pub mod frame;
pub mod load;

use std::collections::BTreeMap;

use crate::{
    analysis::{
        checks::frame::{Rule, by_lane, each_lane, judge as by_rules, warning},
        stats,
    },
    model::{
        estimate::Statistic,
        load::Load,
        metric::Metric,
        part::Part,
        report::Report,
        warning::{Severity, Warning},
        waterfall::TOLERANCE,
        words::list,
    },
};

/// A first sample above this multiple of its cell's median, and the block's largest, is a cold start.
const COLD_START_FACTOR: f64 = 3.0;

/// A server's share of the mean latency below which the way, not the server, was measured.
const LINK_BOUND_SHARE: f64 = 0.1;
/// Queue time between these multiples of the batcher's delay is that delay.
const DELAY_RANGE: std::ops::RangeInclusive<f64> = 0.9..=1.5;
/// Largest by smallest median of a cell's blocks from which on the cell is unstable.
const UNSTABLE: f64 = 1.3;
/// Fewest samples of a block whose median counts for that.
const UNSTABLE_SAMPLES: usize = 3;
/// The client's CPU time as a share of what its workers can use, above which it is saturated.
const SATURATED_SHARE: f64 = 0.8;

/// Fewer samples than this have no distribution-free 95 % interval of the median.
const FEWEST_SAMPLES: usize = 6;

/// Judges a report.
pub fn judge(report: &Report) -> Vec<Warning> {
    let checks: [Rule<Report>; 22] = [
        interrupted,
        resumed,
        request_failures,
        outputs,
        shared_providers,
        count_mismatches,
        missing_counters,
        engine_builds,
        gaps,
        link_bound,
        client_saturated,
        queue_delays,
        cold_starts,
        unstable,
        unpaired,
        reconnects,
        few_samples,
        load::schedule_lag,
        load::in_flight_limit,
        load::unsteady,
        load::cold_start_in_warm_up,
        debug_build,
    ];
    by_rules(report, &checks)
}

fn interrupted(report: &Report) -> Vec<Warning> {
    if !report.interrupted {
        return Vec::new();
    }
    vec![warning(
        "interrupted",
        Severity::Warning,
        Vec::new(),
        "the run was stopped before its end: cells are missing or short".into(),
        "Let it go on with --resume.",
    )]
}

fn resumed(report: &Report) -> Vec<Warning> {
    if report.resumed_at.is_empty() {
        return Vec::new();
    }
    vec![warning(
        "resumed",
        Severity::Note,
        Vec::new(),
        format!(
            "the run was stopped and went on at {}: machine and network may differ since",
            list(&report.resumed_at)
        ),
        "Where that matters, measure again in one go.",
    )]
}

fn request_failures(report: &Report) -> Vec<Warning> {
    let failing = report.cells.iter().filter(|cell| cell.failures.count + cell.warm_up.failures.count > 0);
    by_lane(failing.map(|cell| (cell.lane, cell)))
        .into_iter()
        .map(|(lane, cells)| {
            let failed: u64 = cells.iter().map(|c| c.failures.count + c.warm_up.failures.count).sum();
            let sent: u64 = cells.iter().map(|c| c.sent + c.warm_up.sent).sum();
            let first = cells.iter().find_map(|c| c.warm_up.failures.first.as_ref().or(c.failures.first.as_ref()));
            warning(
                "request-errors",
                Severity::Error,
                vec![lane],
                format!(
                    "{failed} of {sent} requests failed in {}; the first: {}",
                    list(cells.iter().map(|c| c.load)),
                    first.map_or("unknown", String::as_str)
                ),
                "Failed requests have no latency: find their cause in the server's log and measure again.",
            )
        })
        .collect()
}

fn outputs(report: &Report) -> Vec<Warning> {
    let differ = report.outputs.pairs.iter().filter(|pair| !pair.agree).map(|pair| {
        let difference = match pair.max_abs_difference {
            Some(difference) => format!("by up to {difference:.3e} (largest element {:.3e})", pair.scale),
            None => "in shape, or are not finite".into(),
        };
        warning(
            "outputs-differ",
            Severity::Error,
            vec![pair.a, pair.b],
            format!("the outputs of {} and {} differ {difference}", pair.a, pair.b),
            "Lanes that compute different things cannot be compared: serve the same weights and precision.",
        )
    });
    let missing = report.outputs.missing.iter().map(|missing| {
        warning(
            "outputs-not-compared",
            Severity::Error,
            vec![missing.lane],
            format!("{} gave no outputs to compare: {}", missing.lane, missing.reason),
            "Check that the model has input `image` and output `embedding`, and look into the server's log.",
        )
    });
    differ.chain(missing).collect()
}

fn shared_providers(report: &Report) -> Vec<Warning> {
    let mut by_provider: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for info in &report.lanes {
        if let Some(provider) = &info.effective_provider {
            by_provider.entry(provider).or_default().push(info);
        }
    }
    let shared = by_provider.into_iter().filter(|(_, infos)| infos.iter().any(|i| i.service != infos[0].service));
    shared
        .map(|(provider, infos)| {
            let lanes: Vec<_> = infos.iter().map(|info| info.lane).collect();
            warning(
                "shared-provider",
                Severity::Warning,
                lanes.clone(),
                format!("{} all run on {provider}: they differ in transport, not in backend", list(lanes)),
                "Read no difference between backends out of these lanes; use a machine with the providers they are meant for.",
            )
        })
        .collect()
}

fn count_mismatches(report: &Report) -> Vec<Warning> {
    let mismatches = report.cells.iter().filter_map(|cell| {
        let server = cell.server.as_ref()?;
        let counted = server.counted.filter(|&counted| counted != server.expected)?;
        Some((cell.lane, format!("{} ({} answered, {counted} counted)", cell.load, server.expected)))
    });
    each_lane(
        "server-count-mismatch",
        Severity::Error,
        mismatches,
        |cells| format!("the server counted other requests than were sent: {cells}"),
        "Something else uses the server, or the metrics belong to another one: server-side times are not this run's.",
    )
}

fn missing_counters(report: &Report) -> Vec<Warning> {
    let missing = report.cells.iter().filter_map(|cell| Some((cell.lane, cell.server_missing.as_deref()?)));
    by_lane(missing)
        .into_iter()
        .map(|(lane, reasons)| {
            warning(
                "no-server-counters",
                Severity::Note,
                vec![lane],
                format!("server-side times are unknown in {} cells: {}", reasons.len(), reasons[0]),
                "Point the service's metrics flag at its Prometheus page.",
            )
        })
        .collect()
}

fn cold_starts(report: &Report) -> Vec<Warning> {
    let cold = report.cells.iter().filter_map(|cell| {
        let median_us = cell.latency_ms.as_ref()?.p50.value * 1e3;
        let first = cell.blocks.iter().filter(|block| block.samples > 1).find_map(|block| {
            let samples = cell.samples.latency_us.get(block.first..block.first + block.samples)?;
            let largest = samples.iter().copied().fold(0.0, f64::max);
            (samples[0] >= largest && samples[0] > COLD_START_FACTOR * median_us).then_some(samples[0])
        })?;
        Some((cell.lane, format!("{} ({:.1} ms, p50 {:.1} ms)", cell.load, first / 1e3, median_us / 1e3)))
    });
    each_lane(
        "cold-start",
        Severity::Warning,
        cold,
        |cells| format!("the first measured request was far slower than the rest: {cells}"),
        "Something was still warming up (an engine build, a cache): raise --warmup.",
    )
}

/// A mean in the server above the slowest request that the client saw.
fn engine_builds(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| {
        let (mean, max) = (cell.server.as_ref()?.compute_infer_ms, cell.latency_ms.as_ref()?.max);
        (mean > max)
            .then(|| (cell.lane, format!("{} (mean compute {mean:.1} ms, slowest request {max:.1} ms)", cell.load)))
    });
    each_lane(
        "engine-build-in-window",
        Severity::Error,
        found,
        |cells| format!("the server's compute time cannot be that of the measured requests: {cells}"),
        "An engine was built, or other requests ran, while the counters did: warm every shape before measuring.",
    )
}

fn gaps(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| {
        let waterfall = cell.waterfall.as_ref().filter(|waterfall| !waterfall.adds_up())?;
        let (sum, latency) = (waterfall.sum_ms, waterfall.latency_ms);
        Some((cell.lane, format!("{} ({sum:.2} of {latency:.2} ms, {:+.0} %)", cell.load, waterfall.gap * 100.0)))
    });
    each_lane(
        "parts-do-not-add-up",
        Severity::Warning,
        found,
        |cells| format!("the parts of the latency miss it by more than {:.0} %: {cells}", TOLERANCE * 100.0),
        "Too much: the server counts time that is not in these requests. Too little: the client was held up between its \
         own marks; leave it a CPU of its own.",
    )
}

fn link_bound(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| {
        let share = cell.server_ms()? / cell.latency_ms.as_ref()?.mean.value;
        (share < LINK_BOUND_SHARE).then(|| (cell.lane, format!("{} ({:.1} %)", cell.load, share * 100.0)))
    });
    each_lane(
        "link-bound",
        Severity::Warning,
        found,
        |cells| format!("the server accounts for next to nothing of the latency: {cells}"),
        "These cells measured the way to the server: compare servers by their own times, or measure from nearby.",
    )
}

fn client_saturated(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| {
        let workers = cell.load.workers().min(report.environment.cores).max(1);
        let share = cell.client_cpu_s? / cell.wall_s / workers as f64;
        (share > SATURATED_SHARE).then(|| (cell.lane, format!("{} ({:.0} %)", cell.load, share * 100.0)))
    });
    each_lane(
        "client-saturated",
        Severity::Warning,
        found,
        |cells| format!("the client worked most of the time, of the CPU time that its workers can use: {cells}"),
        "Its own work is in the latency: give it more CPUs, fewer workers, or a machine of its own.",
    )
}

fn queue_delays(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter(|cell| matches!(cell.load, Load::Serial { .. })).filter_map(|cell| {
        let delay_us =
            report.lanes.iter().find(|info| info.lane == cell.lane)?.max_queue_delay_us.filter(|&us| us > 0)?;
        let delay_ms = delay_us as f64 / 1e3;
        let queue_ms = cell.waterfall.as_ref()?.ms(Part::Queue)?;
        let waits = DELAY_RANGE.contains(&(queue_ms / delay_ms));
        waits.then(|| (cell.lane, format!("{} ({queue_ms:.2} ms, max_queue_delay {delay_ms:.2} ms)", cell.load)))
    });
    each_lane(
        "queue-equals-delay",
        Severity::Warning,
        found,
        |cells| format!("lone requests wait for batch mates that cannot come: {cells}"),
        "That is the batcher's delay, not overhead of the server: set max_queue_delay to 0 to measure latency.",
    )
}

fn unstable(report: &Report) -> Vec<Warning> {
    let found = report.cells.iter().filter_map(|cell| {
        let values = Metric::Latency(Statistic::Median).values(cell)?;
        let blocks = values.into_iter().filter(|block| block.len() >= UNSTABLE_SAMPLES);
        let medians: Vec<f64> = blocks.filter_map(|mut block| stats::median(&mut block)).collect();
        let (low, high) =
            (medians.iter().copied().fold(f64::INFINITY, f64::min), medians.iter().copied().fold(0.0, f64::max));
        let moves = medians.len() > 1 && high > UNSTABLE * low;
        moves.then(|| (cell.lane, format!("{} ({low:.1} to {high:.1} ms)", cell.load)))
    });
    each_lane(
        "unstable",
        Severity::Warning,
        found,
        |cells| format!("the median moves from block to block: {cells}"),
        "Something else uses the machine or the link. Differences are paired and survive it; single figures do not.",
    )
}

fn unpaired(report: &Report) -> Vec<Warning> {
    let unpaired = report.differences.iter().filter(|difference| !difference.difference.paired);
    let (mut loads, mut lanes) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for difference in unpaired {
        loads.insert(difference.load);
        lanes.extend([difference.a, difference.b]);
    }
    if loads.is_empty() {
        return Vec::new();
    }
    vec![warning(
        "not-paired",
        Severity::Note,
        lanes.into_iter().collect(),
        format!("each lane has one block in {}: drift of the machine cannot be told from the lanes", list(loads)),
        "Read no difference out of these figures: the lanes must take turns, several times.",
    )]
}

fn reconnects(report: &Report) -> Vec<Warning> {
    let reopened = report.cells.iter().filter(|cell| cell.reconnects > 0);
    by_lane(reopened.map(|cell| (cell.lane, cell)))
        .into_iter()
        .map(|(lane, cells)| {
            let count: u64 = cells.iter().map(|cell| cell.reconnects).sum();
            warning(
                "reconnected",
                Severity::Warning,
                vec![lane],
                format!(
                    "{count} connections were opened while measuring, in {}: their latency includes it",
                    list(cells.iter().map(|cell| cell.load))
                ),
                "Find out why the server closes connections (keep-alive limits, errors).",
            )
        })
        .collect()
}

fn few_samples(report: &Report) -> Vec<Warning> {
    let lanes_with = |fewer_than: usize| {
        by_lane(
            report
                .cells
                .iter()
                .filter(|cell| (cell.completed as usize) < fewer_than)
                .map(|cell| (cell.lane, cell.load)),
        )
    };
    let none = lanes_with(FEWEST_SAMPLES).into_iter().map(|(lane, loads)| {
        warning(
            "too-few-samples",
            Severity::Warning,
            vec![lane],
            format!("fewer than {FEWEST_SAMPLES} samples in {}: the intervals mean little", list(loads)),
            "Raise --iterations or --duration.",
        )
    });
    let needed = stats::samples_needed(0.99);
    let tails = lanes_with(needed);
    let loads: std::collections::BTreeSet<Load> = tails.values().flatten().copied().collect();
    let tail = (!tails.is_empty()).then(|| {
        warning(
            "too-few-samples-for-p99",
            Severity::Note,
            tails.keys().copied().collect(),
            format!("p99 is not given with fewer than {needed} samples: {}", list(loads)),
            "Raise --iterations or --duration if the tail matters.",
        )
    });
    none.chain(tail).collect()
}

fn debug_build(report: &Report) -> Vec<Warning> {
    if report.environment.optimised {
        return Vec::new();
    }
    vec![warning(
        "unoptimised-client",
        Severity::Warning,
        Vec::new(),
        "quintet-bench was built without optimisation: its own work weighs on every figure".into(),
        "Build it with --release.",
    )]
}

#[cfg(test)]
mod tests;
