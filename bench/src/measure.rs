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
    client::{CallError, Client, Connection, HttpVersion, Prepared, http},
    counters::Counters,
    cpu::{process_cpu, spent},
    plan::Effort,
    record::{Recorder, Sample},
    report::{MeasuredBlock, WarmUp},
    settings::Limits,
    target::Target,
    waterfall::StageTimes,
};

/// Longest wait for a server's metrics page.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause of a worker after a failure, so that a dead server is not asked in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
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

/// Reads a service's counters.
pub struct Scraper {
    connection: Connection,
    page: Result<Prepared, String>,
    model: String,
}

impl Scraper {
    fn new(target: &Target, limits: Limits) -> Self {
        let limits = Limits { request_timeout: SCRAPE_TIMEOUT.min(limits.request_timeout), ..limits };
        Self {
            connection: Connection::new(target.metrics.clone(), HttpVersion::Http1, limits),
            page: http::get(&target.metrics, "/metrics").map_err(|e| e.to_string()),
            model: target.model.clone(),
        }
    }

    /// The counters now. A server without a metrics page is not asked again.
    pub async fn read(&mut self) -> Result<Counters, String> {
        let page = self.page.as_ref().map_err(Clone::clone)?;
        let reply = match self.connection.call(page).await {
            Err(error @ CallError::Connect { .. }) => {
                self.page = Err(error.to_string());
                return Err(error.to_string());
            }
            reply => reply.map_err(|e| e.to_string())?,
        };
        http::check(&reply).map_err(|e| e.to_string())?;
        Counters::parse(&String::from_utf8_lossy(&reply.body()), &self.model)
            .ok_or_else(|| format!("no nv_inference counters of model `{}`", self.model))
    }
}

/// One lane with its workers, each on a connection of its own, kept from cell to cell.
pub struct Rig {
    /// The lane.
    pub target: Target,
    /// Its counters.
    pub scraper: Scraper,
    clients: Vec<Client>,
    limits: Limits,
}

impl Rig {
    /// A lane that is not connected yet.
    pub fn new(target: Target, limits: Limits) -> Self {
        Self { scraper: Scraper::new(&target, limits), target, clients: Vec::new(), limits }
    }

    /// The first `n` workers, connected where that is possible; a failure shows when they send.
    async fn workers(&mut self, n: usize) -> &mut [Client] {
        while self.clients.len() < n {
            self.clients.push(Client::new(&self.target, self.limits));
        }
        for client in &mut self.clients[..n] {
            let _ = client.connection.connect().await;
        }
        &mut self.clients[..n]
    }

    /// One request whose answer is read.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn embeddings(&mut self, request: &Prepared) -> Result<Vec<Vec<f32>>, CallError> {
        let [client, ..] = self.workers(1).await else {
            return Err(CallError::Transport("no worker".into()));
        };
        let reply = client.infer(request).await?;
        client.embeddings(&reply)
    }

    /// Sends `n` requests that are not measured.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn warm_up(
        &mut self,
        requests: &[Prepared],
        n: usize,
        conductor: &Conductor,
        mut progress: impl FnMut(usize),
    ) -> Result<WarmUp, CreationError> {
        let mut recorder = Recorder::new()?;
        for client in self.workers(1).await {
            for request in requests.iter().cycle().take(n) {
                if conductor.cancel.is_cancelled() {
                    break;
                }
                send(client, request, &mut recorder, conductor).await;
                progress(1);
            }
        }
        Ok(WarmUp { sent: recorder.sent(), failures: recorder.failures })
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
        let opened_before = opened(self.workers(1).await);
        let before = self.scraper.read().await;
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
        let server = between(&before, &self.scraper.read().await);
        Ok(MeasuredBlock {
            start,
            wall,
            outside: 0,
            connections: 1,
            reconnects: opened(&self.clients[..1]) - opened_before,
            cpu,
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
        let opened_before = opened(self.workers(workers).await);
        let idle_before = self.scraper.read().await;
        // `stop` ends the sending; a worker that has used up the budget raises it too.
        let stop = conductor.cancel.child_token();
        let budget = Arc::new(AtomicUsize::new(self.limits.max_window_requests));
        let mut tasks = JoinSet::new();
        for (first, client) in self.clients.drain(..workers).enumerate() {
            let (requests, budget) = (Arc::clone(&requests), Arc::clone(&budget));
            tasks.spawn(worker(client, requests, first, budget, stop.clone(), conductor.clone()));
        }
        wait(ramp, &stop, &mut progress).await;
        let from = conductor.epoch.elapsed();
        let window_before = self.scraper.read().await;
        let cpu = process_cpu();
        wait(length.saturating_sub(conductor.epoch.elapsed() - from), &stop, &mut progress).await;
        let to = conductor.epoch.elapsed();
        let cpu = spent(cpu, process_cpu());
        let window_after = self.scraper.read().await;
        stop.cancel();

        let mut all = Recorder::new()?;
        let mut opened_after = 0;
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((client, recorder)) => {
                    opened_after += client.connection.opened();
                    self.clients.push(client);
                    all.merge(recorder?);
                }
                Err(error) => all.failures.add(&CallError::Transport(format!("a worker ended: {error}"))),
            }
        }
        let idle = between(&idle_before, &self.scraper.read().await);
        let recorder = all.completed_within(from, to)?;
        Ok(MeasuredBlock {
            start: from,
            wall: to - from,
            outside: (all.samples().len() - recorder.samples().len()) as u64,
            connections: workers as u64,
            reconnects: opened_after.saturating_sub(opened_before),
            cpu,
            recorder,
            server: between(&window_before, &window_after),
            counted: counted(&all, &idle),
        })
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
    match outcome {
        Ok(reply) => {
            recorder.response_bytes = reply.body_bytes();
            let stages = StageTimes::of(&reply);
            recorder.add(Sample { start: sent - conductor.epoch, latency, marks: reply.marks, stages });
        }
        Err(error) => recorder.failures.add(&error),
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
async fn wait(time: Duration, stop: &CancellationToken, progress: &mut impl FnMut(Effort)) {
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

fn opened(clients: &[Client]) -> u64 {
    clients.iter().map(|client| client.connection.opened()).sum()
}

/// What was counted between two readings.
fn between(before: &Result<Counters, String>, after: &Result<Counters, String>) -> Result<Counters, String> {
    let (before, after) = (before.as_ref().map_err(Clone::clone)?, after.as_ref().map_err(Clone::clone)?);
    after.since(before).ok_or_else(|| "the server's counters fell: it was restarted".to_owned())
}

/// The server's count of answered requests, where the client knows which requests were answered:
/// one that was abandoned, or lost on the way, may or may not have been.
fn counted(recorder: &Recorder, idle: &Result<Counters, String>) -> Option<u64> {
    let known = recorder.abandoned == 0 && recorder.failures.kinds.keys().all(|kind| kind == "status");
    known.then(|| idle.as_ref().ok().map(|counters| counters.requests)).flatten()
}
