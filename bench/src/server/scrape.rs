//! Reads a service's counters and GPUs: counters from Triton's statistics extension on the lane, or else from the metrics page, GPUs from that
//! page.
//!
//! Requests bypass an emulated link and use a connection that does not count as the lane's traffic.

use std::{collections::VecDeque, time::Duration};

use quintet_proto::inference::{ModelStatisticsRequest, ModelStatisticsResponse};
use tokio::time::sleep;

use crate::{
    client::{
        call::{CallError, HttpVersion, Prepared},
        connection::Connection,
        grpc, http,
        target::Target,
    },
    model::{counters::Counters, limits::Limits, protocol::Protocol},
    server::gpus::Gpus,
};

/// Longest wait for a server's counters.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a server to count an answered request: Triton counts after it has responded.
const SETTLE: Duration = Duration::from_millis(2);
/// Most readings while waiting for equal counters.
const MAX_READINGS: usize = 10;

/// Reads one model's counters.
pub struct Scraper {
    /// Tried in order; the first that answers is kept.
    sources: VecDeque<Source>,
    /// Whether the first source has answered.
    answered: bool,
    /// Errors of the sources that were given up.
    errors: Vec<String>,
    model: String,
    /// Has the metrics of GPUs; `None` if it has none, or there is no page.
    page: Option<Page>,
}

/// The metrics page by which GPUs are read.
enum Page {
    /// The page that has the counters.
    OfCounters,
    /// Another one.
    Own(Box<Source>),
}

struct Source {
    form: Form,
    connection: Connection,
    request: Prepared,
    url: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    HttpStatistics,
    GrpcStatistics,
    Metrics,
}

impl Scraper {
    /// A scraper without connections yet.
    pub fn new(target: &Target, limits: Limits) -> Self {
        let limits = Limits { request_timeout: TIMEOUT.min(limits.request_timeout), ..limits };
        let (lane, metrics) = (target.endpoint.clone().direct(), &target.metrics);
        let source = |form, endpoint: &_, version, request: Result<Prepared, CallError>, url| {
            let connection = Connection::new(Clone::clone(endpoint), version, limits);
            request.map(|request| Source { form, connection, request, url })
        };
        let statistics = match target.protocol() {
            Protocol::Jpeg => None,
            Protocol::KserveHttp => {
                let path = format!("/v2/models/{}/stats", target.model);
                let url = format!("{}{path}", target.url());
                Some(source(Form::HttpStatistics, &lane, HttpVersion::Http1, http::get(&lane, &path), url))
            }
            Protocol::KserveGrpc => {
                let message = ModelStatisticsRequest { name: target.model.clone(), version: String::new() };
                let request = grpc::unary(&lane, "ModelStatistics", &message);
                let url = format!("{}/ModelStatistics", target.url());
                Some(source(Form::GrpcStatistics, &lane, HttpVersion::Http2, request, url))
            }
        };
        let url = format!("{}/metrics", metrics.url("http"));
        let page = || source(Form::Metrics, metrics, HttpVersion::Http1, http::get(metrics, "/metrics"), url.clone());
        let own_page = match target.protocol() {
            Protocol::Jpeg => Some(Page::OfCounters),
            // Without an address of its own there is no page.
            _ if *metrics == target.endpoint => None,
            _ => page().ok().map(|source| Page::Own(Box::new(source))),
        };
        let mut errors = Vec::new();
        let valid = statistics
            .into_iter()
            .chain([page()])
            .filter_map(|source| source.map_err(|e| errors.push(e.to_string())).ok());
        let sources = valid.collect();
        Self { sources, answered: false, errors, model: target.model.clone(), page: own_page }
    }

    /// The GPUs by the metrics page. A page that cannot be read, or has none, is not asked again.
    pub async fn gpus(&mut self) -> Gpus {
        let source = match &mut self.page {
            Some(Page::OfCounters) => self.sources.front_mut(),
            Some(Page::Own(source)) => Some(source.as_mut()),
            None => None,
        };
        let Some(source) = source else { return Gpus::default() };
        let page = source.page().await;
        let gpus = page.map(|page| Gpus::parse(&page)).unwrap_or_default();
        if gpus.states.is_empty() {
            self.page = None;
        }
        gpus
    }

    /// URL of the counters; empty if there is no source.
    pub fn url(&self) -> &str {
        self.sources.front().map_or("", |source| &source.url)
    }

    /// The counters now. A source that has never answered is not tried again; one that has is, because a single failure says
    /// nothing about the next reading.
    pub async fn read(&mut self) -> Result<Counters, String> {
        while let Some(source) = self.sources.front_mut() {
            match source.read(&self.model).await {
                Ok(counters) => {
                    self.sources.truncate(1);
                    self.answered = true;
                    return Ok(counters);
                }
                Err(error) if self.answered => return Err(error.to_string()),
                Err(error) if self.sources.len() > 1 || matches!(error, CallError::Connect { .. }) => {
                    let given_up = self.sources.pop_front().map(|source| source.url).unwrap_or_default();
                    self.errors.push(format!("{given_up}: {error}"));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(self.errors.join("; "))
    }

    /// The counters of an idle server: read until two readings are equal.
    pub async fn read_idle(&mut self) -> Result<Counters, String> {
        let mut counters = self.read().await?;
        for _ in 1..MAX_READINGS {
            sleep(SETTLE).await;
            let again = self.read().await?;
            if again == counters {
                break;
            }
            counters = again;
        }
        Ok(counters)
    }
}

impl Source {
    /// The text of its page.
    async fn page(&mut self) -> Result<String, CallError> {
        let reply = self.connection.call(&self.request).await?;
        http::check(&reply)?;
        Ok(String::from_utf8_lossy(&reply.body()).into_owned())
    }

    async fn read(&mut self, model: &str) -> Result<Counters, CallError> {
        let reply = self.connection.call(&self.request).await?;
        if self.form == Form::GrpcStatistics {
            grpc::check(&reply)?;
            let answer: ModelStatisticsResponse = grpc::message(&reply)?;
            return Counters::of_statistics(&answer.model_stats).ok_or_else(|| missing("statistics", model));
        }
        http::check(&reply)?;
        let body = reply.body();
        match self.form {
            Form::Metrics => Counters::parse(&String::from_utf8_lossy(&body), model)
                .ok_or_else(|| missing("nv_inference counters", model)),
            _ => Counters::parse_statistics(&body).ok_or_else(|| missing("statistics", model)),
        }
    }
}

fn missing(what: &str, model: &str) -> CallError {
    CallError::Malformed(format!("no {what} of model `{model}`"))
}
