//! Instance threads. An idle instance takes the batch itself, so a batch forms as late as possible.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use crate::{
    backend::{Instance, RunTimings},
    batch::{
        gather::{gather, scatter, zeros},
        queue::{Pending, Queue},
    },
    buffer::BufferPool,
    cancel::Cancel,
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, OutputSet, Stage},
    spec::ModelSpec,
    stats::ModelStats,
    tensor::{Shape, Tensor},
};

/// What the threads of one model share.
pub(crate) struct Shared {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) queue: Queue,
    pub(crate) stats: ModelStats,
    pub(crate) pool: BufferPool,
}

/// Runs each announced batch size once, on zeros; dynamic dimensions are 1.
pub(crate) fn warm_up(spec: &ModelSpec, instance: &mut dyn Instance) -> Result<(), InferError> {
    for &rows in spec.warmup_batch_sizes() {
        let inputs = spec
            .inputs()
            .iter()
            .map(|input| {
                let dims = input.dims.iter().map(|dim| dim.unwrap_or(1));
                let dims: Vec<_> = spec.batches().then_some(rows).into_iter().chain(dims).collect();
                zeros(input.data_type, Shape::new(dims))
            })
            .collect::<Result<Vec<_>, _>>()?;
        run(instance, &inputs, OutputSet::all(spec.outputs().len()), &Cancel::new(1), &mut RunTimings::default())?;
    }
    Ok(())
}

/// The body of an instance's thread: serves until the queue is closed and empty.
pub(crate) fn serve(shared: &Shared, instance: &mut dyn Instance) {
    let expired = |pending: Pending| {
        let error = InferError::new(ErrorKind::DeadlineExceeded, "Request timeout expired");
        answer(shared, pending, Err(error));
    };
    while let Some(batch) = shared.queue.next_batch(expired) {
        execute(shared, instance, batch);
    }
}

fn execute(shared: &Shared, instance: &mut dyn Instance, mut batch: Vec<Pending>) {
    let started = Instant::now();
    for pending in &mut batch {
        pending.request.timings[Stage::Queue] = started.saturating_duration_since(pending.queued);
    }
    match attempt(shared, instance, &batch, started) {
        Ok(responses) => {
            for (pending, response) in batch.into_iter().zip(responses) {
                answer(shared, pending, Ok(response));
            }
        }
        Err(error) if batch.len() == 1 => {
            for pending in batch {
                answer(shared, pending, Err(error.clone()));
            }
        }
        // One request of the batch may be at fault: alone, each gets what it deserves.
        Err(error) => {
            tracing::warn!(model = shared.spec.name(), %error, requests = batch.len(), "batch failed; running its requests one by one");
            for pending in batch {
                execute(shared, instance, vec![pending]);
            }
        }
    }
}

fn attempt(
    shared: &Shared,
    instance: &mut dyn Instance,
    batch: &[Pending],
    started: Instant,
) -> Result<Vec<InferResponse>, InferError> {
    let requests: Vec<&InferRequest> = batch.iter().map(|pending| &pending.request).collect();
    let inputs = gather(&requests, &shared.pool)?;
    let gathered = started.elapsed();
    let wanted = requests.iter().fold(OutputSet::NONE, |set, request| set.union(request.outputs));
    let mut times = RunTimings::default();
    let outputs = run(instance, &inputs, wanted, &Cancel::new(batch.len()), &mut times)?;
    shared.stats.executed();
    let ran = Instant::now();
    let answers = scatter(&shared.spec, &requests, outputs)?;
    times.copy_out += ran.elapsed();
    Ok(answers
        .into_iter()
        .zip(&requests)
        .map(|(outputs, request)| {
            let mut timings = request.timings;
            timings[Stage::Gather] = gathered;
            timings[Stage::CopyIn] = times.copy_in;
            timings[Stage::Infer] = times.infer;
            timings[Stage::CopyOut] = times.copy_out;
            InferResponse { outputs, timings }
        })
        .collect())
}

/// Runs the instance; a panic in the backend costs its batch, not the server.
fn run(
    instance: &mut dyn Instance,
    inputs: &[Tensor],
    wanted: OutputSet,
    cancel: &Cancel,
    timings: &mut RunTimings,
) -> Result<Vec<Option<Tensor>>, InferError> {
    catch_unwind(AssertUnwindSafe(|| instance.run(inputs, wanted, cancel, timings)))
        .unwrap_or_else(|_| Err(InferError::internal("the backend panicked; see the server's log")))
}

/// Counts first, so that whoever has the answer finds it counted.
fn answer(shared: &Shared, pending: Pending, outcome: Result<InferResponse, InferError>) {
    match &outcome {
        Ok(response) => {
            shared.stats.succeeded(pending.request.rows, pending.request.started.elapsed(), &response.timings);
        }
        Err(error) => shared.stats.failed(error.kind()),
    }
    // A client that has gone away no longer listens.
    let _ = pending.reply.send(outcome);
}
