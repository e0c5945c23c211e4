//! The loops that send and time: a serial block, a concurrent window.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::CreationError;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    analysis::stats,
    client::{
        call::{CallError, Prepared},
        clients::{Client, Clients},
        payload::Payload,
        shared::{OUTPUT_BYTES, Region},
        target::Target,
        wire::Wire,
    },
    model::{
        block::{MeasuredBlock, WarmUp},
        connection::Policy,
        counters::Counters,
        limits::Limits,
        record::Recorder,
        sample::Sample,
        transport::Transport,
        variant::Arm,
    },
    run::{
        cpu::{process_cpu, spent},
        plan::Effort,
    },
    server::scrape::Scraper,
};

/// Pause of a worker after a failure, so that a dead server is not asked in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// Warm-up is steady when the medians of its last two groups differ by at most this part of the smaller.
const STEADY: f64 = 0.1;
/// How often a window reports its progress.
const TICK: Duration = Duration::from_millis(250);

/// One clock and one stop sign for the whole run.
#[derive(Clone)]
pub struct Conductor {
    /// Start of the run.
    pub epoch: Instant,
    /// Cancelled when the run is interrupted.
    pub cancel: CancellationToken,
}

/// One arm with its workers, kept from cell to cell.
pub struct Rig {
    /// The arm.
    pub arm: Arm,
    /// Its lane, and the model that takes its payload.
    pub target: Target,
    /// Its counters.
    pub scraper: Scraper,
    pub(crate) clients: Vec<Client>,
    pub(crate) limits: Limits,
    /// Where the tensors are, if not in messages.
    pub(crate) region: Option<Region>,
    makes: Clients,
}

impl Rig {
    /// An arm that is not connected yet; `target` names the plain model.
    pub fn new(target: &Target, arm: Arm, limits: Limits) -> Self {
        let target = Target { model: arm.payload.model(&target.model), ..target.clone() };
        Self {
            arm,
            scraper: Scraper::new(&target, limits),
            makes: Clients::new(&target, arm.connection, limits),
            target,
            clients: Vec::new(),
            region: None,
            limits,
        }
    }

    /// What the arm's connections carried.
    pub fn wire(&self) -> &Wire {
        self.makes.wire()
    }

    /// Makes clients until there are `n`.
    pub(crate) fn grow(&mut self, n: usize) {
        while self.clients.len() < n {
            self.clients.push(self.makes.client());
        }
    }

    /// Exactly `n` workers, connected where that is possible; a failure shows when they send.
    async fn workers(&mut self, n: usize) -> &mut [Client] {
        self.grow(n);
        for mut client in self.clients.drain(n..) {
            client.close().await;
        }
        for client in &mut self.clients {
            let _ = client.connect().await;
        }
        &mut self.clients
    }

    /// One request whose answer is read.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn embeddings(&mut self, request: &Prepared) -> Result<Vec<Vec<f32>>, CallError> {
        self.workers(1).await;
        let [client, ..] = &mut self.clients[..] else {
            return Err(CallError::Transport("no worker".into()));
        };
        let reply = client.infer(request).await?;
        let shared = match (&self.region, request.output) {
            (Some(region), Some(place)) => Some(region.read(place).map_err(|e| CallError::Malformed(e.to_string()))?),
            _ => None,
        };
        client.embeddings(&reply, shared.as_deref())
    }

    /// Puts the tensors into memory that is shared with the server, where that is the arm's transport.
    ///
    /// # Errors
    /// In words: there is no such memory here, or the server refuses it.
    pub async fn share(&mut self, payload: &Payload) -> Result<(), String> {
        if self.arm.transport != Transport::Shm {
            return Ok(());
        }
        let tensors = payload.tensors(self.arm.payload);
        let region = Region::new(tensors, payload.variants(), payload.largest_batch() * OUTPUT_BYTES)
            .map_err(|error| format!("cannot make shared memory: {error}"))?;
        region.register(&self.target, self.limits).await.map_err(|error| {
            format!("the server takes no shared memory: {error}; start it on this machine, with --allow-client-shm")
        })?;
        self.region = Some(region);
        Ok(())
    }

    /// Has the server forget the shared memory, as far as it answers.
    pub async fn unshare(&mut self) {
        if let Some(region) = self.region.take() {
            let _ = region.unregister(&self.target, self.limits).await;
        }
    }

    /// Sends requests that are not measured: at least `least`, then until they are steady, at most `most`.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn warm_up(
        &mut self,
        requests: &[Prepared],
        (least, most): (usize, usize),
        conductor: &Conductor,
        mut progress: impl FnMut(usize),
    ) -> Result<WarmUp, CreationError> {
        let mut recorder = Recorder::new()?;
        let mut steady = None;
        for client in self.workers(1).await {
            for (number, request) in requests.iter().cycle().take(most).enumerate() {
                let latencies = || recorder.samples().iter().map(|s| s.latency.as_secs_f64()).collect::<Vec<_>>();
                if number >= least && number % least.max(1) == 0 {
                    steady = Some(is_steady(&latencies(), least.max(1)));
                }
                if conductor.cancel.is_cancelled() || steady == Some(true) {
                    break;
                }
                send(client, request, &mut recorder, conductor).await;
                if number < least {
                    progress(1);
                }
            }
        }
        let us = |latency: Duration| latency.as_micros() as u64;
        let mut last: Vec<f64> =
            recorder.samples().iter().rev().take(least.max(1)).map(|s| s.latency.as_secs_f64()).collect();
        Ok(WarmUp {
            sent: recorder.sent(),
            first_us: recorder.samples().first().map(|sample| us(sample.latency)),
            last_us: stats::median(&mut last).map(|seconds| (seconds * 1e6) as u64),
            steady,
            failures: recorder.failures,
        })
    }

    /// A serial block: `n` requests one after the other, beginning with variant `first`,
    /// the server's counters read right before and right after.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn block(
        &mut self,
        requests: &[Prepared],
        first: usize,
        n: usize,
        conductor: &Conductor,
        mut progress: impl FnMut(usize),
    ) -> Result<MeasuredBlock, CreationError> {
        let mut recorder = Recorder::new()?;
        self.workers(1).await;
        let traffic = self.wire().begin();
        let before = self.scraper.read_idle().await;
        let cpu = process_cpu();
        let start = conductor.epoch.elapsed();
        for client in &mut self.clients[..1] {
            for request in requests.iter().cycle().skip(first).take(n) {
                if conductor.cancel.is_cancelled() {
                    break;
                }
                send(client, request, &mut recorder, conductor).await;
                progress(1);
            }
        }
        let wall = conductor.epoch.elapsed() - start;
        let cpu = spent(cpu, process_cpu());
        let traffic = self.wire().traffic().since(traffic);
        let server = between(&before, &self.scraper.read_idle().await);
        Ok(MeasuredBlock {
            start,
            wall,
            outside: 0,
            connections: traffic.most_open,
            reconnects: self.reopened(traffic.opened),
            cpu,
            traffic,
            offered: None,
            counted: counted(&recorder, &server),
            recorder,
            server,
        })
    }

    /// A concurrent window: `workers` send without pause; behind the ramp a window of `length` is
    /// measured by what completes in it. The server's stage times are those of the window; its count
    /// is compared from idle to idle, where it can be exact.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn window(
        &mut self,
        requests: Arc<[Prepared]>,
        workers: usize,
        (ramp, length): (Duration, Duration),
        conductor: &Conductor,
        mut progress: impl FnMut(Effort),
    ) -> Result<MeasuredBlock, CreationError> {
        self.workers(workers).await;
        let traffic = self.wire().begin();
        let idle_before = self.scraper.read_idle().await;
        // `stop` ends the sending; a worker that has used up the budget raises it too.
        let stop = conductor.cancel.child_token();
        let budget = Arc::new(AtomicUsize::new(self.limits.max_window_requests));
        let mut tasks = JoinSet::new();
        // Without a ramp the window opens before the first request, however late this task has its next turn.
        let mut opening = (conductor.epoch.elapsed(), idle_before.clone(), process_cpu());
        for (first, client) in self.clients.drain(..workers).enumerate() {
            let (requests, budget) = (Arc::clone(&requests), Arc::clone(&budget));
            tasks.spawn(worker(client, requests, first, budget, stop.clone(), conductor.clone()));
        }
        if !ramp.is_zero() {
            wait(ramp, &stop, &mut progress).await;
            opening = (conductor.epoch.elapsed(), self.scraper.read().await, process_cpu());
        }
        let (from, window_before, cpu) = opening;
        wait(length.saturating_sub(conductor.epoch.elapsed() - from), &stop, &mut progress).await;
        let to = conductor.epoch.elapsed();
        let cpu = spent(cpu, process_cpu());
        let window_after = self.scraper.read().await;
        stop.cancel();

        let mut all = Recorder::new()?;
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((client, recorder)) => {
                    self.clients.push(client);
                    all.merge(recorder?);
                }
                Err(error) => {
                    let error = CallError::Transport(format!("a worker ended: {error}"));
                    all.failures.add(error.kind(), &error);
                }
            }
        }
        let idle = between(&idle_before, &self.scraper.read_idle().await);
        let traffic = self.wire().traffic().since(traffic);
        let recorder = all.completed_within(from, to)?;
        Ok(MeasuredBlock {
            start: from,
            wall: to - from,
            outside: (all.samples().len() - recorder.samples().len()) as u64,
            connections: traffic.most_open,
            reconnects: self.reopened(traffic.opened),
            cpu,
            traffic,
            offered: None,
            recorder,
            server: between(&window_before, &window_after),
            counted: counted(&all, &idle),
        })
    }

    /// Connections that were opened though they should have been kept.
    fn reopened(&self, opened: u64) -> u64 {
        if self.arm.connection == Policy::Fresh { 0 } else { opened }
    }
}

/// Whether the medians of the last two groups of `size` samples are within 10 % of each other.
pub fn is_steady(samples: &[f64], size: usize) -> bool {
    let Some(from) = samples.len().checked_sub(2 * size) else { return false };
    let (mut before, mut last) = (samples[from..from + size].to_vec(), samples[from + size..].to_vec());
    match (stats::median(&mut before), stats::median(&mut last)) {
        (Some(a), Some(b)) => (a - b).abs() <= STEADY * a.min(b),
        _ => false,
    }
}

/// Sends one request and writes down what became of it.
async fn send(client: &mut Client, request: &Prepared, recorder: &mut Recorder, conductor: &Conductor) {
    let sent = Instant::now();
    let outcome = tokio::select! {
        biased;
        () = conductor.cancel.cancelled() => {
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
            let start = sent - conductor.epoch;
            let stages = reply.stage_times();
            recorder.add(Sample { start, latency, lag: Duration::ZERO, marks: reply.marks, stages });
        }
        Err(error) => recorder.failures.add(error.kind(), &error),
    }
}

/// One worker of a window: sends until told to stop, then completes its last request.
async fn worker(
    mut client: Client,
    requests: Arc<[Prepared]>,
    first: usize,
    budget: Arc<AtomicUsize>,
    stop: CancellationToken,
    conductor: Conductor,
) -> (Client, Result<Recorder, CreationError>) {
    let mut recorder = match Recorder::new() {
        Ok(recorder) => recorder,
        Err(error) => return (client, Err(error)),
    };
    // Workers begin with different photographs, so that they do not send the same one in step.
    for request in requests.iter().cycle().skip(first % requests.len().max(1)) {
        if stop.is_cancelled() {
            break;
        }
        if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            stop.cancel();
            break;
        }
        let failures = recorder.failures.count;
        send(&mut client, request, &mut recorder, &conductor).await;
        if recorder.failures.count > failures {
            sleep(FAILURE_PAUSE).await;
        }
    }
    (client, Ok(recorder))
}

/// Waits, telling the progress, until the time is over or the sign is given.
pub(crate) async fn wait(time: Duration, stop: &CancellationToken, progress: &mut impl FnMut(Effort)) {
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

/// What was counted between two readings.
pub(crate) fn between(before: &Result<Counters, String>, after: &Result<Counters, String>) -> Result<Counters, String> {
    let (before, after) = (before.as_ref().map_err(Clone::clone)?, after.as_ref().map_err(Clone::clone)?);
    after.since(before).ok_or_else(|| "the server's counters fell: it was restarted".to_owned())
}

/// The server's count of answered requests, where the client knows which requests were answered:
/// one that was abandoned, or lost on the way, may or may not have been.
pub(crate) fn counted(recorder: &Recorder, idle: &Result<Counters, String>) -> Option<u64> {
    let known = recorder.abandoned == 0 && recorder.failures.kinds.keys().all(|kind| kind == "status");
    known.then(|| idle.as_ref().ok().map(|counters| counters.requests)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_is_two_groups_alike() {
        assert!(!is_steady(&[10.0, 10.0, 10.0], 2), "one group and a half tell nothing");
        assert!(!is_steady(&[90.0, 30.0, 10.0, 10.0], 2), "still falling");
        assert!(is_steady(&[90.0, 30.0, 10.0, 10.4, 10.5, 10.9], 2));
        assert!(!is_steady(&[], 1));
    }
}
