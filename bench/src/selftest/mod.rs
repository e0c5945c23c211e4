//! Proves that the benchmark measures correctly, against servers whose behaviour is known.
//!
//! Statistics are proved in virtual time ([`simulate`]) with the real plan, pairing and open loop, thousands of
//! requests in a moment. Proofs that need real sockets run against a [`server`] on loopback.

pub mod queueing;
pub mod sequential;
pub mod server;
pub mod simulate;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use quintet_http2::frame::DEFAULT_MAX_FRAME_BYTES;
use tokio_util::sync::CancellationToken;

use crate::{
    analysis::{
        checks::{self, client::alike},
        pairing::{Pair, paired},
        stats::quantile,
    },
    client::{
        call::{CallError, Prepared},
        endpoint::Endpoint,
        grpc, http,
        inference::Inference,
        target::Target,
    },
    model::{
        arrivals::{Arrivals, Rate, intended},
        block::MeasuredBlock,
        cell::OpenLoopFigures,
        difference::Difference,
        encoding::IMAGE_BYTES,
        estimate::Statistic,
        hypothesis::Verdict,
        lane::Lane,
        limits::Limits,
        load::Load,
        part::Part,
        protocol::Protocol,
        samples::Samples,
        settings::Settings,
        until_decided::MARGIN,
        variant::Variant,
        waterfall::Waterfall,
    },
    run::{
        client_cost::{Kind, SUITE_FRAME_BYTES, client_costs},
        clock::RunClock,
        lane_client::LaneClient,
        timed::Timed,
    },
    selftest::{
        queueing::{Coverage, concurrent_trial, coverage},
        sequential::{Ended, real_trial},
        server::{Script, Server, Stages},
        simulate::{Latency, Surplus, stalled, trial},
    },
};

/// Latency of the scripted server in trials.
const LATENCY: Latency = Latency { base_ms: 20.0, noise: 0.03, drift: 0.0 };
/// Service time of the scripted server under concurrent load.
const SERVICE: Latency = Latency { base_ms: 5.0, noise: 0.1, drift: 0.0 };
/// Trials of runs until decided and of coverage, as a multiple of the others': their limits are narrower.
const SEQUENTIAL: usize = 5;
/// Trials on real sockets.
const REAL_TRIALS: usize = 20;

/// One claim, and whether it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The claim.
    pub claim: String,
    /// Whether it held.
    pub held: bool,
    /// What was found.
    pub found: String,
}

/// Proofs in virtual time: the same result on every machine.
pub fn fast(trials: usize, seed: u64) -> Vec<Proof> {
    let settings = Settings::default();
    let run = |latency, surplus| -> Vec<Difference> {
        (0..trials as u64).filter_map(|i| trial(&settings, latency, surplus, seed.wrapping_add(i))).collect()
    };
    let drifting = Latency { drift: 0.3, ..LATENCY };
    let (same, drifted) = (run(LATENCY, Surplus::None), run(drifting, Surplus::None));
    let (factor, extra) = (run(LATENCY, Surplus::Factor(1.05)), run(LATENCY, Surplus::Extra(2.0)));
    let concurrent = |latency, surplus| -> Vec<Difference> {
        let trial = |i| concurrent_trial(&settings, latency, surplus, seed.wrapping_add(i));
        (0..trials as u64).filter_map(trial).collect()
    };
    let (same_8, drifted_8) =
        (concurrent(SERVICE, Surplus::None), concurrent(Latency { drift: 0.3, ..SERVICE }, Surplus::None));
    let slower_8 = concurrent(SERVICE, Surplus::Factor(1.05));
    let rises = |d: &Difference| d.difference.low > 0.0;
    let mut proofs = vec![
        rarely("identical lanes: a difference is reported in at most 5 % of trials, plus sampling error", &same),
        rarely("identical lanes on a machine that slows down by 30 %: the same limit", &drifted),
        often("a lane that is 5 % slower is found in at least 95 % of trials", &factor, rises),
        often("a lane that is 2 ms slower is found in at least 95 % of trials", &extra, rises),
        covers("the interval of the ratio contains 1.05 in 95 ± 3 % of trials", &factor, |d| {
            d.ratio.is_some_and(|ratio| ratio.low <= 1.05 && 1.05 <= ratio.high)
        }),
        covers("the interval of the difference contains 2 ms in 95 ± 3 % of trials", &extra, |d| {
            d.difference.low <= 2.0 && 2.0 <= d.difference.high
        }),
        rarely("identical lanes under 8 workers: the same limit for throughput", &same_8),
        rarely("identical lanes under 8 workers on a machine that slows down by 30 %: the same limit", &drifted_8),
        often("under 8 workers, a lane that is 5 % slower is found in at least 95 % of trials", &slower_8, |d| {
            d.difference.high < 0.0
        }),
        virtual_stall(seed),
    ];
    proofs.extend(until_decided(SEQUENTIAL * trials, seed));
    let trials = SEQUENTIAL * trials;
    proofs.extend(coverage(trials, seed).into_iter().map(|Coverage { quantity, covered }| Proof {
        claim: format!("requests that queue (M/M/1, half the time busy): the interval of {quantity} contains the truth in 95 ± 2 % of trials"),
        held: (covered - 0.95).abs() <= 0.02 + sampling_error(trials),
        found: format!("contained in {:.1} % of {trials}", covered * 100.0),
    }));
    proofs
}

/// Runs until decided, which look at their intervals after each block.
fn until_decided(trials: usize, seed: u64) -> Vec<Proof> {
    let serial = Load::Serial { batch: 1 };
    let concurrent = Load::Concurrent { concurrency: 8, batch: 1 };
    let run = |load, latency, surplus, margin| -> Vec<Ended> {
        let trial = |i| sequential::trial(load, latency, surplus, margin, seed.wrapping_add(i));
        (0..trials as u64).filter_map(trial).collect()
    };
    // Without a margin nothing ends these runs but a false verdict.
    let rarely = |name: &str, load, latency| {
        let ended = run(load, Latency { drift: 0.3, ..latency }, Surplus::None, 0.0);
        let wrong = ended.iter().filter(|end| matches!(end.verdict, Verdict::Supported | Verdict::Refuted)).count();
        Proof {
            claim: format!(
                "identical lanes {name} on a machine that slows down by 30 %, looked at after each of 100 blocks: a \
                 false verdict in at most 5 % of trials"
            ),
            held: !ended.is_empty() && wrong * 20 <= ended.len(),
            found: format!("false in {wrong} of {}", ended.len()),
        }
    };
    vec![
        rarely("with serial requests", serial, LATENCY),
        rarely("under 8 workers", concurrent, SERVICE),
        sooner("until decided under 8 workers", &run(concurrent, SERVICE, Surplus::Factor(1.05), MARGIN)),
    ]
}

/// Whether the slower second lane was found, and with fewer requests than the fixed length.
fn sooner(name: &str, ended: &[Ended]) -> Proof {
    let found = ended.iter().filter(|end| end.verdict == Verdict::Supported).count();
    let mean = |of: fn(&Ended) -> f64| ended.iter().map(of).sum::<f64>() / ended.len().max(1) as f64;
    let (requests, fixed) = (mean(|end| end.requests as f64), mean(|end| end.fixed_length()));
    let n = ended.len();
    Proof {
        claim: format!(
            "{name}, a lane that is 5 % slower is found in at least 95 % of trials, with fewer requests than the fixed \
             length"
        ),
        held: n > 0 && found * 20 >= n * 19 && requests < fixed,
        found: format!(
            "found in {found} of {n}; {requests:.0} requests in the mean, the fixed length takes {fixed:.0}"
        ),
    }
}

fn share(differences: &[Difference], what: impl Fn(&Difference) -> bool) -> (usize, f64) {
    let count = differences.iter().filter(|d| what(d)).count();
    (count, count as f64 / differences.len().max(1) as f64)
}

/// Two standard errors of a share of 5 % in `trials` trials.
fn sampling_error(trials: usize) -> f64 {
    2.0 * (0.05 * 0.95 / trials.max(1) as f64).sqrt()
}

fn rarely(claim: &str, differences: &[Difference]) -> Proof {
    let (count, part) = share(differences, Difference::is_clear);
    let n = differences.len();
    Proof {
        claim: claim.into(),
        held: n > 0 && part <= 0.05 + sampling_error(n),
        found: format!("reported in {count} of {n}"),
    }
}

fn often(claim: &str, differences: &[Difference], what: impl Fn(&Difference) -> bool) -> Proof {
    let (count, part) = share(differences, what);
    Proof { claim: claim.into(), held: part >= 0.95, found: format!("found in {count} of {}", differences.len()) }
}

fn covers(claim: &str, differences: &[Difference], what: impl Fn(&Difference) -> bool) -> Proof {
    let (count, part) = share(differences, what);
    let held = (part - 0.95).abs() <= 0.03;
    Proof { claim: claim.into(), held, found: format!("contained in {count} of {}", differences.len()) }
}

const STALL_CLAIM: &str = "in an open loop, a stall of the server for 1 s appears in p99 and in the largest latency";

fn stall_proof(form: &str, latencies_ms: &[f64]) -> Proof {
    let (p50, p99, most) = (quantile(latencies_ms, 0.5), quantile(latencies_ms, 0.99), quantile(latencies_ms, 1.0));
    // One second of the schedule stalls: its first request waits for a full second, its last one hardly at all.
    let held = p99.is_some_and(|ms| ms >= 900.0) && most.is_some_and(|ms| ms >= 950.0);
    let ms = |value: Option<f64>| value.map_or("none".into(), |ms| format!("{ms:.0} ms"));
    let found = format!("p50 {}, p99 {}, max {} of {}", ms(p50), ms(p99), ms(most), latencies_ms.len());
    Proof { claim: format!("{STALL_CLAIM} ({form})"), held, found }
}

fn virtual_stall(seed: u64) -> Proof {
    let seconds = Duration::from_secs;
    let Ok(rate) = Rate::per_second(200.0) else { return stall_proof("virtual time", &[]) };
    let schedule = intended(Arrivals::Constant, rate, seconds(4), usize::MAX, seed);
    let (latencies, unsent) = stalled(&schedule, Duration::from_millis(5), (seconds(1), seconds(2)), 64);
    let mut proof = stall_proof("virtual time, 64 in flight", &latencies);
    proof.held &= unsent == 0 && latencies.len() == schedule.len();
    proof
}

/// Proofs on real sockets of this machine.
///
/// # Errors
/// When no server can be started, or no request made.
pub async fn real(seed: u64) -> anyhow::Result<Vec<Proof>> {
    let same = real_trials(Duration::ZERO, seed).await?;
    let slower = real_trials(Duration::from_millis(2), seed).await?;
    Ok(vec![
        rarely("identical lanes on real sockets: the same limit as in virtual time", &same),
        often("on real sockets, a lane that is 2 ms slower is found in at least 95 % of trials", &slower, |d| {
            d.difference.low > 0.0
        }),
        stages(seed).await?,
        real_stall(seed).await?,
        real_until_decided(seed).await?,
        overhead(seed).await?,
        cost(seed).await?,
    ])
}

/// Runs with 8 workers until decided, at servers that take one request at a time for 2 ms, the second 5 % longer.
async fn real_until_decided(seed: u64) -> anyhow::Result<Proof> {
    let delay = Duration::from_millis(2);
    let script = Script { delay, one_at_a_time: true, ..Script::default() };
    let (_first, a, requests) = lane(Lane::ONNX_HTTP, script).await?;
    let (_second, b, others) = lane(Lane::TRT_HTTP, Script { delay: delay.mul_f64(1.05), ..script }).await?;
    let mut lanes = [(a, requests), (b, others)];
    let mut ended = Vec::new();
    for number in 0..REAL_TRIALS as u64 {
        ended.extend(real_trial(&mut lanes, seed.wrapping_add(number)).await?);
    }
    Ok(sooner("on real sockets until decided under 8 workers", &ended))
}

/// States what the client costs over each protocol, so that a difference of that size between lanes is not taken for the
/// server's.
async fn cost(seed: u64) -> anyhow::Result<Proof> {
    let tensor = Bytes::from(vec![0; IMAGE_BYTES]);
    let kind = |lane, max_frame_bytes| {
        let endpoint = Endpoint::local(1);
        let target = Target { lane, endpoint: endpoint.clone(), metrics: endpoint, model: "null".into() };
        let request = match Protocol::of(lane) {
            Protocol::KserveGrpc => grpc::infer_request(&target, &Inference::plain(1, tensor.clone()))?,
            _ => http::infer_request(&target, &Inference::plain(1, tensor.clone()))?,
        };
        Ok::<_, CallError>(Kind { lane, max_frame_bytes, requests: Arc::new([request]) })
    };
    let kinds = [
        kind(Lane::ONNX_HTTP, SUITE_FRAME_BYTES)?,
        kind(Lane::ONNX_GRPC, SUITE_FRAME_BYTES)?,
        kind(Lane::ONNX_GRPC, DEFAULT_MAX_FRAME_BYTES)?,
    ];
    let costs = client_costs(&kinds).await?;
    let [http, grpc, short_frames] = &costs[..] else { anyhow::bail!("three kinds of requests are measured") };
    let pairs: Vec<Pair<'_>> = grpc.iter().zip(http).map(|(a, b)| (&a[..], &b[..])).collect();
    let difference = paired(&pairs, Statistic::Median, 1.0, seed).context("nothing was measured")?.difference;
    let median = |blocks: &[Vec<f64>]| Statistic::Median.of(&mut blocks.concat()).context("nothing was measured");
    let (http_ms, grpc_ms, short_ms) = (median(http)?, median(grpc)?, median(short_frames)?);
    let alike = if alike(http_ms, grpc_ms) { "within 10 %" } else { "more than 10 % apart: each report states it" };
    Ok(Proof {
        claim: "the cost of the client for a request with one image, at servers without a model, is known for HTTP and gRPC"
            .into(),
        held: http_ms > 0.0 && grpc_ms > 0.0,
        found: format!(
            "HTTP {http_ms:.3} ms, gRPC {grpc_ms:.3} ms ({alike}; gRPC − HTTP {:+.3} ms, {:+.3} to {:+.3}); gRPC to a server \
             that takes frames of 16 KiB {short_ms:.3} ms",
            difference.value, difference.low, difference.high
        ),
    })
}

/// A lane of a scripted server.
async fn lane(lane: Lane, script: Script) -> anyhow::Result<(Server, LaneClient, Arc<[Prepared]>)> {
    let server = Server::start(script).await?;
    let endpoint: Endpoint = server.address.to_string().parse()?;
    let target = Target { lane, endpoint: endpoint.clone(), metrics: endpoint.clone(), model: "scripted".into() };
    let request = http::post(&endpoint, "/", &[], vec![vec![0; 1_000].into()])?;
    Ok((server, LaneClient::new(&target, Variant::plain(lane), Limits::default(), clock()), Arc::new([request])))
}

fn clock() -> RunClock {
    RunClock::start(CancellationToken::new())
}

/// Trials of two lanes with 5 ms each, the second with `extra` on top, in the default plan.
async fn real_trials(extra: Duration, seed: u64) -> anyhow::Result<Vec<Difference>> {
    let delay = Duration::from_millis(5);
    let (_first, mut a, requests) = lane(Lane::ONNX_HTTP, Script { delay, ..Script::default() }).await?;
    let (_second, mut b, others) = lane(Lane::TRT_HTTP, Script { delay: delay + extra, ..Script::default() }).await?;
    let defaults = Settings::default();
    let mut differences = Vec::new();
    for number in 0..REAL_TRIALS as u64 {
        let settings =
            Settings { batches: vec![1], concurrency: Vec::new(), seed: seed.wrapping_add(number), ..defaults.clone() };
        let plan = crate::run::plan::Plan::new(&settings, &[Lane::ONNX_HTTP, Lane::TRT_HTTP]);
        let mut blocks: [Vec<Vec<f64>>; 2] = [Vec::new(), Vec::new()];
        for block in plan.stages.iter().flat_map(|stage| &stage.blocks) {
            let crate::run::plan::Work::Requests(n) = block.work else { continue };
            let second = block.variant.lane == Lane::TRT_HTTP;
            let (client, requests) = if second { (&mut b, &others) } else { (&mut a, &requests) };
            let block = client.block(requests, 0..n, |_| {}).await?;
            blocks[usize::from(second)].push(latencies_ms(&block));
        }
        let [first, second] = &blocks;
        let pairs: Vec<Pair<'_>> = second.iter().zip(first).map(|(b, a)| (&b[..], &a[..])).collect();
        differences.extend(paired(&pairs, Statistic::Median, 1.0, seed));
    }
    Ok(differences)
}

fn latencies_ms(block: &MeasuredBlock) -> Vec<f64> {
    block.recorder.samples().iter().map(|sample| sample.latency.as_secs_f64() * 1e3).collect()
}

/// Largest relative deviation of a part from the delay injected into it.
const PART_TOLERANCE: f64 = 0.05;

/// Injects a delay into one stage at a time, in addition to 1 ms in each, and compares it with the increase of that
/// part.
async fn stages(seed: u64) -> anyhow::Result<Proof> {
    let (base, extra) = (Duration::from_millis(1), Duration::from_millis(100));
    let plain = Stages { receive: base, queue: base, infer: base, send: base };
    let injected = [
        (Part::Receive, Stages { receive: base + extra, ..plain }),
        (Part::Queue, Stages { queue: base + extra, ..plain }),
        (Part::Infer, Stages { infer: base + extra, ..plain }),
        (Part::Download, Stages { send: base + extra, ..plain }),
    ];
    let without = waterfall(plain, seed).await?;
    let (mut held, mut found) = (true, Vec::new());
    for (part, stages) in injected {
        let with = waterfall(stages, seed).await?;
        let increase = |part| with.ms(part).zip(without.ms(part)).map_or(f64::NAN, |(with, without)| with - without);
        let expected = extra.as_secs_f64() * 1e3;
        let others = Part::ALL.into_iter().filter(|other| *other != part).map(increase).filter(|ms| ms.is_finite());
        held &= (increase(part) / expected - 1.0).abs() <= PART_TOLERANCE && with.adds_up();
        held &= others.map(f64::abs).fold(0.0, f64::max) <= PART_TOLERANCE * expected;
        found.push(format!("{} {:.1} ms", part.name(), increase(part)));
    }
    let claim = "a delay of 100 ms in receive, queue, compute or send appears in that part of the waterfall (send: in \
                 the download) within 5 %, and in no other part";
    Ok(Proof { claim: claim.into(), held, found: found.join(", ") })
}

/// The waterfall of a few requests with delays in the server's stages.
async fn waterfall(stages: Stages, seed: u64) -> anyhow::Result<Waterfall> {
    let script = Script { stages: Some(stages), ..Script::default() };
    let (_server, mut client, requests) = lane(Lane::ONNX_HTTP, script).await?;
    let block = client.block(&requests, 0..5, |_| {}).await?;
    let samples = Samples::new(block.recorder.samples());
    Waterfall::new(&samples, &[], &[], seed).context("no request was answered")
}

async fn open_window(
    script: Script,
    rate: f64,
    length: Duration,
    ramp: Duration,
    seed: u64,
) -> anyhow::Result<MeasuredBlock> {
    let (_server, mut client, requests) = lane(Lane::ONNX_HTTP, script).await?;
    let rate = Rate::per_second(rate).map_err(anyhow::Error::msg)?;
    let schedule = intended(Arrivals::Constant, rate, ramp + length, usize::MAX, seed).into();
    Ok(client.open_window(requests, schedule, Timed::single(ramp, length), |_| {}).await?)
}

async fn real_stall(seed: u64) -> anyhow::Result<Proof> {
    let seconds = Duration::from_secs;
    let script = Script { delay: Duration::from_millis(5), stall: Some((seconds(1), seconds(2))), ..Script::default() };
    let block = open_window(script, 200.0, seconds(4), Duration::ZERO, seed).await?;
    let mut latencies = latencies_ms(&block);
    latencies.sort_unstable_by(f64::total_cmp);
    Ok(stall_proof("real sockets", &latencies))
}

/// Whether requests are sent on schedule at 5,000 per second, or otherwise whether the report warns.
async fn overhead(seed: u64) -> anyhow::Result<Proof> {
    let length = Duration::from_secs(3);
    let block = open_window(Script::default(), 5_000.0, length, Duration::from_millis(500), seed).await?;
    let rate = Rate::per_second(5_000.0).map_err(anyhow::Error::msg)?;
    let load = Load::Open { arrivals: Arrivals::Constant, rate, batch: 1 };
    let open = OpenLoopFigures::new(&[block], load, seed);
    let lag = open.as_ref().and_then(|open| open.lag_ms).map_or(f64::INFINITY, |[_, p99, _]| p99);
    let warned = open.as_ref().is_none_or(checks::load::is_late);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let found = match lag < checks::load::LAG_BOUND_MS {
        true => format!("p99 lag {lag:.2} ms on {cores} cores"),
        false => {
            let warns = if warned { "warns" } else { "does not warn" };
            format!("not on schedule: p99 lag {lag:.2} ms on {cores} cores; the report {warns}")
        }
    };
    Ok(Proof {
        claim: "at 5,000 requests/s requests are sent on schedule (p99 lag under 1 ms), or the report warns".into(),
        held: lag < checks::load::LAG_BOUND_MS || warned,
        found,
    })
}

/// The proofs as a table.
pub fn table(proofs: &[Proof]) -> String {
    use std::fmt::Write as _;
    let mut text = "| | Claim | Found |\n|---|---|---|\n".to_owned();
    for Proof { claim, held, found } in proofs {
        let _ = writeln!(text, "| {} | {claim} | {found} |", if *held { "ok" } else { "FAILED" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_proved_in_virtual_time() {
        let failed: Vec<_> = fast(200, 1).into_iter().filter(|proof| !proof.held).collect();
        assert!(failed.is_empty(), "{}", table(&failed));
    }

    /// A delay is never shorter than scripted. The command shows how close it comes, on an idle machine.
    #[tokio::test(flavor = "multi_thread")]
    async fn delays_appear_in_their_part() {
        for (part, stages) in [
            (Part::Receive, Stages { receive: Duration::from_millis(60), ..Stages::default() }),
            (Part::Queue, Stages { queue: Duration::from_millis(60), ..Stages::default() }),
            (Part::Infer, Stages { infer: Duration::from_millis(60), ..Stages::default() }),
            (Part::Download, Stages { send: Duration::from_millis(60), ..Stages::default() }),
        ] {
            let waterfall = waterfall(stages, 1).await.unwrap();
            assert!(waterfall.ms(part).unwrap() >= 59.0, "{} {waterfall:?}", part.name());
            assert!(waterfall.adds_up(), "{} {waterfall:?}", part.name());
        }
    }

    /// A closed loop sends one request and waits, so a stall of a second would be one sample of hundreds.
    #[test]
    fn requests_above_the_limit_count_as_unsent() {
        let seconds = Duration::from_secs;
        let schedule = intended(Arrivals::Constant, Rate::per_second(100.0).unwrap(), seconds(2), usize::MAX, 1);
        let (latencies, unsent) = stalled(&schedule, Duration::from_millis(50), (seconds(1), seconds(3)), 1);
        assert_eq!(latencies.len() + unsent, schedule.len());
        assert!(unsent > 100, "{unsent}");
    }
}
