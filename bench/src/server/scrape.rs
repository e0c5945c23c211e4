//! Reads a service's counters: by Triton's statistics extension on the lane itself, else on its metrics page.
//!
//! A lane is asked past any emulated link, on a connection that does not count as its traffic.

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
};

/// Longest wait for a server's counters.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may take to count what it has answered: Triton does so after the answer.
const SETTLE: Duration = Duration::from_millis(2);
/// How often it is asked for that.
const MOST_READINGS: usize = 10;

/// Reads one model's counters.
pub struct Scraper {
    /// The first one that answers is kept.
    sources: VecDeque<Source>,
    /// Why each that was given up was.
    gone: Vec<String>,
    model: String,
}

struct Source {
    form: Form,
    connection: Connection,
    question: Prepared,
    url: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    HttpStatistics,
    GrpcStatistics,
    Metrics,
}

impl Scraper {
    /// A scraper that has asked nothing yet.
    pub fn new(target: &Target, limits: Limits) -> Self {
        let limits = Limits { request_timeout: TIMEOUT.min(limits.request_timeout), ..limits };
        let (lane, metrics) = (target.endpoint.clone().direct(), &target.metrics);
        let source = |form, endpoint: &_, version, question: Result<Prepared, CallError>, url| {
            let connection = Connection::new(Clone::clone(endpoint), version, limits);
            question.map(|question| Source { form, connection, question, url })
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
                let question = grpc::unary(&lane, "ModelStatistics", &message);
                let url = format!("{}/ModelStatistics", target.url());
                Some(source(Form::GrpcStatistics, &lane, HttpVersion::Http2, question, url))
            }
        };
        let url = format!("{}/metrics", metrics.url("http"));
        let page = source(Form::Metrics, metrics, HttpVersion::Http1, http::get(metrics, "/metrics"), url);
        let mut gone = Vec::new();
        let valid =
            statistics.into_iter().chain([page]).filter_map(|source| source.map_err(|e| gone.push(e.to_string())).ok());
        let sources = valid.collect();
        Self { sources, gone, model: target.model.clone() }
    }

    /// Where the counters come from, or would; empty when from nowhere.
    pub fn url(&self) -> &str {
        self.sources.front().map_or("", |source| &source.url)
    }

    /// The counters now. What does not answer is not asked again.
    pub async fn read(&mut self) -> Result<Counters, String> {
        while let Some(source) = self.sources.front_mut() {
            match source.read(&self.model).await {
                Ok(counters) => {
                    self.sources.truncate(1);
                    return Ok(counters);
                }
                Err(error) if self.sources.len() > 1 || matches!(error, CallError::Connect { .. }) => {
                    let given_up = self.sources.pop_front().map(|source| source.url).unwrap_or_default();
                    self.gone.push(format!("{given_up}: {error}"));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(self.gone.join("; "))
    }

    /// The counters of a server with nothing in flight: read until they stand still.
    pub async fn read_idle(&mut self) -> Result<Counters, String> {
        let mut counters = self.read().await?;
        for _ in 1..MOST_READINGS {
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
    async fn read(&mut self, model: &str) -> Result<Counters, CallError> {
        let reply = self.connection.call(&self.question).await?;
        if self.form == Form::GrpcStatistics {
            grpc::check(&reply)?;
            let answer: ModelStatisticsResponse = grpc::message(&reply)?;
            return Counters::of_statistics(&answer.model_stats).ok_or_else(|| nothing("statistics", model));
        }
        http::check(&reply)?;
        let body = reply.body();
        match self.form {
            Form::Metrics => Counters::parse(&String::from_utf8_lossy(&body), model)
                .ok_or_else(|| nothing("nv_inference counters", model)),
            _ => Counters::parse_statistics(&body).ok_or_else(|| nothing("statistics", model)),
        }
    }
}

fn nothing(what: &str, model: &str) -> CallError {
    CallError::Malformed(format!("no {what} of model `{model}`"))
}
