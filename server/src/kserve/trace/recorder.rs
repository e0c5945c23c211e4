//! Records a traced request, from its first byte until its response has been sent.

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

/// The protocol of a request, which names its first and last timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
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

/// How and when a request was received.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The protocol of the request.
    pub protocol: Protocol,
    /// When its first byte was received.
    pub started: Instant,
    /// When its last byte was received.
    pub received: Instant,
    /// Its headers, which may name the client's trace.
    pub headers: &'a HeaderMap,
}

/// The trace of a request to an ensemble, to which its steps add theirs.
#[derive(Clone)]
pub struct StepTraces {
    parent_id: u64,
    levels: Levels,
    ids: Arc<AtomicU64>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl StepTraces {
    /// Starts the trace of a step that runs this model.
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

/// Where a finished trace goes.
enum Destination {
    /// The trace of a client's request goes to the writer.
    Client { protocol: Protocol, sink: Sink, sending: bool },
    /// The trace of a step goes into that of its ensemble.
    Step(StepTraces),
}

/// The trace of one request. Dropping it, after the last byte of the response, hands its record to the writer.
pub struct Trace {
    record: Box<Record>,
    destination: Destination,
    ids: Arc<AtomicU64>,
    steps: Option<StepTraces>,
}

impl Trace {
    /// Starts the trace of a request with the next of `ids` and these settings.
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
        let destination = Destination::Client { protocol: arrival.protocol, sink, sending: false };
        let mut trace = Self { record: Box::new(record), destination, ids: Arc::clone(ids), steps: None };
        let [start, end] = arrival.protocol.received();
        trace.stamp(start, arrival.started);
        trace.stamp(end, arrival.received);
        trace
    }

    /// Makes the trace a part of the client's trace, if there is one.
    pub(super) fn within(mut self, context: Option<Context>) -> Self {
        self.record.context = context;
        self
    }

    fn stamp(&mut self, name: &'static str, at: Instant) {
        if self.record.levels.timestamps {
            self.record.stamps.push(Stamp { name, at });
        }
    }

    /// The request, whose id is `id`, was read.
    pub(in crate::kserve) fn started(&mut self, id: &str) {
        id.clone_into(&mut self.record.request_id);
        self.stamp("REQUEST_START", Instant::now());
    }

    /// The traces of the steps, if the model is an ensemble.
    pub(in crate::kserve) fn steps(&mut self) -> StepTraces {
        let new = || StepTraces {
            parent_id: self.record.id,
            levels: self.record.levels,
            ids: Arc::clone(&self.ids),
            records: Arc::default(),
        };
        self.steps.get_or_insert_with(new).clone()
    }

    /// The request was queued with these inputs.
    pub(in crate::kserve) fn queued<'t>(&mut self, inputs: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        self.stamp("QUEUE_START", Instant::now());
        self.note("TENSOR_QUEUE_INPUT", inputs);
    }

    /// The model has run. The request was queued at `queued`, and the stages took `timings`.
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

    /// The model returned these outputs.
    pub(in crate::kserve) fn answered<'t>(&mut self, outputs: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        self.stamp("INFER_RESPONSE_COMPLETE", Instant::now());
        self.note("TENSOR_BACKEND_OUTPUT", outputs);
    }

    /// The request ended, successfully or not.
    pub(in crate::kserve) fn ended(&mut self) {
        self.stamp("REQUEST_END", Instant::now());
    }

    /// The request failed.
    pub fn failed(&mut self, error: &InferError) {
        self.record.error = Some(message::for_client(error).into_owned());
    }

    /// The response is sent from now on.
    pub fn sending(&mut self) {
        if let Destination::Client { protocol, sending, .. } = &mut self.destination {
            *sending = true;
            let [start, _] = protocol.sent();
            self.stamp(start, Instant::now());
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
            Destination::Client { protocol, sink, sending } => {
                let (end, sink) = (sending.then(|| protocol.sent()[1]), sink.clone());
                if let Some(end) = end {
                    self.stamp(end, Instant::now());
                }
                sink.write(std::mem::take(&mut self.record));
            }
            Destination::Step(ensemble) => ensemble.records.lock().push(std::mem::take(&mut self.record)),
        }
    }
}
