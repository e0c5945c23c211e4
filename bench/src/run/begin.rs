//! Begins a run, before anything is timed: describes the lanes, makes the folder, compares outputs.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use quintet_preprocess::Preparation;

use crate::{
    analysis::{
        outputs::{LaneOutputs, compare},
        stats::bootstrap,
    },
    client::{
        endpoint::Endpoint,
        inputs::{self, InputError, Inputs},
        target::Target,
    },
    model::{
        encoding::{Encoding, Form},
        environment::Environment,
        estimate::Statistic,
        lane::{Lane, Peer},
        outputs::{Comparison, NoOutputs},
        precision::Precision,
        protocol::Protocol,
        report::{LaneInfo, Report, SCHEMA},
        settings::Settings,
        signature::Signature,
        transport::{self, Transport},
        variant::Variant,
    },
    run::{
        accuracy::all_outputs,
        clock::RunClock,
        environment::utc,
        error::RunError,
        folder::make_folder,
        lane_client::LaneClient,
        plan::Plan,
        preflight::{LaneError, describe},
        setup::Run,
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
        report.outputs.payloads = self.payload_accuracy(&mut clients, clock).await?;
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
        let mean_ms = |times: &[Duration]| {
            let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            bootstrap(&ms, Statistic::Mean, self.settings.seed)
        };
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
            client_preprocess_ms: mean_ms(self.payload.preprocess_times()),
            client_resize_ms: mean_ms(self.payload.small_times()),
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

    /// Asks every lane for every model it needs, so that one error names all missing ones, and makes the data of each.
    async fn describe_lanes(&self, clients: &mut [LaneClient], report: &mut Report) -> Result<(), RunError> {
        let mut errors = Vec::new();
        // What each model's description says of its inputs; `None` if there is no description.
        let mut asked: Vec<(Target, Option<Option<Signature>>)> = Vec::new();
        for client in &mut *clients {
            let target = client.target.clone();
            if !asked.iter().any(|(other, _)| *other == target) {
                let known = asked.iter().any(|(other, _)| other.lane == target.lane);
                let described = match describe(&target, self.settings.limits).await {
                    Ok(mut description) => {
                        description.add_gpus(client.scraper.gpus().await);
                        let signature = description.signature.clone();
                        // The first model of a lane describes it.
                        if !known {
                            let counters_missing = client.scraper.read().await.err();
                            report.lanes.push(description.into_info(&target, client.scraper.url(), counters_missing));
                        }
                        Some(signature)
                    }
                    Err(error) => {
                        errors.push(error);
                        None
                    }
                };
                asked.push((target.clone(), described));
            }
            let described =
                asked.iter().find(|(other, _)| *other == target).and_then(|(_, described)| described.clone());
            let Some(signature) = described else { continue };
            if let Err(reason) = self.set_inputs(client, signature) {
                errors.push(LaneError::Inputs { lane: target.lane, model: target.model, reason });
            }
        }
        ask_as_the_jpeg_lane(clients);
        if errors.is_empty() { Ok(()) } else { Err(RunError::Lanes(errors)) }
    }

    /// Sets the inputs and outputs of a client's model, and the data of inputs that are no images.
    pub(super) fn set_inputs(&self, client: &mut LaneClient, signature: Option<Signature>) -> Result<(), InputError> {
        let payload = client.variant.payload;
        let signature = match signature {
            Some(signature) => signature,
            None if payload == Encoding::Tensors => return Err(InputError::NotDescribed),
            None => return Ok(()),
        };
        let lanes = [client.target.lane];
        let largest = Plan::new(&self.settings, &lanes).largest_batch();
        let is_jpeg = client.target.protocol() == Protocol::Jpeg;
        // Of embeddings the jpeg lane makes batches itself.
        let most = signature.largest_batch().filter(|_| !is_jpeg || signature.embedding.is_none());
        if let Some(most) = most.filter(|&most| most < largest) {
            return Err(InputError::Batch(most));
        }
        if payload == Encoding::Tensors {
            let Settings { data, shapes, seed, .. } = &self.settings;
            client.inputs = Some(Inputs::new(&signature, data, shapes, *seed)?);
        } else if !is_jpeg {
            let Some((_, preparation)) = signature.images(payload) else {
                return Err(InputError::NoImages(inputs::list(&signature)));
            };
            let ours = self.payload.preparation().filter(|_| payload.form() == Form::Numbers);
            if let Some(ours) = ours.filter(|&ours| *ours != preparation) {
                let [theirs, ours] = [&preparation, ours].map(Preparation::description);
                return Err(InputError::OtherImages { theirs, ours });
            }
        }
        client.signature = signature;
        Ok(())
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
            let answered = tokio::select! {
                () = self.stop.soon.cancelled() => return Ok(compare(&outputs, missing)),
                answered = all_outputs(client, &requests) => answered,
            };
            match answered {
                Ok(of_lane) => {
                    let precision = precision(client.variant, infos);
                    outputs.push(LaneOutputs { lane, precision, outputs: of_lane });
                }
                Err(error) => missing.push(NoOutputs { lane, reason: error.to_string() }),
            }
        }
        Ok(compare(&outputs, missing))
    }
}

/// Lets KServe's lanes ask for the output that the jpeg lane of the same server returns, so that all do the same.
fn ask_as_the_jpeg_lane(clients: &mut [LaneClient]) {
    let jpeg = |client: &&LaneClient| client.target.protocol() == Protocol::Jpeg;
    let returned: Vec<(Option<Peer>, Option<String>)> = clients
        .iter()
        .filter(jpeg)
        .map(|client| (client.target.lane.peer, client.signature.embedding.clone()))
        .collect();
    for client in clients {
        if let Some((_, embedding)) = returned.iter().find(|(peer, _)| *peer == client.target.lane.peer) {
            client.signature.embedding.clone_from(embedding);
        }
    }
}

/// The precision of a variant's outputs: that of its images if they are FP16, or what its server states.
fn precision(variant: Variant, infos: &[LaneInfo]) -> Precision {
    let stated = infos.iter().find(|info| info.lane == variant.lane).and_then(|info| info.precision.as_deref());
    let stated = stated.and_then(|text| text.parse::<Precision>().ok()).unwrap_or_default();
    if variant.payload == Encoding::Fp16 { stated.max(Precision::Fp16) } else { stated }
}
