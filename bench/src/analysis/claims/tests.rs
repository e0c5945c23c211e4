use super::*;
use crate::fixture;
use crate::model::lane::Lane;

fn judged(claim: &str) -> Judged {
    let mut report = fixture::report();
    report.settings.hypotheses = vec![claim.parse().unwrap()];
    judge(&report).pop().unwrap().claims.remove(0)
}

#[test]
fn the_studys_hypotheses_are_judged() {
    let report = fixture::report();
    let verdicts: Vec<_> = report
        .hypotheses
        .iter()
        .map(|f| {
            format!(
                "{}: {} ({} claims){}",
                f.name,
                f.verdict.name(),
                f.claims.len(),
                f.reason.as_ref().map_or(String::new(), |r| format!(", {r}"))
            )
        })
        .collect();
    insta::assert_snapshot!(verdicts.join("\n"), @r"
    H1: refuted (2 claims)
    H2: inconclusive (2 claims)
    H3: inconclusive (2 claims)
    H4: refuted (16 claims)
    H5: inconclusive (0 claims), this needs two GPUs: compare this report with one of another GPU
    user: supported (1 claims)
    ");
}

#[test]
fn claims_with_clear_differences_get_a_verdict() {
    assert_eq!(judged("p50(onnx-http) < p50(onnx-grpc) @ batch=8").verdict, Verdict::Supported);
    assert_eq!(judged("p50(onnx-http) > p50(onnx-grpc) @ batch=8").verdict, Verdict::Refuted);
    assert_eq!(judged("p50(trt-http) < 0.6 * p50(onnx-http)").verdict, Verdict::Supported);
    assert_eq!(judged("p50(trt-http) < 0.4 * p50(onnx-http)").verdict, Verdict::Refuted);
    assert_eq!(judged("p50(trt-http) ~ 10% p50(trt-grpc)").verdict, Verdict::Supported);
    assert_eq!(judged("p50(trt-http) ~ 10% p50(onnx-grpc)").verdict, Verdict::Refuted);
    assert_eq!(judged("p50(onnx-http) ~ 25% 2 * p50(trt-http)").verdict, Verdict::Supported, "the factor counts");
    assert_eq!(judged("infer(onnx-http) ~ 10% infer(onnx-grpc)").verdict, Verdict::Supported);
    assert_eq!(judged("throughput(trt-http) > throughput(onnx-http) @ concurrency=8").verdict, Verdict::Supported);
}

#[test]
fn an_inconclusive_claim_states_the_samples_needed() {
    let close = judged("p50(trt-http) < p50(trt-grpc)");
    assert_eq!(close.verdict, Verdict::Inconclusive);
    let effect = close.effect.unwrap().difference;
    assert!(effect.low < 0.0 && 0.0 < effect.high);
    let needs = close.needs.unwrap();
    assert!(needs.blocks > 6 && needs.requests == 5 * needs.blocks, "{needs:?}");
}

#[test]
fn what_was_not_measured_is_not_judged() {
    let reason = |claim| judged(claim).reason.unwrap();
    assert_eq!(reason("p50(jpeg) < p50(trt-grpc) @ batch=4"), "jpeg was not measured at serial b=4");
    assert_eq!(reason("infer(jpeg) < infer(onnx-http)"), "infer is not known on both lanes");
}

#[test]
fn one_block_gives_no_verdict() {
    let mut report = fixture::report();
    for cell in &mut report.cells {
        cell.blocks.truncate(1);
    }
    let claim: Hypothesis = "p50(trt-http) < p50(onnx-http)".parse().unwrap();
    let judged = claim.judge(&report);
    assert!(judged.effect.unwrap().is_clear() && judged.verdict == Verdict::Inconclusive);
    assert!(judged.reason.unwrap().starts_with("one block"));
}

/// 30 requests say nothing about the slowest 1 % of all.
#[test]
fn a_tail_gets_no_verdict_from_few_samples() {
    for (claim, fewest) in [("p99(trt-http) < p99(onnx-http)", 662), ("p95(trt-http) < p95(onnx-http)", 130)] {
        let judged = judged(claim);
        assert!(judged.effect.unwrap().is_clear() && judged.verdict == Verdict::Inconclusive, "{claim}");
        assert_eq!(judged.needs.unwrap().requests, fewest);
        assert!(judged.reason.unwrap().ends_with("requests for each lane, there are 30"));
    }
}

#[test]
fn all_claims_must_hold() {
    use Verdict::{Inconclusive, Refuted, Supported};
    assert_eq!(Verdict::all([Supported, Supported]), Supported);
    assert_eq!(Verdict::all([Supported, Inconclusive]), Inconclusive);
    assert_eq!(Verdict::all([Supported, Inconclusive, Refuted]), Refuted);
    assert_eq!(Verdict::all([]), Inconclusive);
}

/// Two GPUs: the same transport, a model that takes half the time.
#[test]
fn h5_needs_two_reports() {
    let slow = fixture::report();
    let mut fast = slow.clone();
    assert_eq!(fast.cells[1].lane, Lane::ONNX_HTTP);
    let waterfall = fast.cells[1].waterfall.as_mut().unwrap();
    for time in &mut waterfall.parts {
        if time.part == crate::model::part::Part::Infer {
            let saved = time.ms.unwrap().value / 2.0;
            time.ms = time.ms.map(|ms| ms.scaled(0.5));
            waterfall.latency_ms -= saved;
        }
    }
    let h5 = |a, b| crate::study::hypotheses::slower_gpu_smaller_transport(a, b, Lane::ONNX_HTTP);
    assert_eq!(h5(&slow, &fast), Some(Verdict::Supported));
    assert_eq!(h5(&slow, &slow), Some(Verdict::Inconclusive));
    assert_eq!(crate::study::hypotheses::slower_gpu_smaller_transport(&slow, &fast, Lane::JPEG), None);

    // The verdict counts only between GPUs that both servers name and that differ.
    let across = |gpus: [&str; 2]| {
        let [mut slow, mut fast] = [slow.clone(), fast.clone()];
        for (report, gpu) in [&mut slow, &mut fast].into_iter().zip(gpus) {
            report.lanes[1].machine.gpus = Some(gpu.to_owned()).filter(|gpu| !gpu.is_empty()).into_iter().collect();
        }
        let all = crate::study::hypotheses::across_gpus(&slow, &fast);
        all.into_iter().find(|(lane, ..)| *lane == Lane::ONNX_HTTP).map(|(_, verdict, why)| (verdict, why)).unwrap()
    };
    assert_eq!(across(["A", "B"]), (Verdict::Supported, "A and B".into()));
    assert_eq!(across(["A", "A"]), (Verdict::Inconclusive, "both ran on A".into()));
    assert_eq!(across(["A", ""]), (Verdict::Inconclusive, "a server did not name a GPU".into()));
}
