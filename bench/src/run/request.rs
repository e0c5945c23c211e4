//! Sends and times one request; subtracts readings of the server's counters.

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

/// Sends one request and records its outcome.
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

/// The counts between two readings.
pub(super) fn between(before: &Result<Counters, String>, after: &Result<Counters, String>) -> Result<Counters, String> {
    let (before, after) = (before.as_ref().map_err(Clone::clone)?, after.as_ref().map_err(Clone::clone)?);
    after.since(before).ok_or_else(|| "the server's counters decreased: it was restarted".to_owned())
}

/// The server's count of answered requests. `None` if a request was abandoned or its connection broke: the client does
/// not know whether the server answered it.
pub(super) fn counted(recorder: &Recorder, idle: &Result<Counters, String>) -> Option<u64> {
    let known = recorder.abandoned == 0 && recorder.failures.kinds.keys().all(|kind| kind == "status");
    known.then(|| idle.as_ref().ok().map(|counters| counters.requests)).flatten()
}

/// Waits until the time is over or the run stops; reports progress.
pub(super) async fn wait(time: Duration, stop: &CancellationToken, progress: &mut impl FnMut(Effort)) {
    let start = Instant::now();
    let mut reported = Duration::ZERO;
    while reported < time {
        let step = TICK.min(time - reported);
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep((reported + step).saturating_sub(start.elapsed())) => {}
        }
        reported += step;
        progress(Effort { windows: step, ..Effort::default() });
    }
}
