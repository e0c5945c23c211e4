//! What the forms of photographs cost in accuracy: outputs for each against those for the exact form, before anything is
//! timed.

use crate::{
    analysis::outputs::nearness,
    client::call::{CallError, Prepared},
    model::{
        data::Data,
        encoding::Encoding,
        outputs::{Output, PayloadAccuracy},
        variant::Variant,
    },
    run::{clock::RunClock, error::RunError, lane_client::LaneClient, plan::Plan, preflight::describe, setup::Run},
};

impl Run<'_> {
    /// Sends every photograph in each form that is not exact, and in the exact form, to the first variant of every lane with
    /// that form: one by one, and in one request of the largest batch of the plan.
    pub(super) async fn payload_accuracy(
        &self,
        clients: &mut [LaneClient],
        clock: &RunClock,
    ) -> Result<Vec<PayloadAccuracy>, RunError> {
        let mut found: Vec<PayloadAccuracy> = Vec::new();
        let mut exact: Vec<(Variant, Result<Vec<Output>, String>)> = Vec::new();
        for client in clients {
            let (lane, payload) = (client.variant.lane, client.variant.payload);
            let done = found.iter().any(|accuracy| (accuracy.lane, accuracy.payload) == (lane, payload));
            if done || payload.is_exact(client.target.protocol()) || self.settings.data != Data::Photos {
                continue;
            }
            let variant = Variant { payload: Encoding::exact(client.target.protocol()), ..Variant::plain(lane) };
            if !exact.iter().any(|(known, _)| *known == variant) {
                self.progress.say(&format!("comparing {payload} on {lane} with {}", variant.payload));
                exact.push((variant, self.exact_outputs(client, variant, clock).await));
            }
            let reference = exact.iter().find(|(known, _)| *known == variant).map(|(_, outputs)| outputs.clone());
            let largest = Plan::new(&self.settings, &[lane]).largest_batch();
            for batch in [1, largest].into_iter().take(if largest > 1 { 2 } else { 1 }) {
                if self.stop.soon.is_cancelled() {
                    return Ok(found);
                }
                let outputs = self.outputs_of(client, batch).await?;
                let empty = PayloadAccuracy {
                    lane,
                    payload,
                    exact: variant.payload,
                    batch,
                    images: 0,
                    top1: None,
                    min_cosine: None,
                    mean_cosine: None,
                    missing: None,
                };
                found.push(match (reference.clone().unwrap_or_else(|| Ok(Vec::new())), outputs) {
                    (Err(reason), _) | (Ok(_), Err(reason)) => PayloadAccuracy { missing: Some(reason), ..empty },
                    (Ok(exact), Ok(outputs)) => {
                        let images = if batch > 1 { batch } else { self.payload.variants() };
                        let near = nearness(&repeated(&exact, images), &outputs);
                        let (top1, min_cosine, mean_cosine) = (near.top1, near.min_cosine, near.mean_cosine);
                        PayloadAccuracy { images, top1, min_cosine, mean_cosine, ..empty }
                    }
                });
            }
        }
        Ok(found)
    }

    /// A lane's outputs for every photograph in its exact form, from the model that takes it.
    async fn exact_outputs(
        &self,
        client: &LaneClient,
        variant: Variant,
        clock: &RunClock,
    ) -> Result<Vec<Output>, String> {
        let target = self.targets.iter().find(|target| target.lane == variant.lane).ok_or("the lane is not known")?;
        let mut exact = LaneClient::new(target, variant, self.settings.limits, clock.clone());
        let described = describe(&exact.target, self.settings.limits).await.map_err(|error| error.to_string())?;
        self.set_inputs(&mut exact, described.signature).map_err(|error| error.to_string())?;
        exact.signature.embedding.clone_from(&client.signature.embedding);
        self.outputs_of(&mut exact, 1).await.map_err(|error| error.to_string())?
    }

    /// The outputs for every photograph alone, or for one request of a larger batch.
    async fn outputs_of(&self, client: &mut LaneClient, batch: usize) -> Result<Result<Vec<Output>, String>, RunError> {
        let requests = self.prepare(client, batch)?;
        let sent = if batch > 1 { &requests[..1] } else { &requests[..] };
        Ok(all_outputs(client, sent).await.map_err(|error| error.to_string()))
    }
}

/// The outputs of several requests, row after row.
pub(super) async fn all_outputs(client: &mut LaneClient, requests: &[Prepared]) -> Result<Vec<Output>, CallError> {
    let mut outputs: Vec<Output> = Vec::new();
    for request in requests {
        for Output { name, rows } in client.outputs(request).await? {
            match outputs.iter_mut().find(|output| output.name == name) {
                Some(output) => output.rows.extend(rows),
                None => outputs.push(Output { name, rows }),
            }
        }
    }
    Ok(outputs)
}

/// The outputs for this many images, which repeat those of the photographs.
fn repeated(outputs: &[Output], images: usize) -> Vec<Output> {
    let repeat = |output: &Output| Output {
        name: output.name.clone(),
        rows: output.rows.iter().cycle().take(images).cloned().collect(),
    };
    outputs.iter().map(repeat).collect()
}
