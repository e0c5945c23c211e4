//! Runs a scenario of MLPerf, lane by lane: each lane is measured without a pause, as the rules ask.

use std::{sync::Arc, time::Duration};

use crate::{
    analysis::scenario::{judge, no_rate},
    client::call::Prepared,
    model::{
        arrivals::{Arrivals, Rate},
        block::Measured,
        cell::Cell,
        load::Load,
        scenario::{MULTI_STREAM_SAMPLES, Scenario, ScenarioResults},
        slo::Goal,
    },
    run::{
        clock::RunClock,
        error::RunError,
        folder::save,
        lane_client::LaneClient,
        setup::{Outcome, Run},
        timed::Timed,
    },
};

/// Most windows of a lane: the first lasts as long as asked for, the others complete the number of queries.
const MOST_WINDOWS: usize = 8;
/// Shortest window.
const SHORTEST: Duration = Duration::from_millis(100);
/// The first rate and the most rates that the search for Server tries.
const FIRST_RATE: f64 = 50.0;
const MOST_PROBES: usize = 24;
/// Longest probe of that search.
const LONGEST_PROBE: Duration = Duration::from_secs(60);

/// A scenario and its parameters.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioPlan {
    /// The scenario.
    pub scenario: Scenario,
    /// Shortest measured time.
    pub min_duration: Duration,
    /// Fewest queries; samples for Offline.
    pub min_queries: u64,
    /// Bound of Server on p99.
    pub bound: Duration,
    /// Rate of Server; without one it is searched for on each lane.
    pub target_qps: Option<Rate>,
    /// Requests in flight for Offline, which divides its samples into requests.
    pub workers: usize,
    /// Samples in a request of Offline.
    pub batch: usize,
}

impl ScenarioPlan {
    /// Samples in a request.
    pub fn samples(&self) -> usize {
        match self.scenario {
            Scenario::SingleStream | Scenario::Server => 1,
            Scenario::MultiStream => MULTI_STREAM_SAMPLES,
            Scenario::Offline => self.batch,
        }
    }

    /// Requests in flight, for all scenarios but Server.
    pub fn in_flight(&self) -> usize {
        if self.scenario == Scenario::Offline { self.workers } else { 1 }
    }

    /// The time in which Server sends the fewest queries at a rate, and at least the shortest time.
    pub fn server_time(&self, rate: Rate) -> Duration {
        let fewest = self.min_queries as f64;
        // By chance fewer arrive: three standard deviations.
        let queries = fewest + 3.0 * fewest.sqrt() + 1.0;
        Duration::from_secs_f64(queries / rate.get()).max(self.min_duration)
    }

    fn bound_ms(&self) -> f64 {
        self.bound.as_secs_f64() * 1e3
    }

    /// How long the next window lasts; `None` if the last ones were enough.
    fn next_window(&self, measured: &Measured) -> Option<Duration> {
        let wall: Duration = measured.blocks.iter().map(|block| block.wall).sum();
        let completed: usize = measured.blocks.iter().map(|block| block.recorder.samples().len()).sum();
        let counted = match self.scenario {
            Scenario::Offline => completed * self.batch,
            _ => completed,
        } as u64;
        let missing = self.min_queries.saturating_sub(counted);
        match measured.blocks.len() {
            0 => Some(self.min_duration.max(SHORTEST)),
            n if n >= MOST_WINDOWS || missing == 0 => None,
            _ if completed == 0 => Some(wall * 2),
            _ => Some(wall.mul_f64(1.1 * missing as f64 / counted as f64).max(SHORTEST)),
        }
    }
}

impl Run<'_> {
    /// Runs the scenario and writes the report.
    ///
    /// # Errors
    /// [`RunError`]; failed requests are not errors but make the result INVALID.
    pub async fn scenario(&self, plan: ScenarioPlan) -> Result<Outcome, RunError> {
        let clock = RunClock::start(self.stop.now.clone());
        let (mut report, folder, mut clients) = self.begin(&clock).await?;
        let rates = self.rates(plan, &mut clients).await?;
        let mut results = Vec::new();
        for (client, rate) in clients.iter_mut().zip(rates) {
            if self.stop.soon.is_cancelled() {
                break;
            }
            let measured = match (plan.scenario, rate) {
                (Scenario::Server, None) => {
                    results.push(no_rate(client.variant, plan.bound_ms()));
                    None
                }
                (Scenario::Server, Some(rate)) => Some(self.server(client, rate, plan).await?),
                _ => Some(self.streams(client, plan).await?),
            };
            let work_ms = report.client_work_ms(client.variant.payload);
            if let Some(cell) = measured.and_then(|cell| Cell::new(cell, work_ms, self.settings.seed)) {
                results.push(judge(plan.scenario, &cell, plan.bound_ms(), self.stop.soon.is_cancelled()));
                self.progress.cell(&cell);
                report.cells.push(cell);
            }
            report.scenario = Some(ScenarioResults {
                scenario: plan.scenario,
                min_duration_s: plan.min_duration.as_secs_f64(),
                min_queries: plan.min_queries,
                bound_ms: (plan.scenario == Scenario::Server).then(|| plan.bound_ms()),
                results: results.clone(),
            });
            save(&mut report, &clock, &folder)?;
        }
        for client in &mut clients {
            client.unshare().await;
        }
        report.interrupted = self.stop.soon.is_cancelled();
        save(&mut report, &clock, &folder)?;
        self.progress.finish();
        Ok(Outcome { report, folder })
    }

    /// The rate of each lane for Server; none for the other scenarios.
    async fn rates(&self, plan: ScenarioPlan, clients: &mut [LaneClient]) -> Result<Vec<Option<Rate>>, RunError> {
        if plan.scenario != Scenario::Server || plan.target_qps.is_some() {
            return Ok(vec![plan.target_qps; clients.len()]);
        }
        self.progress.say("searching for the highest rate of each lane that keeps p99 within the bound");
        // The run at the rate found must not exceed the limit of requests.
        let longest = plan.min_duration + self.settings.ramp;
        let most = self.settings.limits.max_window_requests as f64 / longest.as_secs_f64().max(1.0);
        let rate = |per_s: f64| Rate::per_second(per_s.max(1.0)).map_err(RunError::Rate);
        let goal = Goal {
            p99: plan.bound,
            arrivals: Arrivals::Poisson,
            start: rate(FIRST_RATE)?,
            most: rate(most.min(1e6))?,
            probes: MOST_PROBES,
            longest: LONGEST_PROBE,
        };
        let answers = self.search_lanes(goal, clients, |_| Ok(())).await?;
        Ok(answers
            .into_iter()
            .map(|answer| answer.highest_per_s.and_then(|rate| Rate::per_second(rate).ok()))
            .collect())
    }

    /// A lane's empty cell and requests, after the warm-up.
    async fn begin_lane(&self, client: &mut LaneClient, load: Load) -> Result<(Measured, Arc<[Prepared]>), RunError> {
        self.progress.begin(client.variant.lane, load);
        let requests = self.prepare(client, load.batch())?;
        let mut measured = Self::empty_cell(client, load, &requests);
        let warm_up = (self.settings.warmup, self.settings.max_warmup);
        measured.warm_up = client.warm_up(&requests, warm_up, |_| {}).await?;
        Ok((measured, requests))
    }

    /// Measures Server: random arrivals at a rate.
    async fn server(&self, client: &mut LaneClient, rate: Rate, plan: ScenarioPlan) -> Result<Measured, RunError> {
        let load = Load::Open { arrivals: Arrivals::Poisson, rate, batch: 1 };
        let (mut measured, requests) = self.begin_lane(client, load).await?;
        let window = Timed::single(self.settings.ramp, plan.server_time(rate));
        let schedule = self.schedule(load, window);
        measured.blocks.push(client.open_window(requests, schedule, window, |_| {}).await?);
        Ok(measured)
    }

    /// Measures the other scenarios: a number of requests is in flight at all times.
    async fn streams(&self, client: &mut LaneClient, plan: ScenarioPlan) -> Result<Measured, RunError> {
        let load = Load::Concurrent { concurrency: plan.in_flight(), batch: plan.samples() };
        let (mut measured, requests) = self.begin_lane(client, load).await?;
        while let Some(length) = plan.next_window(&measured).filter(|_| !self.stop.soon.is_cancelled()) {
            let window = Timed::single(self.settings.ramp, length);
            let block = client.window(Arc::clone(&requests), load.workers(), window, |_| {}).await?;
            measured.blocks.push(block);
        }
        Ok(measured)
    }
}
