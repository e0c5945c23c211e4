//! Measures a serial block: one request after another.

use std::ops::Range;

use hdrhistogram::CreationError;

use crate::{
    client::call::Prepared,
    model::{block::MeasuredBlock, record::Recorder},
    run::{
        cpu::{process_cpu, spent},
        lane_client::LaneClient,
        request::{between, counted, send},
    },
};

impl LaneClient {
    /// Measures a serial block: reads the server's counters, sends the requests with these `numbers` one after another, and
    /// reads the counters again. Request n is `requests[n % requests.len()]`.
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
        let traffic = self.wire().begin();
        let before = self.scraper.read_idle().await;
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
}
