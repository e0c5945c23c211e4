//! Sends traces to an OpenTelemetry collector: Triton's spans, in batches, as protobuf over OTLP/HTTP.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, SpanKind},
        status::StatusCode,
    },
};
use prost::Message as _;
use ureq::Agent;

use super::{
    clock::Clock,
    record::{Record, Stamp},
    settings::TraceSettings,
    sink::{Losses, Writer},
};

/// The least number of spans of a request: `InferRequest`, the model's, `compute`.
const SPANS_OF_A_REQUEST: usize = 3;

/// The time limit of one export.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(4);

/// W3C's trace flag for a trace whose spans are recorded.
const SAMPLED: u32 = 1;

/// A collector and the batching of its spans: the settings of `--trace-config opentelemetry,...`, with Triton's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    url: String,
    /// OpenTelemetry's resource attributes of the spans.
    resource: Vec<(String, String)>,
    max_queue_size: usize,
    schedule_delay: Duration,
    max_export_batch_size: usize,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            url: "http://localhost:4318/v1/traces".into(),
            resource: vec![("service.name".into(), "triton-inference-server".into())],
            max_queue_size: 2048,
            schedule_delay: Duration::from_secs(5),
            max_export_batch_size: 512,
        }
    }
}

impl Collector {
    /// Changes a setting of `--trace-config opentelemetry,NAME=VALUE`.
    ///
    /// # Errors
    /// A message for an unknown name or a wrong value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || match value.parse::<u32>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("'{value}' is not a whole number of at least 1")),
        };
        match name {
            "url" => self.url = checked_url(value)?,
            "resource" => {
                let (key, value) =
                    value.split_once('=').ok_or_else(|| format!("'{value}' is not of the form KEY=VALUE"))?;
                self.resource.retain(|(known, _)| known != key);
                self.resource.push((key.into(), value.into()));
            }
            "bsp_max_queue_size" => self.max_queue_size = number()? as usize,
            "bsp_schedule_delay" => self.schedule_delay = Duration::from_millis(number()?.into()),
            "bsp_max_export_batch_size" => self.max_export_batch_size = number()? as usize,
            _ => {
                return Err(format!(
                    "unknown setting '{name}'; use url, resource, bsp_max_queue_size, bsp_schedule_delay or \
                     bsp_max_export_batch_size"
                ));
            }
        }
        Ok(())
    }

    /// The settings, by name.
    pub(super) fn settings(&self) -> TraceSettings {
        let resource = self.resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
        vec![
            ("bsp_max_export_batch_size", vec![self.max_export_batch_size.to_string()]),
            ("bsp_max_queue_size", vec![self.max_queue_size.to_string()]),
            ("bsp_schedule_delay", vec![self.schedule_delay.as_millis().to_string()]),
            ("resource", resource),
            ("url", vec![self.url.clone()]),
        ]
    }

    /// The number of requests whose spans may wait for export.
    pub(super) fn max_waiting(&self) -> usize {
        (self.max_queue_size / SPANS_OF_A_REQUEST).max(1)
    }
}

/// Checks a collector's URL. As in Triton, it may leave out `http://`.
fn checked_url(text: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let wrong = |what: &str| format!("'{text}' is not the URL of a collector: {what}");
    let uri: http::Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(url),
        (Some("http" | "https"), _) => Err(wrong("it has no host")),
        _ => Err(wrong("use http:// or https://")),
    }
}

/// Sends spans to a collector.
pub(super) struct Exporter {
    collector: Collector,
    agent: Agent,
    spans: Vec<Span>,
    /// When the waiting spans are sent, even if they do not fill a batch.
    due: Option<Instant>,
    losses: Losses,
    failing: bool,
}

impl Exporter {
    pub(super) fn new(collector: Collector, losses: Losses) -> Self {
        // A collector is usually in the same network: ignore the environment's proxies.
        let config = Agent::config_builder().timeout_global(Some(EXPORT_TIMEOUT)).proxy(None).build();
        Self { collector, agent: Agent::new_with_config(config), spans: Vec::new(), due: None, losses, failing: false }
    }

    fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let attribute = |(key, value): &(String, String)| text(key, value);
        let scope = InstrumentationScope { name: "triton-server".into(), ..Default::default() };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: self.collector.resource.iter().map(attribute).collect(),
                    ..Default::default()
                }),
                scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..Default::default() }],
                ..Default::default()
            }],
        };
        let url = &self.collector.url;
        let sent =
            self.agent.post(url).header("content-type", "application/x-protobuf").send(&request.encode_to_vec()[..]);
        match sent {
            Ok(_) => self.failing = false,
            Err(error) => {
                if !self.failing {
                    tracing::error!(url, %error, spans = count, "cannot export spans");
                }
                self.failing = true;
                self.losses.add(count, "spans", "the collector cannot be reached or refuses them");
            }
        }
    }
}

impl Writer for Exporter {
    fn write(&mut self, record: Record) {
        self.spans.extend(spans(&record, Clock::now()));
        self.due.get_or_insert_with(|| Instant::now() + self.collector.schedule_delay);
        while self.spans.len() >= self.collector.max_export_batch_size {
            let rest = self.spans.split_off(self.collector.max_export_batch_size);
            let batch = std::mem::replace(&mut self.spans, rest);
            self.export(batch);
        }
        if self.spans.is_empty() {
            self.due = None;
        }
    }

    fn due(&self) -> Option<Instant> {
        self.due
    }

    fn flush(&mut self) {
        self.due = None;
        if !self.spans.is_empty() {
            let spans = std::mem::take(&mut self.spans);
            self.export(spans);
        }
    }
}

/// The spans of a request: `InferRequest`, inside it one with the model's name, and inside that `compute` or the spans of
/// an ensemble's steps. The events of a span are the timestamps of its part.
fn spans(record: &Record, clock: Clock) -> Vec<Span> {
    let trace_id = record.context.as_ref().map_or_else(rand::random::<[u8; 16]>, |context| context.trace_id).to_vec();
    let state = record.context.as_ref().map(|context| context.state.clone()).unwrap_or_default();
    let builder = SpanBuilder { clock, trace_id, state };
    let parent = record.context.as_ref().map(|context| context.span_id.to_vec()).unwrap_or_default();
    let Some(root) = builder.span("InferRequest", &parent, record, &["HTTP_", "GRPC_"]) else { return Vec::new() };
    let mut spans = builder.model(record, &root.span_id);
    spans.insert(0, Span { status: status(record), ..root });
    spans
}

/// Builds the spans of one trace.
struct SpanBuilder {
    clock: Clock,
    trace_id: Vec<u8>,
    state: String,
}

impl SpanBuilder {
    /// A span from the first to the last timestamp whose name has one of these prefixes; `None` if there is none.
    fn span(&self, name: &str, parent: &[u8], record: &Record, prefixes: &[&str]) -> Option<Span> {
        let is_part = |stamp: &&Stamp| prefixes.iter().any(|prefix| stamp.name.starts_with(prefix));
        let event = |stamp: &Stamp| Event {
            time_unix_nano: self.clock.ns(stamp.at),
            name: stamp.name.into(),
            ..Default::default()
        };
        let events: Vec<_> = record.stamps.iter().filter(is_part).map(event).collect();
        Some(Span {
            trace_id: self.trace_id.clone(),
            span_id: rand::random::<[u8; 8]>().to_vec(),
            trace_state: self.state.clone(),
            parent_span_id: parent.to_vec(),
            flags: SAMPLED,
            name: name.to_owned(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: events.first()?.time_unix_nano,
            end_time_unix_nano: events.last()?.time_unix_nano,
            events,
            ..Default::default()
        })
    }

    /// The model's span and those inside it.
    fn model(&self, record: &Record, parent: &[u8]) -> Vec<Span> {
        let Some(mut model) = self.span(&record.model, parent, record, &["REQUEST_", "QUEUE_", "INFER_"]) else {
            return Vec::new();
        };
        model.attributes = vec![
            text("triton.model_name", &record.model),
            number("triton.model_version", record.version),
            number("triton.trace_id", record.id),
            number("triton.trace_parent_id", record.parent_id),
        ];
        if !record.request_id.is_empty() {
            model.attributes.push(text("triton.request_id", &record.request_id));
        }
        if record.parent_id > 0 {
            model.status = status(record);
        }
        let mut spans: Vec<_> = self.span("compute", &model.span_id, record, &["COMPUTE_"]).into_iter().collect();
        spans.extend(record.steps.iter().flat_map(|step| self.model(step, &model.span_id)));
        spans.insert(0, model);
        spans
    }
}

/// The error of a failed request.
fn status(record: &Record) -> Option<Status> {
    record.error.clone().map(|message| Status { message, code: StatusCode::Error.into() })
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_wrong_settings() {
        let mut collector = Collector::default();
        for (name, value) in
            [("url", "collector:4318/v1/traces"), ("resource", "service.name=a=b"), ("bsp_max_queue_size", "1")]
        {
            collector.set(name, value).unwrap();
        }
        assert_eq!(collector.url, "http://collector:4318/v1/traces");
        assert_eq!(
            (&collector.resource[..], collector.max_waiting()),
            (&[("service.name".into(), "a=b".into())][..], 1)
        );
        let wrong = [
            ("url", ""),
            ("url", "ftp://x/"),
            ("url", "http:///v1"),
            ("resource", "name"),
            ("bsp_schedule_delay", "0"),
            ("bsp_max_export_batch_size", "-1"),
            ("header", "x"),
        ];
        let refusals = wrong.map(|(name, value)| collector.set(name, value).unwrap_err());
        insta::assert_snapshot!(refusals.join("\n"), @r"
        '' is not the URL of a collector: empty string
        'ftp://x/' is not the URL of a collector: use http:// or https://
        'http:///v1' is not the URL of a collector: invalid format
        'name' is not of the form KEY=VALUE
        '0' is not a whole number of at least 1
        '-1' is not a whole number of at least 1
        unknown setting 'header'; use url, resource, bsp_max_queue_size, bsp_schedule_delay or bsp_max_export_batch_size
        ");
    }
}
