//! Sends and times one request; compares the server's counters before and after.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{call::Prepared, clients::Client},
    model::{counters::Counters, record::Recorder, sample::Sample},
    run::{clock::RunClock, effort::Effort},
};

/// How often a window reports its progress.
const TICK: Duration = Duration::from_millis(250);

/// Sends one request and writes down what became of it.
pub(super) async fn send(client: &mut Client, request: &Prepared, recorder: &mut Recorder, clock: &RunClock) {
    let sent = Instant::now();
    let outcome = tokio::select! {
        biased;
        () = clock.cancel.cancelled() => {
            recorder.abandoned += 1;
            return;
        }
        outcome = client.infer(request) => outcome,
    };
    let latency = sent.elapsed();
    client.settle().await;
    match outcome {
        Ok(reply) => {
            recorder.response_bytes = reply.body_bytes();
            let start = sent - clock.epoch;
            let stages = reply.stage_times();
            recorder.add(Sample { start, latency, lag: Duration::ZERO, marks: reply.marks, stages });
        }
        Err(error) => recorder.failures.add(error.kind(), &error),
    }
}

/// What was counted between two readings.
pub(super) fn between(before: &Result<Counters, String>, after: &Result<Counters, String>) -> Result<Counters, String> {
    let (before, after) = (before.as_ref().map_err(Clone::clone)?, after.as_ref().map_err(Clone::clone)?);
    after.since(before).ok_or_else(|| "the server's counters fell: it was restarted".to_owned())
}

/// The server's count of answered requests, where the client knows which requests were answered:
/// one that was abandoned, or lost on the way, may or may not have been.
pub(super) fn counted(recorder: &Recorder, idle: &Result<Counters, String>) -> Option<u64> {
    let known = recorder.abandoned == 0 && recorder.failures.kinds.keys().all(|kind| kind == "status");
    known.then(|| idle.as_ref().ok().map(|counters| counters.requests)).flatten()
}

/// Waits, telling the progress, until the time is over or the sign is given.
pub(super) async fn wait(time: Duration, stop: &CancellationToken, progress: &mut impl FnMut(Effort)) {
    let start = Instant::now();
    let mut told = Duration::ZERO;
    while told < time {
        let step = TICK.min(time - told);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep((told + step).saturating_sub(start.elapsed())) => {}
        }
        told += step;
        progress(Effort { windows: step, ..Effort::default() });
    }
}
