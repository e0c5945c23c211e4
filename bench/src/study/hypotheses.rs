//! The study's five hypotheses as claims about a report.
//!
//! They come from the study's section "Hypotheses vs Actual". For its "large" batches and "high" concurrency, the
//! largest measured value is used.

use crate::{
    analysis::conclude,
    model::{
        estimate::Statistic,
        hypothesis::{Finding, Hypothesis, Judged, Relation, Verdict},
        lane::Lane,
        load::Load,
        metric::Metric,
        part::{Location, Part},
        report::Report,
        settings::Settings,
        words::list,
    },
};

/// The HTTP and the gRPC lane of each service.
const PAIRS: [(Lane, Lane); 2] = [(Lane::ONNX_HTTP, Lane::ONNX_GRPC), (Lane::TRT_HTTP, Lane::TRT_GRPC)];
/// The study's "≈": within 5 %.
const ABOUT: Relation = Relation::Within(0.05);
const P50: Metric = Metric::Latency(Statistic::Median);

/// A hypothesis: its name, its statement, and the claims that it consists of.
type Question = (&'static str, &'static str, Vec<Hypothesis>);

/// H1 to H4 for the lanes and loads of a run.
fn questions(settings: &Settings, lanes: &[Lane]) -> [Question; 4] {
    let serial = || settings.batches.iter().map(|&batch| Load::Serial { batch });
    let concurrent = || settings.concurrency.iter().map(|&concurrency| Load::Concurrent { concurrency, batch: 1 });
    let measured = |lane| lanes.contains(&lane);
    let claim = |metric, left, relation, right, load| Hypothesis { metric, left, relation, factor: 1.0, right, load };
    // One claim for each service whose two lanes were measured.
    let pairs = |metric, relation, load: Option<Load>| -> Vec<Hypothesis> {
        PAIRS
            .into_iter()
            .filter(|&(http, grpc)| measured(http) && measured(grpc))
            .filter_map(|(http, grpc)| Some(claim(metric, grpc, relation, http, load?)))
            .collect()
    };
    let wins = |load, metric, relation| {
        let others = Lane::ALL.into_iter().filter(|&lane| lane != Lane::JPEG && measured(lane) && measured(Lane::JPEG));
        others.map(move |lane| claim(metric, Lane::JPEG, relation, lane, load))
    };
    let everywhere = serial()
        .flat_map(|load| wins(load, P50, Relation::Less))
        .chain(concurrent().flat_map(|load| wins(load, Metric::Throughput, Relation::Greater)));
    let single = Load::Serial { batch: 1 };
    [
        ("H1", "gRPC has less overhead for each call (batch 1)", pairs(P50, Relation::Less, Some(single))),
        ("H2", "HTTP and gRPC are alike (within 5 %) for large batches", pairs(P50, ABOUT, serial().next_back())),
        (
            "H3",
            "gRPC wins under high concurrency",
            pairs(Metric::Throughput, Relation::Greater, concurrent().next_back()),
        ),
        ("H4", "The JPEG lane wins everywhere (the input's format dominates)", everywhere.collect()),
    ]
}

/// The claims that a run until decided decides: the user's, or those of H1 to H4.
pub fn to_decide(settings: &Settings, lanes: &[Lane]) -> Vec<Hypothesis> {
    if settings.hypotheses.is_empty() {
        return questions(settings, lanes).into_iter().flat_map(|(_, _, claims)| claims).collect();
    }
    settings.hypotheses.clone()
}

/// H1 to H5.
pub fn findings(report: &Report) -> Vec<Finding> {
    let lanes: Vec<Lane> = report.lanes.iter().map(|info| info.lane).collect();
    let findings =
        questions(&report.settings, &lanes).map(|(name, statement, claims)| finding(report, name, statement, claims));
    let h5 = Finding {
        name: "H5".into(),
        statement: "A slower GPU makes the transport's share of the latency smaller".into(),
        verdict: Verdict::Inconclusive,
        reason: Some(format!(
            "this needs two GPUs: compare this report{} with one of another GPU",
            measured_on(report)
        )),
        claims: Vec::new(),
    };
    findings.into_iter().chain([h5]).collect()
}

/// The GPUs of a report's lanes, each once, in parentheses; empty if none is known.
fn measured_on(report: &Report) -> String {
    let mut gpus: Vec<&String> = report.lanes.iter().flat_map(|info| &info.machine.gpus).collect();
    gpus.sort();
    gpus.dedup();
    if gpus.is_empty() { String::new() } else { format!(" ({})", list(gpus)) }
}

fn finding(report: &Report, name: &str, statement: &str, claims: Vec<Hypothesis>) -> Finding {
    let claims: Vec<Judged> = claims.iter().map(|claim| claim.judge(report)).collect();
    let verdict = Verdict::all(claims.iter().map(|judged| judged.verdict));
    let reason = claims.is_empty().then(|| "its lanes or loads were not measured".into());
    Finding { name: name.into(), statement: statement.into(), verdict, reason, claims }
}

/// H5 from two reports: whether, in a lane's batch-1 cells, the slower model has the smaller share of transport. Judged
/// by the stage times or counters of both; `None` if either report lacks the lane.
pub fn slower_gpu_smaller_transport(a: &Report, b: &Report, lane: Lane) -> Option<Verdict> {
    let figures = |report: &Report| {
        let waterfall = report.cell(lane, Load::Serial { batch: 1 })?.waterfall.as_ref()?;
        let infer = waterfall.parts.iter().find(|time| time.part == Part::Infer)?.ms?;
        // The server reads the body as fast as the link delivers it, so receiving is transport too.
        let server = waterfall.at(Location::Server)? - waterfall.ms(Part::Receive)?;
        Some((infer, 1.0 - server / waterfall.latency_ms))
    };
    let ((infer_a, share_a), (infer_b, share_b)) = (figures(a)?, figures(b)?);
    let clear = infer_a.high < infer_b.low || infer_b.high < infer_a.low;
    Some(match (clear, (infer_a.value > infer_b.value) == (share_a < share_b)) {
        (false, _) => Verdict::Inconclusive,
        (true, true) => Verdict::Supported,
        (true, false) => Verdict::Refuted,
    })
}

/// H5 between two reports, for each lane whose parts both have: the verdict, and between which GPUs.
pub fn across_gpus(first: &Report, other: &Report) -> Vec<(Lane, Verdict, String)> {
    let gpus = |report: &Report, lane| {
        let info = report.lanes.iter().find(|info| info.lane == lane)?;
        (!info.machine.gpus.is_empty()).then(|| list(&info.machine.gpus))
    };
    let named = |report: &Report| report.lanes.iter().any(|info| !info.machine.gpus.is_empty());
    if !named(first) && !named(other) {
        return Vec::new();
    }
    let judged = first.lanes.iter().filter_map(|info| {
        let verdict = slower_gpu_smaller_transport(first, other, info.lane)?;
        Some(match (gpus(first, info.lane), gpus(other, info.lane)) {
            (Some(a), Some(b)) if a != b => (info.lane, verdict, format!("{a} and {b}")),
            (Some(a), Some(_)) => (info.lane, Verdict::Inconclusive, format!("both ran on {a}")),
            _ => (info.lane, Verdict::Inconclusive, "a server did not name a GPU".into()),
        })
    });
    judged.collect()
}

/// Completes a report from its cells, including verdicts on the study's five hypotheses.
pub fn conclude(report: &mut Report) {
    let findings = findings(report);
    conclude::conclude(report, findings);
}
