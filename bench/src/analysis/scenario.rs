//! Judges the cell of a scenario by MLPerf's rules: its result, VALID or INVALID and why. Pure functions.

use crate::{
    analysis::{
        checks::load::{CONCURRENCY_REACHED, in_flight},
        slo::{client_late, verdict},
        stats::{conservative_quantile, quantile},
    },
    model::{
        cell::Cell,
        load::Load,
        scenario::{LEAST_DURATION, Scenario, ScenarioResult},
        slo::Verdict,
        variant::Variant,
    },
};

/// The result of a cell. `bound_ms` is the bound of Server on p99.
pub fn judge(scenario: Scenario, cell: &Cell, bound_ms: f64, interrupted: bool) -> ScenarioResult {
    let mut latencies: Vec<f64> = cell.samples.latency_us.iter().map(|us| us / 1e3).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let queries = match scenario {
        Scenario::Offline => cell.completed * cell.load.batch() as u64,
        _ => cell.completed,
    };
    let at_most = scenario.quantile().and_then(|p| conservative_quantile(&latencies, p));
    let mut invalid = Vec::new();
    if interrupted {
        invalid.push("the run was stopped".to_owned());
    }
    let least = LEAST_DURATION.as_secs_f64();
    if cell.wall_s < least {
        invalid.push(format!("too short: {:.1} s, the rules ask for {least} s", cell.wall_s));
    }
    if queries < scenario.least_queries() {
        let (counted, least) = (scenario.counted(), scenario.least_queries());
        invalid.push(format!("too few {counted}: {queries}, the rules ask for {least}"));
    }
    let unsent = cell.open.as_ref().map_or(0, |open| open.schedule.unsent);
    if cell.failures.count > 0 {
        invalid.push(format!("{} requests failed", cell.failures.count));
    }
    if scenario == Scenario::Server && verdict(&latencies, unsent, bound_ms) != Verdict::Met {
        invalid.push(bound_missed(&latencies, unsent, at_most, bound_ms));
    }
    invalid.extend(client_lag(cell, bound_ms));
    ScenarioResult {
        lane: cell.lane,
        connection: cell.connection,
        payload: cell.payload,
        transport: cell.transport,
        load: Some(cell.load),
        value: match (scenario, cell.load) {
            (Scenario::Offline, _) => cell.images_per_s.map(|rate| rate.value),
            (Scenario::Server, Load::Open { rate, .. }) => Some(rate.get()),
            _ => at_most,
        },
        percentile_ms: scenario.quantile().and_then(|p| quantile(&latencies, p)),
        queries,
        duration_s: cell.wall_s,
        invalid,
    }
}

/// The result of a lane without a rate for Server.
pub fn no_rate(variant: Variant, bound_ms: f64) -> ScenarioResult {
    let Variant { lane, connection, payload, transport } = variant;
    let invalid = vec![format!("no rate was found that keeps p99 within {bound_ms} ms; give one with --target-qps")];
    ScenarioResult {
        lane,
        connection,
        payload: Some(payload),
        transport,
        load: None,
        value: None,
        percentile_ms: None,
        queries: 0,
        duration_s: 0.0,
        invalid,
    }
}

fn bound_missed(latencies: &[f64], unsent: u64, at_most: Option<f64>, bound_ms: f64) -> String {
    let above = latencies.iter().filter(|ms| **ms > bound_ms).count();
    match at_most {
        _ if unsent > 0 => format!("bound missed: {unsent} queries were not sent, because too many were in flight"),
        Some(p99) if p99 > bound_ms => {
            format!("bound missed: p99 may be {p99:.1} ms, the bound is {bound_ms} ms ({above} queries took longer)")
        }
        _ => format!("bound not shown: too few queries for p99, {above} of {} took longer", latencies.len()),
    }
}

/// Why the client, not the server, made the result, if it did.
fn client_lag(cell: &Cell, bound_ms: f64) -> Option<String> {
    if let Some(open) = &cell.open {
        let [_, p99, _] = open.lag_ms.filter(|_| client_late(open, bound_ms))?;
        return Some(format!("client lag: queries were sent up to {p99:.1} ms late (p99)"));
    }
    let (workers, reached) = (cell.load.workers(), in_flight(cell)?);
    (reached < CONCURRENCY_REACHED * workers as f64)
        .then(|| format!("client lag: on average {reached:.2} of {workers} requests were in flight"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture,
        model::{
            arrivals::{Arrivals, Rate},
            block::Offered,
            cell::{BlockSpan, OpenLoopFigures},
            estimate::Estimate,
            lane::Lane,
        },
    };

    /// A cell whose workers send without a pause for `wall_s`; each request takes 10 ms, but for `slow` of them 20 ms.
    fn cell(load: Load, requests: usize, slow: usize, wall_s: f64) -> Cell {
        let mut cell = fixture::report().cells.into_iter().find(|cell| cell.lane == Lane::ONNX_HTTP).unwrap();
        let gap = wall_s * 1e6 / requests as f64 * load.workers() as f64;
        let latency = |i: usize| if i < slow { 20_000.0 } else { 10_000.0 };
        cell.load = load;
        cell.completed = requests as u64;
        cell.wall_s = wall_s;
        cell.images_per_s = Some(Estimate::new(100.0, 99.0, 101.0, requests));
        // In a closed loop the latency is the gap.
        let closed = matches!(load, Load::Concurrent { .. });
        cell.samples.start_us = (0..requests).map(|i| (i / load.workers()) as f64 * gap).collect();
        cell.samples.latency_us = (0..requests).map(|i| if closed { gap } else { latency(i) }).collect();
        cell.blocks = vec![BlockSpan { start_s: 0.0, first: 0, samples: requests, wall_s, completed: None }];
        cell
    }

    fn server(requests: usize, slow: usize, wall_s: f64, lag_ms: f64, unsent: u64) -> Cell {
        let rate = Rate::per_second(requests as f64 / wall_s).unwrap();
        let mut cell = cell(Load::Open { arrivals: Arrivals::Poisson, rate, batch: 1 }, requests, slow, wall_s);
        let schedule =
            Offered { scheduled: requests as u64, completed_meanwhile: requests as u64, unsent, waited: unsent };
        cell.open = Some(OpenLoopFigures {
            offered_per_s: rate.get(),
            achieved_per_s: rate.get(),
            schedule,
            service_ms: None,
            lag_ms: Some([0.0, lag_ms, lag_ms]),
        });
        cell
    }

    const ONE: Load = Load::Concurrent { concurrency: 1, batch: 1 };

    #[test]
    fn a_run_of_full_length_is_valid() {
        let single = judge(Scenario::SingleStream, &cell(ONE, 60_000, 0, 600.0), 15.0, false);
        assert_eq!((single.validity(), single.invalid.len()), ("VALID", 0), "{:?}", single.invalid);
        assert!((single.value.unwrap() - 10.0).abs() < 1e-6 && single.queries == 60_000);
        let load = Load::Concurrent { concurrency: 4, batch: 32 };
        let offline = judge(Scenario::Offline, &cell(load, 24_000, 0, 600.0), 15.0, false);
        assert_eq!((offline.validity(), offline.value, offline.queries), ("VALID", Some(100.0), 768_000));
        let server = judge(Scenario::Server, &server(60_000, 500, 600.0, 0.1, 0), 15.0, false);
        assert_eq!((server.validity(), server.value), ("VALID", Some(100.0)), "{:?}", server.invalid);
        assert_eq!(server.percentile_ms, Some(10.0));
    }

    #[test]
    fn each_broken_rule_has_a_line() {
        let short = judge(Scenario::MultiStream, &cell(ONE, 50, 0, 1.0), 15.0, true);
        let few = judge(Scenario::Offline, &cell(ONE, 100, 0, 600.0), 15.0, false);
        let missed = judge(Scenario::Server, &server(60_000, 900, 600.0, 3.0, 0), 15.0, false);
        let unsent = judge(Scenario::Server, &server(60_000, 0, 600.0, 30.0, 7), 15.0, false);
        let mut failed = cell(ONE, 60_000, 0, 600.0);
        failed.failures.count = 2;
        let failed = judge(Scenario::SingleStream, &failed, 15.0, false);
        let mut idle = cell(ONE, 60_000, 0, 600.0);
        idle.samples.latency_us.iter_mut().for_each(|us| *us /= 2.0);
        let idle = judge(Scenario::SingleStream, &idle, 15.0, false);
        let lines = [short, few, missed, unsent, failed, idle].map(|result| {
            assert_eq!(result.validity(), "INVALID");
            result.invalid.join("\n")
        });
        insta::assert_snapshot!(lines.join("\n---\n"), @r"
        the run was stopped
        too short: 1.0 s, the rules ask for 600 s
        too few queries: 50, the rules ask for 662
        ---
        too few samples: 100, the rules ask for 24576
        ---
        bound missed: p99 may be 20.0 ms, the bound is 15 ms (900 queries took longer)
        client lag: queries were sent up to 3.0 ms late (p99)
        ---
        bound missed: 7 queries were not sent, because too many were in flight
        ---
        2 requests failed
        ---
        client lag: on average 0.50 of 1 requests were in flight
        ");
    }

    #[test]
    fn few_queries_have_no_early_stopping_estimate() {
        let result = judge(Scenario::SingleStream, &cell(ONE, 63, 0, 0.63), 15.0, false);
        assert_eq!(result.value, None);
        assert!((result.percentile_ms.unwrap() - 10.0).abs() < 1e-6);
        assert!(judge(Scenario::SingleStream, &cell(ONE, 64, 0, 0.64), 15.0, false).value.is_some());
    }
}
