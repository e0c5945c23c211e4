//! The open loop: requests go out at their own times, whatever became of those before.
//!
//! A thread of its own keeps the times, so that neither the runtime's timer (1 ms) nor a busy worker delays them.
//! Latency counts from the intended time: a server that stalls delays all who would have come meanwhile, and
//! they are all counted. When no more may be in flight, requests wait at the desk, which counts too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hdrhistogram::CreationError;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{call::Prepared, clients::Client},
    model::{
        block::{MeasuredBlock, Offered},
        record::Recorder,
        sample::Sample,
    },
    run::{
        cpu::{process_cpu, spent},
        measure::{Conductor, Rig, between, counted, wait},
        plan::Effort,
    },
};

/// Longest sleep of the pacing thread before it looks at the stop sign.
const LOOK: Duration = Duration::from_millis(50);

/// One request of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its place in the schedule.
    pub index: usize,
    /// When it is to be sent, since the start of the run.
    pub at: Duration,
}

/// Who sends what next: clients that rest, and tickets that wait because none does.
#[derive(Debug)]
pub struct Desk<C> {
    resting: Vec<C>,
    waiting: VecDeque<Ticket>,
    /// Tickets that had to wait.
    pub waited: u64,
    closed: bool,
}

impl<C> Desk<C> {
    /// A desk with all the clients there will be; the last ones are used first.
    pub fn new(clients: Vec<C>) -> Self {
        Self { resting: clients, waiting: VecDeque::new(), waited: 0, closed: false }
    }

    /// A ticket's time has come: the client that sends it now, or it waits.
    pub fn arrive(&mut self, ticket: Ticket) -> Option<(C, Ticket)> {
        let client = self.resting.pop();
        if client.is_none() {
            self.waiting.push_back(ticket);
            self.waited += 1;
        }
        client.map(|client| (client, ticket))
    }

    /// A client is free again: it takes the ticket that waits longest, or rests.
    pub fn done(&mut self, client: C) -> Option<(C, Ticket)> {
        let next = self.waiting.pop_front();
        if next.is_none() || self.closed {
            self.resting.push(client);
            return None;
        }
        next.map(|ticket| (client, ticket))
    }

    /// The window is over: those that still wait are never sent.
    pub fn close(&mut self) -> Vec<Ticket> {
        self.closed = true;
        self.waiting.drain(..).collect()
    }

    /// The clients, when all rest.
    pub fn into_clients(self) -> Vec<C> {
        self.resting
    }
}

/// What all tasks of a window share.
struct Window {
    desk: Mutex<Desk<Client>>,
    books: Mutex<Books>,
    requests: Arc<[Prepared]>,
    conductor: Conductor,
    from: Duration,
    to: Duration,
}

/// Written after a request is over, so the lock costs no latency.
struct Books {
    inside: Recorder,
    outside: Recorder,
    completed_meanwhile: u64,
}

impl Window {
    fn measured(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }

    /// Sends one request after the other as long as some wait.
    async fn serve(self: Arc<Self>, mut client: Client, mut ticket: Ticket) {
        loop {
            let request = &self.requests[ticket.index % self.requests.len()];
            let lag = self.conductor.epoch.elapsed().saturating_sub(ticket.at);
            let outcome = tokio::select! {
                biased;
                () = self.conductor.cancel.cancelled() => None,
                outcome = client.infer(request) => Some(outcome),
            };
            let end = self.conductor.epoch.elapsed();
            {
                let mut books = self.books.lock();
                books.completed_meanwhile += u64::from(matches!(outcome, Some(Ok(_))) && self.measured(end));
                let record = if self.measured(ticket.at) { &mut books.inside } else { &mut books.outside };
                match outcome {
                    None => record.abandoned += 1,
                    Some(Ok(reply)) => {
                        record.response_bytes = reply.body_bytes();
                        let latency = end.saturating_sub(ticket.at);
                        let stages = reply.stage_times();
                        record.add(Sample { start: ticket.at, latency, lag, marks: reply.marks, stages });
                    }
                    Some(Err(error)) => record.failures.add(error.kind(), &error),
                }
            }
            client.settle().await;
            match self.desk.lock().done(client) {
                Some(next) => (client, ticket) = next,
                None => return,
            }
        }
    }
}

/// Hands out the tickets at their times; returns those that were stopped before their time.
fn pace(
    window: &Arc<Window>,
    begin: Duration,
    schedule: &[Duration],
    tasks: &TaskTracker,
    stop: &CancellationToken,
    runtime: &Handle,
) -> u64 {
    for (index, offset) in schedule.iter().enumerate() {
        let at = begin + *offset;
        loop {
            if stop.is_cancelled() {
                return schedule[index..].iter().filter(|offset| window.measured(begin + **offset)).count() as u64;
            }
            let left = at.saturating_sub(window.conductor.epoch.elapsed());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK));
        }
        let start = window.desk.lock().arrive(Ticket { index, at });
        if let Some((client, ticket)) = start {
            tasks.spawn_on(Arc::clone(window).serve(client, ticket), runtime);
        }
    }
    0
}

impl Rig {
    /// A window of an open loop: `schedule` are the intended times from the beginning of the ramp on. Measured
    /// is what was to be sent in the window behind the ramp, also if it is completed after it.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn open_window(
        &mut self,
        requests: Arc<[Prepared]>,
        schedule: Arc<[Duration]>,
        (ramp, length): (Duration, Duration),
        conductor: &Conductor,
        mut progress: impl FnMut(Effort),
    ) -> Result<MeasuredBlock, CreationError> {
        self.grow(self.limits.max_in_flight);
        // Warm connections lie on top.
        self.clients.reverse();
        let traffic = self.wire().begin();
        let idle_before = self.scraper.read_idle().await;
        let stop = conductor.cancel.child_token();
        let begin = conductor.epoch.elapsed();
        let (from, to) = (begin + ramp, begin + ramp + length);
        let scheduled = schedule.iter().filter(|at| (ramp..ramp + length).contains(*at)).count() as u64;
        let window = Arc::new(Window {
            desk: Mutex::new(Desk::new(std::mem::take(&mut self.clients))),
            books: Mutex::new(Books { inside: Recorder::new()?, outside: Recorder::new()?, completed_meanwhile: 0 }),
            requests,
            conductor: conductor.clone(),
            from,
            to,
        });
        let tasks = TaskTracker::new();
        let pacer = {
            let (window, tasks, stop, runtime) = (Arc::clone(&window), tasks.clone(), stop.clone(), Handle::current());
            tokio::task::spawn_blocking(move || pace(&window, begin, &schedule, &tasks, &stop, &runtime))
        };
        wait(ramp, &stop, &mut progress).await;
        let window_before = self.scraper.read().await;
        let cpu = process_cpu();
        wait(to.saturating_sub(conductor.epoch.elapsed()), &stop, &mut progress).await;
        let cpu = spent(cpu, process_cpu());
        let window_after = self.scraper.read().await;
        let closed_at = conductor.epoch.elapsed().min(to).max(from);
        stop.cancel();
        let mut unsent = pacer.await.unwrap_or(0);
        unsent += window.desk.lock().close().iter().filter(|ticket| window.measured(ticket.at)).count() as u64;
        tasks.close();
        tasks.wait().await;

        let idle = between(&idle_before, &self.scraper.read_idle().await);
        let traffic = self.wire().traffic().since(traffic);
        // The tasks have ended, so nobody else holds the window.
        let mut all = Recorder::new()?;
        let mut recorder = Recorder::new()?;
        let mut offered = Offered { scheduled, unsent, ..Offered::default() };
        {
            let mut books = window.books.lock();
            std::mem::swap(&mut recorder, &mut books.inside);
            std::mem::swap(&mut all, &mut books.outside);
            offered.completed_meanwhile = books.completed_meanwhile;
        }
        {
            let mut desk = window.desk.lock();
            offered.waited = desk.waited;
            self.clients = std::mem::replace(&mut *desk, Desk::new(Vec::new())).into_clients();
            self.clients.reverse();
        }
        let outside = all.samples().len() as u64;
        all.merge(recorder.clone());
        Ok(MeasuredBlock {
            start: from,
            wall: closed_at - from,
            outside,
            connections: traffic.most_open,
            // Connections are opened as they are needed.
            reconnects: 0,
            cpu,
            traffic,
            offered: Some(offered),
            recorder,
            server: between(&window_before, &window_after),
            counted: counted(&all, &idle),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket(index: usize) -> Ticket {
        Ticket { index, at: Duration::from_millis(index as u64) }
    }

    proptest! {
        /// Whatever the order of arrivals and completions: each ticket is sent once, in order, by at most all
        /// clients at a time; those that are not sent are told.
        #[test]
        fn each_ticket_is_sent_once_or_told(clients in 1_usize..5, events in proptest::collection::vec(any::<bool>(), 0..100)) {
            let mut desk = Desk::new((0..clients).collect());
            let (mut next, mut sent, mut busy) = (0, Vec::new(), Vec::new());
            for arrives in events {
                let started = if arrives {
                    next += 1;
                    desk.arrive(ticket(next - 1))
                } else {
                    busy.pop().and_then(|client| desk.done(client))
                };
                if let Some((client, ticket)) = started {
                    prop_assert!(!busy.contains(&client));
                    busy.push(client);
                    sent.push(ticket.index);
                }
                prop_assert!(busy.len() <= clients);
            }
            let unsent: Vec<usize> = desk.close().iter().map(|ticket| ticket.index).collect();
            let all: Vec<usize> = sent.into_iter().chain(unsent).collect();
            prop_assert_eq!(all, (0..next).collect::<Vec<_>>());
            for client in busy {
                prop_assert!(desk.done(client).is_none(), "nothing is sent after the end");
            }
            prop_assert_eq!(desk.into_clients().len(), clients);
        }
    }
}
