//! Measures a window of an open loop: requests are sent at set times, without waiting for earlier responses.
//!
//! A separate thread keeps the times, so that neither the runtime's timer (1 ms) nor a busy worker delays them.
//! Latency counts from the intended time: when a server stalls, the delay of every request due in the meantime is
//! counted (no coordinated omission). A request over the limit of requests in flight waits, and the wait counts too.

use std::{mem, sync::Arc, time::Duration};

use hdrhistogram::CreationError;
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{
        call::{CallError, Prepared, Reply},
        clients::Client,
    },
    model::{
        block::{MeasuredBlock, Offered},
        record::Recorder,
        sample::Sample,
    },
    run::{
        clock::RunClock,
        cpu::{process_cpu, spent},
        effort::Effort,
        lane_client::LaneClient,
        open_loop::{OpenLoop, Ticket},
        request::{between, counted, wait},
        timed::Timed,
    },
};

/// Longest sleep of the pacing thread before it checks for a stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// State shared by all tasks of a window.
struct Window {
    open_loop: Mutex<OpenLoop<Client>>,
    counts: Mutex<Counts>,
    requests: Arc<[Prepared]>,
    clock: RunClock,
    from: Duration,
    to: Duration,
}

/// Updated after a request is complete, so that the lock adds no latency.
struct Counts {
    /// Requests scheduled in the window.
    inside: Recorder,
    /// Requests scheduled in the ramp.
    outside: Recorder,
    completed_meanwhile: u64,
}

impl Counts {
    fn new() -> Result<Self, CreationError> {
        Ok(Self { inside: Recorder::new()?, outside: Recorder::new()?, completed_meanwhile: 0 })
    }
}

impl Window {
    fn measured(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// Sends a request, then those that wait.
    async fn serve(self: Arc<Self>, mut client: Client, mut ticket: Ticket) {
        loop {
            let request = &self.requests[ticket.index % self.requests.len()];
            let lag = self.clock.elapsed().saturating_sub(ticket.at);
            let outcome = tokio::select! {
                biased;
                () = self.clock.cancel.cancelled() => None,
                outcome = client.infer(request) => Some(outcome),
            };
            self.count(ticket.at, lag, outcome);
            client.settle().await;
            match self.open_loop.lock().done(client) {
                Some(next) => (client, ticket) = next,
                None => return,
            }
        }
    }

    /// Records the outcome of a request; `None` is an abandoned one.
    fn count(&self, at: Duration, lag: Duration, outcome: Option<Result<Reply, CallError>>) {
        let end = self.clock.elapsed();
        let mut counts = self.counts.lock();
        counts.completed_meanwhile += u64::from(matches!(outcome, Some(Ok(_))) && self.measured(end));
        let record = if self.measured(at) { &mut counts.inside } else { &mut counts.outside };
        match outcome {
            None => record.abandoned += 1,
            Some(Ok(reply)) => {
                record.response_bytes = reply.body_bytes();
                let (latency, stages) = (end.saturating_sub(at), reply.stage_times());
                record.add(Sample { start: at, latency, lag, marks: reply.marks, stages });
            }
            Some(Err(error)) => record.failures.add(error.kind(), &error),
        }
    }
}

/// The thread that issues the tickets at their times.
struct Pacer {
    window: Arc<Window>,
    begin: Duration,
    schedule: Arc<[Duration]>,
    tasks: TaskTracker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Pacer {
    fn start(self) -> JoinHandle<u64> {
        tokio::task::spawn_blocking(move || self.run())
    }

    /// Returns how many requests of the window were not due before the stop.
    fn run(&self) -> u64 {
        for (index, offset) in self.schedule.iter().enumerate() {
            let at = self.begin + *offset;
            if !self.sleep_until(at) {
                let rest = self.schedule[index..].iter();
                return rest.filter(|offset| self.window.measured(self.begin + **offset)).count() as u64;
            }
            let start = self.window.open_loop.lock().arrive(Ticket { index, at });
            if let Some((client, ticket)) = start {
                self.tasks.spawn_on(Arc::clone(&self.window).serve(client, ticket), &self.runtime);
            }
        }
        0
    }

    /// Whether the time came before the stop.
    fn sleep_until(&self, at: Duration) -> bool {
        while !self.stop.is_cancelled() {
            let left = at.saturating_sub(self.window.clock.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STOP_CHECK));
        }
        false
    }
}

impl LaneClient {
    /// Measures a window of an open loop. `schedule` holds the intended times since the start of the ramp. The requests
    /// scheduled after the ramp are measured, even if they complete after the window. Connections are opened before the
    /// first request, as many as the requests of the window could use at once.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn open_window(
        &mut self,
        requests: Arc<[Prepared]>,
        schedule: Arc<[Duration]>,
        Timed { ramp, length, .. }: Timed,
        mut progress: impl FnMut(Effort),
    ) -> Result<MeasuredBlock, CreationError> {
        self.grow(self.limits.max_in_flight);
        self.open_connections(schedule.len()).await;
        // Open connections are last, and so used first.
        self.clients.reverse();
        let traffic = self.wire().begin();
        let idle_before = self.scraper.read_idle().await;
        let stop = self.clock.cancel.child_token();
        let begin = self.clock.elapsed();
        let (from, to) = (begin + ramp, begin + ramp + length);
        let scheduled = schedule.iter().filter(|at| (ramp..ramp + length).contains(*at)).count() as u64;
        let open_loop = Mutex::new(OpenLoop::new(mem::take(&mut self.clients)));
        let counts = Mutex::new(Counts::new()?);
        let window = Arc::new(Window { open_loop, counts, requests, clock: self.clock.clone(), from, to });
        let tasks = TaskTracker::new();
        let (shared, runtime) = (Arc::clone(&window), Handle::current());
        let pacer =
            Pacer { window: shared, begin, schedule, tasks: tasks.clone(), stop: stop.clone(), runtime }.start();
        wait(ramp, &stop, &mut progress).await;
        let window_before = self.scraper.read().await;
        let cpu = process_cpu();
        wait(to.saturating_sub(self.clock.elapsed()), &stop, &mut progress).await;
        let cpu = spent(cpu, process_cpu());
        let window_after = self.scraper.read().await;
        let closed_at = self.clock.elapsed().min(to).max(from);
        stop.cancel();
        let mut unsent = pacer.await.unwrap_or(0);
        unsent += window.open_loop.lock().close().iter().filter(|ticket| window.measured(ticket.at)).count() as u64;
        let machines = self.machines(cpu).await;
        tasks.close();
        tasks.wait().await;

        let idle = between(&idle_before, &self.scraper.read_idle().await);
        let traffic = self.wire().traffic().since(traffic);
        let (counts, waited) = self.finish(&window)?;
        let (recorder, mut all) = (counts.inside, counts.outside);
        let outside = all.samples().len() as u64;
        all.merge(recorder.clone());
        let completed_meanwhile = counts.completed_meanwhile;
        Ok(MeasuredBlock {
            start: from,
            wall: closed_at - from,
            outside,
            connections: traffic.most_open,
            reconnects: self.reopened(traffic.opened),
            after_idle: None,
            cpu: cpu.map(|cpu| cpu.total),
            busiest_thread: cpu.map(|cpu| cpu.busiest),
            machines,
            traffic,
            offered: Some(Offered { scheduled, completed_meanwhile, unsent, waited }),
            recorder,
            server: between(&window_before, &window_after),
            counted: counted(&all, &idle),
        })
    }

    /// Takes the clients back from a window whose tasks have ended; returns its counts and how many tickets waited.
    fn finish(&mut self, window: &Window) -> Result<(Counts, u64), CreationError> {
        let counts = mem::replace(&mut *window.counts.lock(), Counts::new()?);
        let open_loop = mem::replace(&mut *window.open_loop.lock(), OpenLoop::new(Vec::new()));
        let waited = open_loop.waited;
        self.clients = open_loop.into_clients();
        self.clients.reverse();
        Ok((counts, waited))
    }
}
