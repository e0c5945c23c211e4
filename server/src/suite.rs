//! The suite: services behind their listeners in one process, from bound to drained.

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use quintet_engine::BufferPool;
use quintet_onnxruntime::{Loaded, ThreadPool};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::onnx::LoadOptions,
    repository,
    service::{Limits, Service},
    settings::{Endpoint, ServiceName, Settings, or_cores},
    transport::{
        grpc, http,
        jpeg::{self, Decoder},
        listener::Listener,
    },
};

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Jpeg,
    Http,
    Grpc,
    Metrics,
}

/// The listeners of a service: name (its flag is `--<name>-port`), protocol, place.
fn listeners(service: ServiceName, settings: &Settings) -> Vec<(&'static str, Protocol, Endpoint)> {
    match service {
        ServiceName::Jpeg => vec![("jpeg", Protocol::Jpeg, settings.jpeg_port)],
        ServiceName::Onnx => vec![
            ("onnx-http", Protocol::Http, settings.onnx_http_port),
            ("onnx-grpc", Protocol::Grpc, settings.onnx_grpc_port),
            ("onnx-metrics", Protocol::Metrics, settings.onnx_metrics_port),
        ],
        ServiceName::Trt => vec![
            ("trt-http", Protocol::Http, settings.trt_http_port),
            ("trt-grpc", Protocol::Grpc, settings.trt_grpc_port),
            ("trt-metrics", Protocol::Metrics, settings.trt_metrics_port),
        ],
    }
}

/// Runs the suite until a signal ends it. Listeners answer from the start (alive, but not ready), so
/// that whoever watches sees a server that loads.
///
/// # Errors
/// When a port is taken, ONNX Runtime is missing, or a model cannot be loaded.
pub async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = signals()?;
    let bound = bind(settings).await?;
    let ports = bound.iter().map(|(_, _, listener)| Ok((listener.name(), listener.port()?)));
    let ports: BTreeMap<_, _> = ports.collect::<std::io::Result<_>>().context("cannot read a listener's port")?;
    let names = model_names(settings)?;
    let library = library(settings)?;
    let services: Vec<_> = settings.service.iter().map(|&name| service(name, settings)).collect();

    let stop = CancellationToken::new();
    let serving = TaskTracker::new();
    for (name, protocol, listener) in bound {
        let Some(service) = services.iter().find(|service| service.name() == name) else { continue };
        let (service, stop) = (Arc::clone(service), stop.clone());
        match protocol {
            Protocol::Jpeg => {
                let decoder = Decoder::new(or_cores(settings.decode_threads), settings.max_decode_queue);
                let router = jpeg::router(service, names[0].clone(), decoder);
                serving.spawn(http::serve::serve(listener, router, stop))
            }
            Protocol::Http => serving.spawn(http::serve::serve(listener, http::router(service), stop)),
            Protocol::Grpc => serving.spawn(grpc::serve(listener, service, stop)),
            Protocol::Metrics => serving.spawn(http::serve::serve(listener, http::metrics_router(service), stop)),
        };
    }
    serving.close();

    tokio::select! {
        loaded = load(&services, &names, library, settings) => loaded?,
        _ = signals.recv() => return Ok(ExitCode::SUCCESS),
    }
    let list: Vec<_> = ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
    tracing::info!(address = %settings.address, ports = list.join(", "), "ready");
    if !settings.ports_file.as_os_str().is_empty() {
        write_ports(&settings.ports_file, &ports)?;
    }

    signals.recv().await;
    tracing::info!(seconds = settings.exit_timeout_secs, "draining; a second signal ends at once");
    let drained = drain(&services, &stop, &serving);
    tokio::select! {
        () = drained => {
            tracing::info!("every accepted request was answered");
            Ok(ExitCode::SUCCESS)
        }
        () = tokio::time::sleep(Duration::from_secs(settings.exit_timeout_secs)) => {
            tracing::error!("the exit timeout is over: requests are left unanswered");
            Ok(ExitCode::FAILURE)
        }
        _ = signals.recv() => {
            tracing::warn!("second signal: requests are left unanswered");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A message for each SIGTERM or SIGINT.
fn signals() -> anyhow::Result<mpsc::Receiver<()>> {
    // The second signal ends the process, so more are never read.
    let (sender, receiver) = mpsc::channel(2);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind).context("cannot listen for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                let _ = sender.try_send(());
            }
        });
    }
    Ok(receiver)
}

/// Binds every listener before anything slow happens.
async fn bind(settings: &Settings) -> anyhow::Result<Vec<(ServiceName, Protocol, Listener)>> {
    let mut bound = Vec::new();
    for &service in &settings.service {
        for (name, protocol, endpoint) in listeners(service, settings) {
            let listener = Listener::bind(name, endpoint.on(settings.address), settings.max_connections).await?;
            bound.push((service, protocol, listener));
        }
    }
    Ok(bound)
}

/// ONNX Runtime, with the thread pool that all services share.
fn library(settings: &Settings) -> anyhow::Result<&'static Loaded> {
    let flag = (!settings.onnxruntime.as_os_str().is_empty()).then_some(settings.onnxruntime.as_path());
    let threads = ThreadPool { intra_op_threads: or_cores(settings.intra_op_threads), spin: false };
    let library = quintet_onnxruntime::load(flag, threads)?;
    tracing::info!(path = %library.path.display(), build = library.build_info, "ONNX Runtime");
    Ok(library)
}

/// A service, without models yet.
fn service(name: ServiceName, settings: &Settings) -> Arc<Service> {
    let limits = Limits {
        max_input_bytes: settings.max_input_bytes,
        max_image_pixels: settings.max_image_pixels,
        max_images: settings.max_images,
    };
    Arc::new(Service::new(name, BufferPool::new(settings.buffer_pool_bytes), limits))
}

/// The models to serve, at least one; the jpeg service serves the first.
fn model_names(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let roots = &settings.model_repository;
    let names = if settings.model.is_empty() { repository::model_names(roots)? } else { settings.model.clone() };
    if names.is_empty() {
        let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        bail!("no model in {0}: write one with `quintet-models build --arch resnet50 --output {0}`", roots.join(", "));
    }
    Ok(names)
}

/// Loads and warms all models, the services side by side.
async fn load(
    services: &[Arc<Service>],
    names: &[String],
    library: &Loaded,
    settings: &Settings,
) -> anyhow::Result<()> {
    let mut loads = JoinSet::new();
    for service in services {
        let (service, roots, names) = (Arc::clone(service), settings.model_repository.clone(), names.to_vec());
        let options = LoadOptions {
            environment: library.environment.clone(),
            providers: settings.providers(service.name()).to_vec(),
        };
        loads.spawn_blocking(move || {
            let served = if service.name() == ServiceName::Jpeg { &names[..1] } else { &names[..] };
            served.iter().try_for_each(|name| service.load(&roots, name, &options))
        });
    }
    while let Some(loaded) = loads.join_next().await {
        loaded.context("a load broke off")??;
    }
    Ok(())
}

/// Tells watchers, stops taking connections, lets open requests finish, then ends the instances.
async fn drain(services: &[Arc<Service>], stop: &CancellationToken, serving: &TaskTracker) {
    services.iter().for_each(|service| service.begin_drain());
    stop.cancel();
    serving.wait().await;
    let services = services.to_vec();
    let drained = tokio::task::spawn_blocking(move || services.iter().for_each(|service| service.drain()));
    if let Err(error) = drained.await {
        tracing::error!(%error, "an instance did not end");
    }
}

/// Writes the ports so that a reader never sees half of them.
fn write_ports(path: &Path, ports: &BTreeMap<&str, u16>) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let json = serde_json::to_vec(ports).context("cannot print the ports")?;
    fs::write(&partial, json)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write the ports file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_ports_with_their_flags_names() {
        let settings = Settings::default();
        let all: Vec<_> = settings
            .service
            .iter()
            .flat_map(|&service| listeners(service, &settings))
            .map(|(name, protocol, endpoint)| format!("{name} {protocol:?} {endpoint}"))
            .collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        jpeg Jpeg 8002
        onnx-http Http 8010
        onnx-grpc Grpc 8011
        onnx-metrics Metrics 8012
        trt-http Http 8020
        trt-grpc Grpc 8021
        trt-metrics Metrics 8022
        ");
    }
}
