//! The threads of a model's instances, and how a request gets to one and back. An idle instance takes a batch from the
//! queue itself, so a batch forms as late as possible.

use std::{
    sync::{Arc, OnceLock, mpsc::Sender},
    time::Instant,
};

use parking_lot::Mutex;
use tokio::time::timeout_at;

use super::{
    pace::Pace,
    warmup::{self, Sample, WarmUpError},
};
use crate::{
    backend::{Instance, RunRequest, RunTimings, guarded, guarded_as},
    batch::{
        gather::{gather, lacks_rows, scatter},
        queue::{Queue, Work},
        scheduler::{Batch, Outcome, Pending},
    },
    buffer::BufferPool,
    cancel::Cancel,
    error::{ErrorKind, InferError},
    request::{InferRequest, InferResponse, Stage},
    spec::{ModelSpec, OutputSet},
    stats::ModelStats,
    tensor::Tensor,
};

/// Observes the errors of a lost device.
type OnDeviceLost = Box<dyn Fn(&InferError) + Send + Sync>;

/// What the threads of one model share.
pub(crate) struct Shared {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) queue: Queue,
    pub(crate) stats: Arc<ModelStats>,
    pub(crate) pool: BufferPool,
    /// Each is locked while it runs, and `None` after its thread has ended.
    pub(crate) instances: Vec<Mutex<Option<Box<dyn Instance>>>>,
    /// `None` if the instances run on their own threads only.
    pub(crate) pace: Option<Pace>,
    /// Called with each error of a lost device.
    pub(crate) on_device_lost: OnceLock<OnDeviceLost>,
}

impl Shared {
    /// As [`crate::Model::infer`], without the cache.
    pub(crate) async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferError> {
        let started = request.started;
        let bytes = bytes(&request.inputs);
        let ticket =
            self.queue.accept(request).inspect_err(|error| self.stats.failed(error.kind(), started.elapsed()))?;
        reject(self, ticket.evicted, &InferError::Overloaded);
        self.dispatch(bytes);
        let mut guard = CancelOnDrop { shared: self, started, number: Some(ticket.number) };
        let mut outcome = ticket.outcome;
        let ended = match ticket.rejected_at {
            None => outcome.await,
            Some(at) => match timeout_at(at.into(), &mut outcome).await {
                Ok(ended) => ended,
                Err(_) if self.queue.remove(ticket.number).is_some() => {
                    guard.number = None;
                    self.stats.failed(ErrorKind::DeadlineExceeded, started.elapsed());
                    return Err(InferError::DeadlineExceeded);
                }
                // It is running: the deadline only limits waiting.
                Err(_) => outcome.await,
            },
        };
        guard.number = None;
        ended.unwrap_or(Err(InferError::InstanceLost))
    }

    /// Finds an instance for a request of this many bytes that has just been accepted. This thread runs it if the
    /// request is alone and expected to be quick, and an instance is idle.
    fn dispatch(&self, bytes: usize) {
        if !self.pace.as_ref().is_some_and(|pace| pace.is_quick(bytes)) {
            return self.queue.wake();
        }
        // If all instances run, the first one that is done looks into the queue again.
        let Some(mut idle) = self.instances.iter().find_map(Mutex::try_lock) else { return };
        if let Some(instance) = idle.as_deref_mut()
            && let Some(work) = self.queue.take_lone()
        {
            carry_out(self, instance, work);
        }
        drop(idle);
        if !self.queue.is_empty() {
            self.queue.wake();
        }
    }
}

fn bytes(inputs: &[Option<Tensor>]) -> usize {
    inputs.iter().flatten().map(|input| input.data().len()).sum()
}

/// Cancels a request when the future that waits for it is dropped.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    started: Instant,
    number: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && self.shared.queue.give_up(number).is_some()
        {
            self.shared.stats.failed(ErrorKind::Cancelled, self.started.elapsed());
        }
    }
}

/// What an instance is warmed with.
#[derive(Clone)]
pub(crate) struct WarmUp {
    pub(crate) samples: Arc<[Sample]>,
    /// Batch sizes that run on zeros.
    pub(crate) batch_sizes: Vec<usize>,
}

/// The body of an instance's thread: warms the instance, reports the batch sizes that ran on zeros to `warmed`, and serves
/// until the queue is closed and empty. It drops the instance then, even if the model is still referenced.
pub(crate) fn serve(shared: &Shared, index: usize, with: WarmUp, warmed: Sender<Result<Vec<usize>, WarmUpError>>) {
    let Some(instance) = shared.instances.get(index) else { return };
    let outcome = instance.lock().as_deref_mut().map_or(Ok(Vec::new()), |instance| {
        warmup::run_samples(&shared.spec, &with.samples, instance)?;
        warmup::run_on_zeros(&shared.spec, &with.batch_sizes, instance)
    });
    // The samples are not needed any more; the thread may run as long as the process.
    drop(with);
    let _ = warmed.send(outcome);
    let rests_after = instance.lock().as_deref().and_then(Instance::rests_after);
    let mut patience = rests_after;
    while let Some(work) = shared.queue.next(patience) {
        // Once it rests, there is nothing left to give back until it runs.
        patience = if matches!(work, Work::Rest) { None } else { rests_after };
        if let Some(instance) = instance.lock().as_deref_mut() {
            carry_out(shared, instance, work);
        }
    }
    drop(instance.lock().take());
}

fn carry_out(shared: &Shared, instance: &mut dyn Instance, work: Work) {
    match work {
        Work::Run(batch) => execute(shared, instance, batch),
        Work::Reject(requests, error) => reject(shared, requests, &error),
        Work::Rest => {
            let rested = guarded(|| {
                instance.rest();
                Ok(())
            });
            if let Err(error) = rested {
                tracing::error!(model = shared.spec.name(), %error, "an instance cannot rest");
            }
        }
    }
}

fn reject(shared: &Shared, requests: Vec<Pending>, error: &InferError) {
    for pending in requests {
        shared.stats.failed(error.kind(), pending.request.started.elapsed());
        let _ = pending.reply.send(Err(error.clone()));
    }
}

fn execute(shared: &Shared, instance: &mut dyn Instance, batch: Batch) {
    let started = Instant::now();
    // The last moment to leave out cancelled requests.
    let (cancelled, mut requests): (Vec<_>, Vec<_>) =
        batch.requests.into_iter().partition(|pending| pending.reply.is_closed());
    finish(shared, cancelled.into_iter().map(|pending| (pending, Err(InferError::Cancelled))).collect());
    if requests.is_empty() {
        return;
    }
    for pending in &mut requests {
        pending.request.timings[Stage::Queue] = started.saturating_duration_since(pending.queued);
    }
    // Data of a request or outputs of the backend may make gathering or splitting panic, too.
    let attempted = guarded_as(InferError::Panicked, || attempt(shared, instance, &requests, &batch.cancel, started));
    if let Err(error) = &attempted
        && error.kind() == ErrorKind::DeviceLost
        && let Some(observe) = shared.on_device_lost.get()
    {
        observe(error);
    }
    match attempted {
        Ok(responses) => finish(shared, requests.into_iter().zip(responses.into_iter().map(Ok)).collect()),
        // Without the device, none of them would get another outcome alone.
        Err(error) if requests.len() == 1 || batch.cancel.is_cancelled() || error.kind() == ErrorKind::DeviceLost => {
            finish(shared, requests.into_iter().map(|pending| (pending, Err(error.clone()))).collect());
        }
        // One request of the batch may be the cause: alone, each gets its own outcome.
        Err(error) => {
            tracing::warn!(model = shared.spec.name(), %error, requests = requests.len(), "batch failed; running its requests one by one");
            for pending in requests {
                match shared.queue.run_alone(pending.number) {
                    Some(cancel) => execute(shared, instance, Batch { requests: vec![pending], cancel }),
                    None => finish(shared, vec![(pending, Err(InferError::Cancelled))]),
                }
            }
        }
    }
}

fn attempt(
    shared: &Shared,
    instance: &mut dyn Instance,
    batch: &[Pending],
    cancel: &Cancel,
    started: Instant,
) -> Result<Vec<InferResponse>, InferError> {
    let requests: Vec<&InferRequest> = batch.iter().map(|pending| &pending.request).collect();
    let inputs = gather(&requests, &shared.pool)?;
    let gathered = started.elapsed();
    let mut times = RunTimings::default();
    let placements = match requests[..] {
        [request] => request.output_placements(&shared.spec, &inputs),
        _ => Vec::new(),
    };
    let run = RunRequest {
        inputs: &inputs,
        outputs: requests.iter().fold(OutputSet::NONE, |set, request| set.union(request.outputs)),
        placements: &placements,
        cancel,
    };
    let outputs = guarded(|| instance.run(run, &mut times))?;
    let ran = Instant::now();
    if let Some(pace) = &shared.pace {
        pace.ran(bytes(&inputs), ran - started);
    }
    if shared.spec.batching_is_assumed() {
        let rows = requests.iter().map(|request| request.rows).sum();
        let is_no_batch = outputs.iter().flatten().any(|output| lacks_rows(&shared.spec, output, rows));
        if is_no_batch && shared.queue.stop_batching() {
            tracing::warn!(
                model = shared.spec.name(),
                "the first dimension is not a batch: each request runs alone from now on; max_batch_size: 0 and the \
                 dims in config.pbtxt say so from the start"
            );
        }
    }
    let answers = scatter(&shared.spec, &requests, outputs)?;
    times.copy_out += ran.elapsed();
    shared.stats.executed(requests.iter().map(|request| request.rows).sum(), gathered, &times);
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

/// Counts outcomes, then sends them, so that a client that has its response finds it counted. A request without a
/// receiver counts as cancelled, whatever its outcome. An observer of the counters that panics costs no response.
fn finish(shared: &Shared, answers: Vec<(Pending, Outcome)>) {
    for (pending, outcome) in &answers {
        let elapsed = pending.request.started.elapsed();
        let counted = guarded_as(InferError::Panicked, || {
            match outcome {
                _ if pending.reply.is_closed() => shared.stats.failed(ErrorKind::Cancelled, elapsed),
                Ok(response) => shared.stats.succeeded(elapsed, &response.timings),
                Err(error) => shared.stats.failed(error.kind(), elapsed),
            }
            Ok(())
        });
        if counted.is_err() {
            tracing::error!(model = shared.spec.name(), "an observer of the model's counters panicked");
        }
    }
    shared.queue.finish(answers);
}
