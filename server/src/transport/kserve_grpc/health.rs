//! `grpc.health.v1.Health`: reports whether the service is ready.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use crate::service::Service;

/// How often `Watch` reads the status.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The service names with a health status: the whole server, and the inference service.
const NAMES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// The health service.
pub(super) struct Reporter {
    service: Arc<Service>,
    stop: CancellationToken,
}

impl Reporter {
    /// Reports on `service`. Streams of `Watch` end at `stop`.
    pub(super) fn new(service: Arc<Service>, stop: CancellationToken) -> Self {
        Self { service, stop }
    }
}

fn status(service: &Service, name: &str) -> ServingStatus {
    match NAMES.contains(&name) {
        false => ServingStatus::ServiceUnknown,
        true if service.is_ready() => ServingStatus::Serving,
        true => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Reporter {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        match status(&self.service, name) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("unknown service '{name}': ask for '' or '{}'", NAMES[1])))
            }
            known => Ok(Response::new(response(known))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let (service, stop) = (Arc::clone(&self.service), self.stop.clone());
        let changes = stream::unfold((service, stop, name, None), |(service, stop, name, last)| async move {
            loop {
                let now = status(&service, &name);
                if last != Some(now) {
                    return Some((Ok(response(now)), (service, stop, name, Some(now))));
                }
                // The last status is sent before the stream ends.
                if stop.is_cancelled() {
                    return None;
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = service.draining().cancelled(), if !service.draining().is_cancelled() => {}
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
