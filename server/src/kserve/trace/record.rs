//! A request that is traced: what is noted of it on its way, handed to the writer when its answer has been sent.

use std::time::{Duration, Instant};

use http::HeaderMap;
use quintet_engine::{InferError, ModelSpec, Stage, StageTimings, Tensor};

use super::{Levels, Settings, context::Context, sink::Sink};

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

/// When something happened, by Triton's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) name: &'static str,
    pub(super) at: Instant,
}

/// A tensor on its way in or out.
#[derive(Clone, Debug)]
pub(super) struct TracedTensor {
    /// Triton's name for where it was seen.
    pub(super) activity: &'static str,
    pub(super) name: String,
    pub(super) tensor: Tensor,
}

/// What is known of a traced request.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) model: String,
    pub(super) version: u64,
    /// The client's name for the request; empty if it has none.
    pub(super) request_id: String,
    pub(super) levels: Levels,
    /// So many traces go into one file; 0 is all.
    pub(super) log_frequency: u32,
    /// The trace that the client made it part of.
    pub(super) context: Option<Context>,
    pub(super) stamps: Vec<Stamp>,
    pub(super) tensors: Vec<TracedTensor>,
    /// Why it failed.
    pub(super) error: Option<String>,
}

impl Record {
    /// Bytes of its tensors.
    pub(super) fn tensor_bytes(&self) -> usize {
        self.tensors.iter().map(|traced| traced.tensor.data().len()).sum()
    }
}

/// A request that is traced. When it is dropped, with the answer's last byte, what was noted is written down.
pub struct Trace {
    record: Box<Record>,
    carrier: Carrier,
    sink: Sink,
    sending: bool,
}

impl Trace {
    /// The trace called `id`, taken by these settings, of a request that is part of `context`.
    pub(super) fn new(
        sink: Sink,
        spec: &ModelSpec,
        arrival: Arrival<'_>,
        id: u64,
        settings: Settings,
        context: Option<Context>,
    ) -> Self {
        let record = Record {
            id,
            model: spec.name().to_owned(),
            version: spec.version(),
            levels: settings.levels,
            log_frequency: settings.log_frequency,
            context,
            stamps: Vec::with_capacity(14),
            ..Record::default()
        };
        let mut trace = Self { record: Box::new(record), carrier: arrival.carrier, sink, sending: false };
        let [start, end] = arrival.carrier.received();
        trace.stamp(start, arrival.started);
        trace.stamp(end, arrival.received);
        trace
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

    /// It waits for its model, with these inputs.
    pub(in crate::kserve) fn queued<'t>(&mut self, inputs: impl Iterator<Item = (&'t str, &'t Tensor)>) {
        self.stamp("QUEUE_START", Instant::now());
        self.note("TENSOR_QUEUE_INPUT", inputs);
    }

    /// Its model has run since `queued`, in these times, and gave these outputs.
    pub(in crate::kserve) fn ran<'t>(
        &mut self,
        queued: Instant,
        timings: &StageTimings,
        outputs: impl Iterator<Item = (&'t str, &'t Tensor)>,
    ) {
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
        self.stamp("INFER_RESPONSE_COMPLETE", now);
        self.note("TENSOR_BACKEND_OUTPUT", outputs);
    }

    /// The request ended, well or not.
    pub(in crate::kserve) fn ended(&mut self) {
        self.stamp("REQUEST_END", Instant::now());
    }

    /// It failed.
    pub fn failed(&mut self, error: &InferError) {
        self.record.error = Some(error.message().to_owned());
    }

    /// From now on its answer is sent.
    pub fn sending(&mut self) {
        self.sending = true;
        self.stamp(self.carrier.sent()[0], Instant::now());
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
        if self.sending {
            self.stamp(self.carrier.sent()[1], Instant::now());
        }
        self.sink.write(std::mem::take(&mut self.record));
    }
}
