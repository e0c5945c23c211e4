//! One run: asks the lanes who they are, compares their answers, drives the plan, keeps the report and the journal.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hdrhistogram::CreationError;
use tokio_util::sync::CancellationToken;

use crate::{
    analysis::{outputs::compare, stats::bootstrap},
    cli::progress::{Progress, Stopwatch},
    client::{
        call::{CallError, Prepared},
        endpoint::Endpoint,
        payload::Payload,
        prepare::prepare,
        target::Target,
    },
    model::{
        arrivals::{self, Arrivals, LoadSpec},
        block::{Measured, WarmUp},
        cell::Cell,
        environment::Environment,
        estimate::Statistic,
        lane::Lane,
        load::Load,
        outputs::{Comparison, NoOutputs},
        report::{Report, SCHEMA},
        settings::Settings,
        transport::{self, Transport},
        variant::Arm,
    },
    report::exporter::ExportError,
    run::{
        environment::utc,
        journal::{Done, Entry, Journal, JournalError, ResumeError, Unfinished},
        measure::{Conductor, Rig},
        plan::{Effort, Plan, Stage, Turn, Work},
        preflight::{LaneError, describe},
    },
};

/// Why there is no report, or only what the folder holds.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Lanes that cannot be measured.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lanes(Vec<LaneError>),
    /// A request cannot be made.
    #[error("cannot make the requests of lane {lane}: {reason}")]
    Request {
        /// The lane.
        lane: Lane,
        /// What is wrong.
        reason: CallError,
    },
    /// The report cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no shared memory with a lane's server.
    #[error("lane {lane}, --transport shm: {reason}")]
    Shared {
        /// The lane.
        lane: Lane,
        /// What is wrong.
        reason: String,
    },
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The run cannot go on.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The report cannot be expressed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A histogram cannot be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[from] CreationError),
}

/// What a run needs.
pub struct Run<'a> {
    /// What to measure.
    pub settings: Settings,
    /// The lanes.
    pub targets: Vec<Target>,
    /// What to send.
    pub payload: Payload,
    /// Folder that gets a folder for this run.
    pub output: PathBuf,
    /// Who is told.
    pub progress: &'a Progress,
    /// The run that goes on, if it is none of its own.
    pub resume: Option<Unfinished>,
    /// Stops the run, and how.
    pub stop: Stop,
}

/// Two ways to stop a run; what was measured is kept.
#[derive(Clone, Debug)]
pub struct Stop {
    /// At once: requests in flight are given up.
    pub now: CancellationToken,
    /// After the current block or window; also when it is to stop at once.
    pub soon: CancellationToken,
}

impl From<CancellationToken> for Stop {
    fn from(now: CancellationToken) -> Self {
        Self { soon: now.child_token(), now }
    }
}

/// A finished or interrupted run.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Its folder.
    pub folder: PathBuf,
}

impl Run<'_> {
    /// Runs.
    ///
    /// # Errors
    /// [`RunError`]; failed requests are no error but data in the report.
    pub async fn run(self) -> Result<Outcome, RunError> {
        let started = Instant::now();
        let before = self.resume.as_ref().map_or(Duration::ZERO, Unfinished::elapsed);
        let epoch = started.checked_sub(before).unwrap_or(started);
        let conductor = Conductor { epoch, cancel: self.stop.now.clone() };
        let (mut report, folder, mut rigs) = self.begin().await?;
        let entries = self.resume.as_ref().map_or(&[][..], |resume| &resume.entries);
        let mut journal = Journal::begin(&folder, &report, entries)?;
        let lanes: Vec<Lane> = self.targets.iter().map(|target| target.lane).collect();
        for (index, stage) in Plan::new(&self.settings, &lanes).stages.iter().enumerate() {
            if self.stop.soon.is_cancelled() {
                report.interrupted = true;
                break;
            }
            let (measured, complete) = self.stage(index, stage, &mut rigs, &conductor, &mut journal).await?;
            report.interrupted |= !complete;
            for measured in measured {
                if let Some(cell) = Cell::new(measured, report.client_preprocess_ms, self.settings.seed) {
                    self.progress.cell(&cell);
                    report.cells.push(cell);
                }
            }
            self.save(&mut report, &conductor, &folder)?;
        }
        for rig in &mut rigs {
            rig.unshare().await;
        }
        self.save(&mut report, &conductor, &folder)?;
        if !report.interrupted {
            journal.finish()?;
        }
        self.progress.finish();
        Ok(Outcome { report, folder })
    }

    /// What comes before anything is timed: who the lanes are, a folder, and whether their outputs agree.
    pub(crate) async fn begin(&self) -> Result<(Report, PathBuf, Vec<Rig>), RunError> {
        let mut report = self.empty_report(utc(SystemTime::now()));
        let lanes: Vec<Lane> = self.targets.iter().map(|target| target.lane).collect();
        let arms = Arm::all(&self.settings, &lanes);
        let mut rigs: Vec<Rig> = self
            .targets
            .iter()
            .flat_map(|target| arms.iter().filter(|arm| arm.lane == target.lane).map(move |arm| (target, *arm)))
            .map(|(target, arm)| Rig::new(&self.way(target, arm), arm, self.settings.limits))
            .collect();
        self.describe_lanes(&mut rigs, &mut report).await?;
        let folder = match &self.resume {
            None => make_folder(&self.output, &report.started_at)?,
            Some(unfinished) => {
                unfinished.check(&report)?;
                let Report { started_at, environment, mut resumed_at, .. } = unfinished.head.clone();
                resumed_at.push(report.started_at);
                report = Report { started_at, environment, resumed_at, ..report };
                unfinished.folder.clone()
            }
        };
        for rig in &mut rigs {
            let lane = rig.arm.lane;
            rig.share(&self.payload).await.map_err(|reason| RunError::Shared { lane, reason })?;
        }
        self.progress.say("comparing the lanes' outputs");
        report.outputs = self.compare_outputs(&mut rigs).await?;
        Ok((report, folder, rigs))
    }

    /// Where an arm of a lane is reached.
    fn way(&self, target: &Target, arm: Arm) -> Target {
        match (&self.settings.uds_dir, arm.transport) {
            (Some(folder), Transport::Uds) => {
                Target { endpoint: Endpoint::unix(transport::socket(folder, arm.lane)), ..target.clone() }
            }
            _ => target.clone(),
        }
    }

    /// A cell of which nothing was measured yet.
    pub(crate) fn empty_cell(rig: &Rig, load: Load, requests: &[Prepared]) -> Measured {
        let mut arm = rig.arm;
        if rig.target.endpoint.socket().is_some() && arm.transport == Transport::Tcp {
            arm.transport = Transport::Uds;
        }
        let bytes: usize = requests.iter().map(Prepared::body_bytes).sum();
        Measured {
            arm,
            load,
            request_bytes: bytes / requests.len().max(1),
            warm_up: WarmUp::default(),
            blocks: Vec::new(),
        }
    }

    fn empty_report(&self, started_at: String) -> Report {
        let preprocess_ms: Vec<f64> =
            self.payload.preprocess_times().iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Report {
            schema: SCHEMA.to_owned(),
            started_at,
            elapsed_s: 0.0,
            interrupted: false,
            resumed_at: Vec::new(),
            settings: self.settings.clone(),
            environment: Environment::here(),
            lanes: Vec::new(),
            photographs: self.payload.photographs().to_vec(),
            client_preprocess_ms: bootstrap(&preprocess_ms, Statistic::Mean, self.settings.seed),
            outputs: Comparison::default(),
            cells: Vec::new(),
            differences: Vec::new(),
            speedups: Vec::new(),
            hypotheses: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Asks every lane for every model it needs, so that one message names all that are missing.
    async fn describe_lanes(&self, rigs: &mut [Rig], report: &mut Report) -> Result<(), RunError> {
        let mut errors = Vec::new();
        let mut asked: Vec<Target> = Vec::new();
        for rig in rigs {
            if asked.contains(&rig.target) {
                continue;
            }
            let known = asked.iter().any(|target| target.lane == rig.target.lane);
            asked.push(rig.target.clone());
            match describe(&rig.target, self.settings.limits).await {
                // The first model of a lane describes it.
                Ok(description) if !known => {
                    let counters_missing = rig.scraper.read().await.err();
                    report.lanes.push(description.into_info(&rig.target, rig.scraper.url(), counters_missing));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(RunError::Lanes(errors)) }
    }

    pub(crate) fn prepare(&self, rig: &Rig, batch: usize) -> Result<Arc<[Prepared]>, RunError> {
        prepare(&rig.target, rig.arm.payload, &self.payload, batch, rig.region.as_ref())
            .map(Into::into)
            .map_err(|reason| RunError::Request { lane: rig.arm.lane, reason })
    }

    /// The intended times of an open loop's window; other loads have none.
    pub(crate) fn schedule(&self, load: Load, length: Duration) -> Arc<[Duration]> {
        let Load::Open { arrivals, rate, .. } = load else { return Arc::default() };
        let traces = self.settings.loads.iter().filter_map(|spec| match spec {
            LoadSpec::Replay(trace) => Some(trace),
            _ => None,
        });
        let trace = || traces.into_iter().find(|trace| trace.rate() == rate).map(|trace| Arc::clone(&trace.times));
        match arrivals {
            Arrivals::Replay => trace().unwrap_or_default(),
            _ => {
                let most = self.settings.limits.max_window_requests;
                arrivals::intended(arrivals, rate, length, most, self.settings.seed).into()
            }
        }
    }

    /// The first arm of every lane answers every photograph, one by one.
    async fn compare_outputs(&self, rigs: &mut [Rig]) -> Result<Comparison, RunError> {
        let (mut outputs, mut missing) = (Vec::new(), Vec::new());
        let mut done = None;
        for rig in rigs {
            let lane = rig.target.lane;
            if done.replace(lane) == Some(lane) {
                continue;
            }
            let requests = self.prepare(rig, 1)?;
            let mut rows = Vec::with_capacity(requests.len());
            let mut failure = None;
            for request in &requests[..] {
                let answer = tokio::select! {
                    () = self.stop.soon.cancelled() => return Ok(compare(&outputs, missing)),
                    answer = rig.embeddings(request) => answer,
                };
                match answer {
                    Ok(embeddings) => rows.extend(embeddings),
                    Err(error) => {
                        failure = Some(error.to_string());
                        break;
                    }
                }
            }
            match failure {
                None => outputs.push((lane, rows)),
                Some(reason) => missing.push(NoOutputs { lane, reason }),
            }
        }
        Ok(compare(&outputs, missing))
    }

    /// Drives one stage, or what is left of it; every lane that got to send has a record. Also: whether all turns
    /// are over.
    async fn stage(
        &self,
        index: usize,
        stage: &Stage,
        rigs: &mut [Rig],
        conductor: &Conductor,
        journal: &mut Journal,
    ) -> Result<(Vec<Measured>, bool), RunError> {
        let mut lanes = Vec::with_capacity(rigs.len());
        for rig in rigs {
            let requests = self.prepare(rig, stage.load.batch())?;
            let measured = Self::empty_cell(rig, stage.load, &requests);
            lanes.push((rig, requests, measured));
        }
        let earlier = |turn| self.resume.as_ref().and_then(|resume| resume.entry(index, turn));
        let was_complete = (0..stage.turns.len()).all(|turn| earlier(turn).is_some());
        let mut complete = true;
        for (number, turn) in stage.turns.iter().enumerate() {
            let Some((rig, requests, measured)) = lanes.iter_mut().find(|(rig, ..)| rig.arm == turn.arm) else {
                continue;
            };
            let earlier = earlier(number);
            // Where blocks are left, their lanes are warmed up again.
            if let Some(entry) = earlier.filter(|entry| was_complete || matches!(entry.done, Done::Block(_))) {
                self.progress.advance(turn.arm.lane, Effort::of(*turn, stage.load), entry.took);
                entry.done.clone().add_to(measured);
                continue;
            }
            if self.stop.soon.is_cancelled() {
                complete = false;
                continue;
            }
            let began = conductor.epoch.elapsed();
            let mut done = self.turn(turn, stage.load, rig, requests, measured.requests(), conductor).await?;
            if let (Done::WarmUp(again), Some(Entry { done: Done::WarmUp(first), .. })) = (&mut done, earlier) {
                again.follows(first.clone());
            }
            let elapsed = conductor.epoch.elapsed();
            match conductor.cancel.is_cancelled() {
                true => complete = false,
                false => {
                    let (took, done) = (elapsed - began, done.clone());
                    journal.add(&Entry { stage: index, turn: number, took, elapsed, done })?;
                }
            }
            done.add_to(measured);
        }
        Ok((lanes.into_iter().map(|(_, _, measured)| measured).collect(), complete))
    }

    /// Drives one turn; `sent` requests went before it.
    async fn turn(
        &self,
        turn: &Turn,
        load: Load,
        rig: &mut Rig,
        requests: &Arc<[Prepared]>,
        sent: usize,
        conductor: &Conductor,
    ) -> Result<Done, RunError> {
        let lane = turn.arm.lane;
        self.progress.begin(lane, load);
        let mut watch = Stopwatch::start();
        let mut requests_done = |n: usize| {
            let done = Effort::of(Turn { arm: turn.arm, work: Work::Block(n) }, load);
            self.progress.advance(lane, done, watch.lap());
        };
        let mut ahead = Effort::of(*turn, load).windows;
        let mut tell = |done: Effort| {
            ahead = ahead.saturating_sub(done.windows);
            self.progress.advance(lane, done, Duration::ZERO);
        };
        let block = match (turn.work, load) {
            (Work::WarmUp { least, most }, _) => {
                return Ok(Done::WarmUp(rig.warm_up(requests, (least, most), conductor, &mut requests_done).await?));
            }
            (Work::Block(n), _) => {
                // Blocks go on through the photographs where the last one ended.
                let first = sent % requests.len().max(1);
                rig.block(requests, first, n, conductor, &mut requests_done).await?
            }
            (Work::Window { ramp, length }, Load::Open { .. }) => {
                let schedule = self.schedule(load, ramp + length);
                rig.open_window(Arc::clone(requests), schedule, (ramp, length), conductor, &mut tell).await?
            }
            (Work::Window { ramp, length }, _) => {
                rig.window(Arc::clone(requests), load.workers(), (ramp, length), conductor, &mut tell).await?
            }
        };
        // A window may end before its time: with its last request, or with the most that it may send.
        self.progress.advance(lane, Effort { windows: ahead, ..Effort::default() }, Duration::ZERO);
        Ok(Done::Block(Box::new(block)))
    }

    /// Writes the report as it stands; each file is replaced as a whole.
    pub(crate) fn save(&self, report: &mut Report, conductor: &Conductor, folder: &Path) -> Result<(), RunError> {
        report.elapsed_s = conductor.epoch.elapsed().as_secs_f64();
        crate::study::hypotheses::conclude(report);
        for (name, contents) in report.files()? {
            let path = folder.join(name);
            let partial = folder.join(format!("{name}.partial"));
            fs::write(&partial, contents)
                .and_then(|()| fs::rename(&partial, &path))
                .map_err(|source| RunError::Write { path, source })?;
        }
        Ok(())
    }
}

/// Makes the run's folder, `<output>/<UTC time>`, numbered when there is one already.
fn make_folder(output: &Path, name: &str) -> Result<PathBuf, RunError> {
    let write_error = |path: &Path, source| RunError::Write { path: path.to_owned(), source };
    fs::create_dir_all(output).map_err(|e| write_error(output, e))?;
    let mut path = output.join(name);
    for number in 2.. {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = output.join(format!("{name}-{number}"));
            }
            result => {
                result.map_err(|e| write_error(&path, e))?;
                break;
            }
        }
    }
    Ok(path)
}
