//! Measures a serial block: one request after another.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use hdrhistogram::CreationError;

use crate::{
    client::call::Prepared,
    model::{block::MeasuredBlock, connection::Policy, counters::Counters, record::Recorder},
    run::{
        cpu::{process_cpu, spent},
        lane_client::LaneClient,
        request::{between, counted, send},
    },
};

/// Shortest idle time after which TCP begins again with a small window: its timer for a retransmission is longer (Linux: at
/// least 200 ms). If reading the counters takes this long, the connection is idle again.
const IDLE: Duration = Duration::from_millis(200);
/// Most requests to end an idle time.
const MOST_ATTEMPTS: usize = 2;

impl LaneClient {
    /// Measures a serial block: reads the server's counters, sends the requests with these `numbers` one after another, and
    /// reads the counters again. Request n is `requests[n % requests.len()]`. If the connection is kept, one more request is
    /// sent first and counted separately: TCP begins again with a small window after an idle time (RFC 5681, section 4.1).
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub async fn block(
        &mut self,
        requests: &[Prepared],
        numbers: Range<usize>,
        mut progress: impl FnMut(usize),
    ) -> Result<MeasuredBlock, CreationError> {
        let mut recorder = Recorder::new()?;
        self.workers(1).await;
        let (after_idle, before) = self.end_idle_time(requests, numbers.start, &mut recorder).await;
        let traffic = self.wire().begin();
        let cpu = process_cpu();
        let start = self.clock.elapsed();
        for client in &mut self.clients[..1] {
            for request in requests.iter().cycle().skip(numbers.start).take(numbers.len()) {
                if self.clock.cancel.is_cancelled() {
                    break;
                }
                send(client, request, &mut recorder, &self.clock).await;
                progress(1);
            }
        }
        let wall = self.clock.elapsed() - start;
        let cpu = spent(cpu, process_cpu());
        let traffic = self.wire().traffic().since(traffic);
        let machines = self.machines(cpu).await;
        let server = between(&before, &self.scraper.read_idle().await);
        Ok(MeasuredBlock {
            start,
            wall,
            after_idle,
            outside: 0,
            connections: traffic.most_open,
            reconnects: self.reopened(traffic.opened),
            cpu: cpu.map(|cpu| cpu.total),
            busiest_thread: cpu.map(|cpu| cpu.busiest),
            machines,
            traffic,
            offered: None,
            counted: counted(&recorder, &server),
            recorder,
            server,
        })
    }

    /// Sends the request that finds the connection idle, if it is kept, and reads the counters of the idle server. Returns
    /// the latency of that request. Its failure counts.
    async fn end_idle_time(
        &mut self,
        requests: &[Prepared],
        number: usize,
        recorder: &mut Recorder,
    ) -> (Option<Duration>, Result<Counters, String>) {
        let mut after_idle = None;
        for _ in 0..MOST_ATTEMPTS {
            if self.variant.connection != Policy::Fresh
                && let (Some(client), false) = (self.clients.first_mut(), requests.is_empty())
                && let Ok(mut alone) = Recorder::new()
            {
                send(client, &requests[number % requests.len()], &mut alone, &self.clock).await;
                after_idle = after_idle.or_else(|| alone.samples().first().map(|sample| sample.latency));
                recorder.failures.merge(alone.failures);
            }
            let read = Instant::now();
            let counters = self.scraper.read_idle().await;
            if read.elapsed() < IDLE || after_idle.is_none() {
                return (after_idle, counters);
            }
        }
        (after_idle, self.scraper.read().await)
    }
}
