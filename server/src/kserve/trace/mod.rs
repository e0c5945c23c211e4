//! Traces of single requests, into Triton's JSON or to an OpenTelemetry collector.

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
    recorder::{Arrival, Carrier, StepTraces, Trace},
    settings::{Mode, TraceSettings, Update},
    sink::Waiting,
    traces::{Target, Traces},
};
