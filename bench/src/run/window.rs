//! Measures a concurrent window: a closed loop of several workers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hdrhistogram::CreationError;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{
        call::{CallError, Prepared},
        clients::Client,
    },
    model::{block::MeasuredBlock, record::Recorder},
    run::{
        clock::RunClock,
        cpu::{process_cpu, spent},
        effort::Effort,
        lane_client::LaneClient,
        request::{between, counted, send, wait},
        timed::Timed,
    },
};

/// Pause of a worker after a failure, so that a dead server is not asked in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

impl LaneClient {
    /// Measures a concurrent window: `workers` send without a pause; after the ramp, the requests that complete within
    /// its length are measured. The ramp lasts until each worker has completed a request, but at most `most_ramp`. The
    /// server's stage times are those of the window. Its count of requests is taken between two idle moments, where it is
    /// exact.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn window(
        &mut self,
        requests: Arc<[Prepared]>,
        workers: usize,
        window: Timed,
        mut progress: impl FnMut(Effort),
    ) -> Result<MeasuredBlock, CreationError> {
        let Timed { ramp, most_ramp, length, .. } = window;
        self.workers(workers).await;
        let traffic = self.wire().begin();
        let idle_before = self.scraper.read_idle().await;
        // `stop` ends the sending; a worker cancels it when the budget is used up.
        let stop = self.clock.cancel.child_token();
        let budget = Arc::new(AtomicUsize::new(window.share_of(self.limits.max_window_requests)));
        let warm = Arc::new(Semaphore::new(0));
        let mut tasks = JoinSet::new();
        // Without a ramp, open the window before the first request: this task may run late.
        let mut opening = (self.clock.elapsed(), idle_before.clone(), process_cpu());
        for (first, client) in self.clients.drain(..workers).enumerate() {
            let (requests, budget) = (Arc::clone(&requests), Arc::clone(&budget));
            let (warm, stop, clock) = (Arc::clone(&warm), stop.clone(), self.clock.clone());
            tasks.spawn(Worker { client, requests, first, budget, warm, stop, clock }.run());
        }
        if !most_ramp.is_zero() {
            wait(ramp, &stop, &mut progress).await;
            let all_are_warm = warm.acquire_many(workers as u32);
            tokio::select! {
                _ = timeout(most_ramp.saturating_sub(ramp), all_are_warm) => {}
                () = stop.cancelled() => {}
            }
            opening = (self.clock.elapsed(), self.scraper.read().await, process_cpu());
        }
        let (from, window_before, cpu) = opening;
        wait(length.saturating_sub(self.clock.elapsed() - from), &stop, &mut progress).await;
        let to = self.clock.elapsed();
        let cpu = spent(cpu, process_cpu());
        let window_after = self.scraper.read().await;
        let machines = self.machines(cpu).await;
        stop.cancel();

        let all = self.join(tasks).await?;
        let idle = between(&idle_before, &self.scraper.read_idle().await);
        let traffic = self.wire().traffic().since(traffic);
        let recorder = all.completed_within(from, to)?;
        Ok(MeasuredBlock {
            start: from,
            wall: to - from,
            outside: (all.samples().len() - recorder.samples().len()) as u64,
            connections: traffic.most_open,
            reconnects: self.reopened(traffic.opened),
            after_idle: None,
            cpu: cpu.map(|cpu| cpu.total),
            busiest_thread: cpu.map(|cpu| cpu.busiest),
            machines,
            traffic,
            offered: None,
            recorder,
            server: between(&window_before, &window_after),
            counted: counted(&all, &idle),
        })
    }

    /// Waits for the workers to complete their last requests; returns all samples.
    async fn join(&mut self, mut tasks: JoinSet<Finished>) -> Result<Recorder, CreationError> {
        let mut all = Recorder::new()?;
        while let Some(joined) = tasks.join_next().await {
            match joined {
                Ok((client, recorder)) => {
                    self.clients.push(client);
                    all.merge(recorder?);
                }
                Err(error) => {
                    let error = CallError::Transport(format!("a worker panicked: {error}"));
                    all.failures.add(error.kind(), &error);
                }
            }
        }
        Ok(all)
    }
}

/// A worker's client and its samples.
type Finished = (Client, Result<Recorder, CreationError>);

/// One worker of a window.
struct Worker {
    client: Client,
    requests: Arc<[Prepared]>,
    /// Index of its first request.
    first: usize,
    /// Number of requests that all workers may still send.
    budget: Arc<AtomicUsize>,
    /// Gets a permit when the first request is complete.
    warm: Arc<Semaphore>,
    stop: CancellationToken,
    clock: RunClock,
}

impl Worker {
    /// Sends until stopped, then completes the last request.
    async fn run(mut self) -> Finished {
        let mut recorder = match Recorder::new() {
            Ok(recorder) => recorder,
            Err(error) => return (self.client, Err(error)),
        };
        // Workers begin with different photographs, so that they do not all send the same one.
        for request in self.requests.iter().cycle().skip(self.first % self.requests.len().max(1)) {
            if self.stop.is_cancelled() {
                break;
            }
            if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
                self.stop.cancel();
                break;
            }
            let (failures, sent) = (recorder.failures.count, recorder.sent());
            send(&mut self.client, request, &mut recorder, &self.clock).await;
            if sent == 0 {
                self.warm.add_permits(1);
            }
            if recorder.failures.count > failures {
                sleep(FAILURE_PAUSE).await;
            }
        }
        (self.client, Ok(recorder))
    }
}
