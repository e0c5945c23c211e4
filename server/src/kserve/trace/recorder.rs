//! Recording a traced request, from its first byte until its response has been sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;
use quintet_engine::{InferError, ModelSpec, Stage, StageTimings, Tensor};

use super::{
    context::Context,
    record::{Record, Stamp, TracedTensor},
    settings::{Levels, Settings},
    sink::Sink,
};
use crate::kserve::message;

/// What carried a request: it gives the first and last timestamps their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Carrier {
    fn received(self) -> [&'static str; 2] {
        match self {
            Self::Http => ["HTTP_RECV_START", "HTTP_RECV_END"],
            Self::Grpc => ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END"],
        }
    }

    fn sent(self) -> [&'static str; 2] {
        match self {
            Self::Http => ["HTTP_SEND_START", "HTTP_SEND_END"],
            Self::Grpc => ["GRPC_SEND_START", "GRPC_SEND_END"],
        }
    }
}

/// How a request came.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// What carried it.
    pub carrier: Carrier,
    /// When the server had its first byte.
    pub started: Instant,
    /// When it had all of it.
    pub received: Instant,
    /// Its headers: they may name a trace that it is part of.
    pub headers: &'a HeaderMap,
}

/// What the steps of a traced request to an ensemble know of its trace.
#[derive(Clone)]
pub struct StepTraces {
    parent_id: u64,
    levels: Levels,
    ids: Arc<AtomicU64>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl StepTraces {
    /// The trace of a step that asks this model.
    pub fn begin(&self, spec: &ModelSpec) -> Trace {
        let record = Record {
            id: self.ids.fetch_add(1, Relaxed) + 1,
            parent_id: self.parent_id,
            model: spec.name().to_owned(),
            version: spec.version(),
            levels: self.levels,
            ..Record::default()
        };
        Trace {
            record: Box::new(record),
            destination: Destination::Step(self.clone()),
            ids: Arc::clone(&self.ids),
            steps: None,
        }
    }
}

/// Where a trace goes.
enum Destination {
    /// Of a request that a client sent: to the writer.
    Client { carrier: Carrier, sink: Sink, sending: bool },
    /// Of a step: to the ensemble's.
    Step(StepTraces),
}

/// A request that is traced. When it is dropped, with the answer's last byte, what was noted is written down.
pub struct Trace {
    record: Box<Record>,
    destination: Destination,
    ids: Arc<AtomicU64>,
    steps: Option<StepTraces>,
}

impl Trace {
    /// The trace, with the next of `ids`, taken by these settings, of a request that is part of `context`.
    pub(super) fn new(
        sink: Sink,
        spec: &ModelSpec,
        arrival: Arrival<'_>,
        ids: &Arc<AtomicU64>,
        settings: Settings,
    ) -> Self {
        let record = Record {
            id: ids.fetch_add(1, Relaxed) + 1,
            model: spec.name().to_owned(),
            version: spec.version(),
            levels: settings.levels,
            log_frequency: settings.log_frequency,
            stamps: Vec::with_capacity(14),
            ..Record::default()
        };
        let destination = Destination::Client { carrier: arrival.carrier, sink, sending: false };
        let mut trace = Self { record: Box::new(record), destination, ids: Arc::clone(ids), steps: None };
        let [start, end] = arrival.carrier.received();
        trace.stamp(start, arrival.started);
        trace.stamp(end, arrival.received);
        trace
    }

    /// The same trace within its client's, if the client traces the request.
    pub(super) fn within(mut self, context: Option<Context>) -> Self {
        self.record.context = context;
        self
    }

    fn stamp(&mut self, name: &'static str, at: Instant) {
        if self.record.levels.timestamps {
            self.record.stamps.push(Stamp { name, at });
        }
    }

    /// The request, called `id`, was read.
    pub(in crate::kserve) fn begun(&mut self, id: &str) {
        id.clone_into(&mut self.record.request_id);
        self.stamp("REQUEST_START", Instant::now());
    }

    /// For the steps of its model, which is an ensemble.
    pub(in crate::kserve) fn steps(&mut self) -> StepTraces {
        let new = || StepTraces {
            parent_id: self.record.id,
            levels: self.record.levels,
            ids: Arc::clone(&self.ids),
            records: Arc::default(),
        };
        self.steps.get_or_insert_with(new).clone()
    }

    /// It waits for its model, with these inputs.
    pub(in crate::kserve) fn queued<'t>(&mut self, inputs: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        self.stamp("QUEUE_START", Instant::now());
        self.note("TENSOR_QUEUE_INPUT", inputs);
    }

    /// Its model has run since `queued`, in these times.
    pub(in crate::kserve) fn ran(&mut self, queued: Instant, timings: &StageTimings) {
        let now = Instant::now();
        let mut after = Duration::ZERO;
        for (name, stages) in [
            ("COMPUTE_START", &[Stage::Queue][..]),
            ("COMPUTE_INPUT_END", &[Stage::Gather, Stage::CopyIn]),
            ("COMPUTE_OUTPUT_START", &[Stage::Infer]),
            ("COMPUTE_END", &[Stage::CopyOut]),
        ] {
            after += stages.iter().map(|&stage| timings[stage]).sum::<Duration>();
            self.stamp(name, (queued + after).min(now));
        }
    }

    /// Its model gave these outputs.
    pub(in crate::kserve) fn answered<'t>(&mut self, outputs: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        self.stamp("INFER_RESPONSE_COMPLETE", Instant::now());
        self.note("TENSOR_BACKEND_OUTPUT", outputs);
    }

    /// The request ended, well or not.
    pub(in crate::kserve) fn ended(&mut self) {
        self.stamp("REQUEST_END", Instant::now());
    }

    /// It failed.
    pub fn failed(&mut self, error: &InferError) {
        self.record.error = Some(message::of(error).into_owned());
    }

    /// From now on its answer is sent.
    pub fn sending(&mut self) {
        if let Destination::Client { carrier, sending, .. } = &mut self.destination {
            *sending = true;
            let begins = carrier.sent()[0];
            self.stamp(begins, Instant::now());
        }
    }

    fn note<'t>(&mut self, activity: &'static str, tensors: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        if self.record.levels.tensors {
            let traced = |(name, tensor): (&str, &Tensor)| TracedTensor {
                activity,
                name: name.to_owned(),
                tensor: tensor.clone(),
            };
            self.record.tensors.extend(tensors.map(traced));
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(steps) = self.steps.take() {
            self.record.steps = std::mem::take(&mut *steps.records.lock());
        }
        match &self.destination {
            Destination::Client { carrier, sink, sending } => {
                let (ends, sink) = (sending.then(|| carrier.sent()[1]), sink.clone());
                if let Some(ends) = ends {
                    self.stamp(ends, Instant::now());
                }
                sink.write(std::mem::take(&mut self.record));
            }
            Destination::Step(ensemble) => ensemble.records.lock().push(std::mem::take(&mut self.record)),
        }
    }
}
