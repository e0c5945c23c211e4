//! What comes before anything is timed: which servers the lanes are, a folder, and whether their outputs agree.

use std::{path::PathBuf, time::SystemTime};

use crate::{
    analysis::{outputs::compare, stats::bootstrap},
    client::{endpoint::Endpoint, target::Target},
    model::{
        environment::Environment,
        estimate::Statistic,
        lane::Lane,
        outputs::{Comparison, NoOutputs},
        report::{Report, SCHEMA},
        transport::{self, Transport},
        variant::Arm,
    },
    run::{
        clock::Conductor, environment::utc, error::RunError, folder::make_folder, lane_client::Rig,
        preflight::describe, setup::Run,
    },
};

impl Run<'_> {
    /// What comes before anything is timed: who the lanes are, a folder, and whether their outputs agree.
    pub(super) async fn begin(&self, clock: &Conductor) -> Result<(Report, PathBuf, Vec<Rig>), RunError> {
        let mut report = self.empty_report(utc(SystemTime::now()));
        let lanes: Vec<Lane> = self.targets.iter().map(|target| target.lane).collect();
        let arms = Arm::all(&self.settings, &lanes);
        let mut rigs: Vec<Rig> = self
            .targets
            .iter()
            .flat_map(|target| arms.iter().filter(|arm| arm.lane == target.lane).map(move |arm| (target, *arm)))
            .map(|(target, arm)| Rig::new(&self.way(target, arm), arm, self.settings.limits, clock.clone()))
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
}
