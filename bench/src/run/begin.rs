//! Begins a run, before anything is timed: describes the lanes, makes the folder, compares outputs.

use std::{path::PathBuf, time::SystemTime};

use crate::{
    analysis::{
        outputs::{LaneOutputs, compare},
        stats::bootstrap,
    },
    client::{endpoint::Endpoint, target::Target},
    model::{
        encoding::Encoding,
        environment::Environment,
        estimate::Statistic,
        lane::Lane,
        outputs::{Comparison, NoOutputs},
        precision::Precision,
        report::{LaneInfo, Report, SCHEMA},
        transport::{self, Transport},
        variant::Variant,
    },
    run::{
        clock::RunClock, environment::utc, error::RunError, folder::make_folder, lane_client::LaneClient,
        preflight::describe, setup::Run,
    },
};

impl Run<'_> {
    /// Describes the lanes, makes or reopens the folder and compares the outputs, before anything is timed.
    pub(super) async fn begin(&self, clock: &RunClock) -> Result<(Report, PathBuf, Vec<LaneClient>), RunError> {
        let mut report = self.empty_report(utc(SystemTime::now()));
        let lanes: Vec<Lane> = self.targets.iter().map(|target| target.lane).collect();
        let variants = Variant::all(&self.settings, &lanes);
        let mut clients: Vec<LaneClient> = self
            .targets
            .iter()
            .flat_map(|target| {
                variants.iter().filter(|variant| variant.lane == target.lane).map(move |variant| (target, *variant))
            })
            .map(|(target, variant)| {
                LaneClient::new(&self.variant_target(target, variant), variant, self.settings.limits, clock.clone())
            })
            .collect();
        self.describe_lanes(&mut clients, &mut report).await?;
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
        for client in &mut clients {
            let lane = client.variant.lane;
            client.share(&self.payload).await.map_err(|reason| RunError::Shared { lane, reason })?;
        }
        self.progress.say("comparing the lanes' outputs");
        report.outputs = self.compare_outputs(&mut clients, &report.lanes).await?;
        Ok((report, folder, clients))
    }

    /// A lane's target with the address of a variant.
    fn variant_target(&self, target: &Target, variant: Variant) -> Target {
        match (&self.settings.uds_dir, variant.transport) {
            (Some(folder), Transport::Uds) => {
                Target { endpoint: Endpoint::unix(transport::socket(folder, variant.lane)), ..target.clone() }
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
            capacities: Vec::new(),
            scenario: None,
            differences: Vec::new(),
            speedups: Vec::new(),
            hypotheses: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Asks every lane for every model it needs, so that one error names all missing ones.
    async fn describe_lanes(&self, clients: &mut [LaneClient], report: &mut Report) -> Result<(), RunError> {
        let mut errors = Vec::new();
        let mut asked: Vec<Target> = Vec::new();
        for client in clients {
            if asked.contains(&client.target) {
                continue;
            }
            let known = asked.iter().any(|target| target.lane == client.target.lane);
            asked.push(client.target.clone());
            match describe(&client.target, self.settings.limits).await {
                // The first model of a lane describes it.
                Ok(description) if !known => {
                    let counters_missing = client.scraper.read().await.err();
                    report.lanes.push(description.into_info(&client.target, client.scraper.url(), counters_missing));
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(RunError::Lanes(errors)) }
    }

    /// Sends every photograph to the first variant of every lane and compares the outputs.
    async fn compare_outputs(&self, clients: &mut [LaneClient], infos: &[LaneInfo]) -> Result<Comparison, RunError> {
        let (mut outputs, mut missing) = (Vec::new(), Vec::new());
        let mut done = None;
        for client in clients {
            let lane = client.target.lane;
            if done.replace(lane) == Some(lane) {
                continue;
            }
            let requests = self.prepare(client, 1)?;
            let mut rows = Vec::with_capacity(requests.len());
            let mut failure = None;
            for request in &requests[..] {
                let answer = tokio::select! {
                    () = self.stop.soon.cancelled() => return Ok(compare(&outputs, missing)),
                    answer = client.embeddings(request) => answer,
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
                None => outputs.push(LaneOutputs { lane, precision: precision(client.variant, infos), rows }),
                Some(reason) => missing.push(NoOutputs { lane, reason }),
            }
        }
        Ok(compare(&outputs, missing))
    }
}

/// The precision of a variant's outputs: that of its images if they are FP16, or what its server states.
fn precision(variant: Variant, infos: &[LaneInfo]) -> Precision {
    let stated = infos.iter().find(|info| info.lane == variant.lane).and_then(|info| info.precision.as_deref());
    let stated = stated.and_then(|text| text.parse::<Precision>().ok()).unwrap_or_default();
    if variant.payload == Encoding::Fp16 { stated.max(Precision::Fp16) } else { stated }
}
