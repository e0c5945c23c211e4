//! Traces of single requests, written as Triton's JSON or sent to an OpenTelemetry collector.

mod clock;
mod context;
mod file;
mod json;
mod otlp;
mod record;
mod recorder;
mod settings;
mod sink;
mod traces;

pub use self::{
    otlp::Collector,
    recorder::{Arrival, Protocol, StepTraces, Trace},
    settings::{Mode, TraceSettings, Update},
    sink::Waiting,
    traces::{Target, Traces},
};
