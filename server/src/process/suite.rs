//! The suite: three services on seven ports, and the models that they serve.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, bail};
use axum::Router;
use quintet_engine::Budget;
use quintet_onnxruntime::Loaded;
use tokio::task::JoinSet;

use crate::{
    backend::onnx::EngineCache,
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    image_input::Decoder,
    observe::gpu_fault::GpuFault,
    page::{self, Lane},
    process::{
        access::AccessControl,
        budget::{budget, pool},
        serve::{self, ListenerSpec, Protocol},
        settings::{Endpoint, Settings},
    },
    repository::{AUTO_COMPLETE_MAX_BATCH_SIZE, Copied, Loader, Mode, Options, Repository, Roots},
    service::Service,
    transport::{http1, images, kserve_grpc, kserve_http, listener::Address},
};

/// The purpose of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Images,
    KserveHttp,
    KserveGrpc,
    Metrics,
}

/// The listeners of a service: name (its flag is `--<name>-port`), purpose, endpoint.
fn listeners(service: ServiceName, settings: &Settings) -> Vec<(&'static str, Purpose, Endpoint)> {
    match service {
        ServiceName::Jpeg => vec![("jpeg", Purpose::Images, settings.jpeg_port)],
        ServiceName::Onnx => vec![
            ("onnx-http", Purpose::KserveHttp, settings.onnx_http_port),
            ("onnx-grpc", Purpose::KserveGrpc, settings.onnx_grpc_port),
            ("onnx-metrics", Purpose::Metrics, settings.onnx_metrics_port),
        ],
        ServiceName::Trt => vec![
            ("trt-http", Purpose::KserveHttp, settings.trt_http_port),
            ("trt-grpc", Purpose::KserveGrpc, settings.trt_grpc_port),
            ("trt-metrics", Purpose::Metrics, settings.trt_metrics_port),
        ],
        // Triton mode is not part of the suite, so settings cannot name it.
        ServiceName::Triton => Vec::new(),
    }
}

/// The Unix domain socket of a listener, if the settings ask for one.
fn socket(name: &str, purpose: Purpose, settings: &Settings) -> Option<Address> {
    let wanted = purpose != Purpose::Metrics && !settings.uds_dir.as_os_str().is_empty();
    wanted.then(|| Address::Unix { path: settings.uds_dir.join(format!("{name}.sock")), flag: "--uds-dir" })
}

/// Runs the suite until a signal ends it.
///
/// # Errors
/// When a port is taken, ONNX Runtime is missing, or a model cannot be loaded.
pub async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let copied = if settings.model.is_empty() { Copied::All } else { Copied::Loaded };
    let roots = Roots::open(&settings.model_repository, &settings.common.object_stores.options(copied))?;
    let names = model_names(&roots, settings).await?;
    let access = AccessControl::new(&settings.common.access)?;
    let budget = budget(&settings.common.memory, settings.max_input_bytes);
    // One for all services, so that they do not decode on more threads together than one may.
    let decoder = settings.common.images.decoder();
    let gpu_fault = GpuFault::default();
    let service = |&name| service(name, settings, &budget, &decoder, &gpu_fault);
    let services: Vec<_> = settings.service.iter().map(service).collect();
    let (specs, page) = specs(&services, &names, settings)?;
    let limits = serve::Limits {
        access: &access,
        exit_delay: settings.common.exit_delay(),
        exit_timeout: settings.common.exit_timeout(),
        on_gpu_fault: settings.common.gpu_fault,
        ports_file: &settings.common.ports_file,
    };
    let load = async {
        load(&services, &names, &roots, settings).await?;
        if let Some(address) = page.as_ref().and_then(|page| page.get()) {
            let scheme = if http_tls(settings) { "https" } else { "http" };
            tracing::info!(url = format!("{scheme}://{address}/"), "page");
        }
        Ok(())
    };
    serve::run(specs, limits, load).await
}

/// The address of a listener, once it is bound.
type Bound = Arc<OnceLock<SocketAddr>>;

/// The listeners of the services, and the one of them that serves the page.
fn specs(
    services: &[Arc<Service>],
    names: &[String],
    settings: &Settings,
) -> anyhow::Result<(Vec<ListenerSpec>, Option<Bound>)> {
    let mut listeners: Vec<_> = services
        .iter()
        .flat_map(|service| listeners(service.catalog().name(), settings).into_iter().map(move |of| (service, of)))
        .map(|(service, (name, purpose, endpoint))| Listed { service, name, purpose, endpoint, bound: Arc::default() })
        .collect();
    let mut page = settings.page.then(|| page(&listeners, names, settings)).transpose()?;
    // The first of those that may serve it: the jpeg lane if it runs.
    listeners.sort_by_key(|listener| listener.purpose != Purpose::Images);
    let host = listeners.iter().find(|it| matches!(it.purpose, Purpose::Images | Purpose::Metrics));
    let host = host.filter(|_| settings.page).map(|host| Arc::clone(&host.bound));
    let mut specs = Vec::new();
    for Listed { service, name, purpose, endpoint, bound } in listeners {
        let served = Arc::clone(service);
        let protocol = match purpose {
            Purpose::Images => {
                Protocol::Http(images::router(served, names[0].clone()).merge(page.take().unwrap_or_default()))
            }
            Purpose::KserveHttp => Protocol::Http(kserve_http::router(served)),
            Purpose::KserveGrpc => Protocol::Grpc(kserve_grpc::Options {
                max_input: max_input(settings),
                max_stream_requests: kserve_grpc::MAX_STREAM_REQUESTS,
                compression: None,
            }),
            Purpose::Metrics => match page.take() {
                // The page takes photographs.
                Some(page) => Protocol::Http(http1::metrics::router(served).merge(page)),
                None => Protocol::Metrics(http1::metrics::router(served)),
            },
        };
        let spec = |protocol, address, bound| ListenerSpec {
            service: Arc::clone(service),
            name,
            protocol,
            address,
            shares_port: false,
            connections: settings.common.connections(),
            bound,
        };
        specs.extend(socket(name, purpose, settings).map(|path| spec(protocol.clone(), path, Arc::default())));
        specs.push(spec(protocol, endpoint.on(settings.address).into(), bound));
    }
    Ok((specs, host))
}

/// Whether the HTTP listeners speak TLS.
fn http_tls(settings: &Settings) -> bool {
    !settings.common.access.http_tls_cert.as_os_str().is_empty()
}

/// A listener before it is bound.
struct Listed<'a> {
    service: &'a Arc<Service>,
    name: &'static str,
    purpose: Purpose,
    endpoint: Endpoint,
    bound: Bound,
}

/// The routes of the page, which asks the lanes among these listeners.
fn page(listeners: &[Listed<'_>], names: &[String], settings: &Settings) -> anyhow::Result<Router> {
    let access = &settings.common.access;
    let lane = |listener: &Listed<'_>| {
        let over_http = http_tls(settings);
        let (protocol, tls) = match listener.purpose {
            Purpose::Images => (page::Protocol::Images, over_http),
            Purpose::KserveHttp => (page::Protocol::KserveHttp, over_http),
            Purpose::KserveGrpc => (page::Protocol::KserveGrpc, access.grpc_use_ssl || access.grpc_use_ssl_mutual),
            Purpose::Metrics => return None,
        };
        let served = if listener.purpose == Purpose::Images { &names[..1] } else { names };
        Some(Lane {
            name: listener.name,
            protocol,
            service: Arc::clone(listener.service),
            models: served.to_vec(),
            bound: Arc::clone(&listener.bound),
            tls,
        })
    };
    let lanes = listeners.iter().filter_map(lane).collect();
    let limits =
        page::Limits { waiting: settings.page_max_waiting, time: Duration::from_secs(settings.page_timeout_secs) };
    page::router(lanes, settings.results.clone(), limits).context("cannot start the thread of the page")
}

fn max_input(settings: &Settings) -> InputLimit {
    InputLimit { bytes: settings.max_input_bytes, flag: "--max-input-bytes" }
}

/// A service, without models yet.
fn service(
    name: ServiceName,
    settings: &Settings,
    budget: &Budget,
    decoder: &Decoder,
    gpu_fault: &GpuFault,
) -> Arc<Service> {
    let limits = Limits {
        max_input: max_input(settings),
        max_image_pixels: settings.common.images.max_image_pixels,
        max_images: settings.common.images.max_images,
    };
    let catalog = Catalog::new(name, pool(settings.common.buffer_pool_bytes, budget.clone()), limits)
        .with_decoder(decoder.clone())
        .with_gpu_fault(gpu_fault.clone());
    Arc::new(Service::new(catalog).with_shared_memory(settings.common.shared_memory()))
}

/// The models to serve, at least one; the jpeg service serves the first.
async fn model_names(roots: &Roots, settings: &Settings) -> anyhow::Result<Vec<String>> {
    if let Some(error) = roots.refresh().await.into_iter().next() {
        return Err(error.into());
    }
    for name in &settings.model {
        roots.fetch(name).await?;
    }
    let names = if settings.model.is_empty() { roots.names()? } else { settings.model.clone() };
    if names.is_empty() {
        bail!("no model in {roots}: write one with `quintet-models build --arch resnet50 --output {roots}`");
    }
    // Checked before anything is bound, so that a mistake in a name or a file is reported at once.
    names.iter().try_for_each(|name| roots.find(name).map(|_| ()))?;
    Ok(names)
}

/// Loads and warms all models, the services in parallel. A failure stops the suite, because no lane may be missing from
/// a comparison.
async fn load(services: &[Arc<Service>], names: &[String], roots: &Roots, settings: &Settings) -> anyhow::Result<()> {
    let of_library = settings.common.clone();
    let library = tokio::task::spawn_blocking(move || serve::library(&of_library)).await??;
    let mut loads = JoinSet::new();
    for service in services {
        let repository = Arc::new(repository(service.catalog(), library, roots, settings));
        service.attach(Arc::clone(&repository));
        let served = if service.catalog().name() == ServiceName::Jpeg { names[..1].to_vec() } else { names.to_vec() };
        let name = service.catalog().name();
        loads.spawn(async move {
            let failed = repository.start(&served).await;
            failed.into_iter().next().map(|(_, error)| (name, error))
        });
    }
    while let Some(loaded) = loads.join_next().await {
        if let Some((service, error)) = loaded.context("loading the models was interrupted")? {
            bail!("service {}: {error}", service.as_str());
        }
    }
    Ok(())
}

fn repository(catalog: &Arc<Catalog>, library: &'static Loaded, roots: &Roots, settings: &Settings) -> Repository {
    let parameters = settings.model_parameter.iter();
    let options = Options {
        roots: roots.clone(),
        mode: Mode::None,
        loader: Loader {
            response_cache: None,
            idle_unload: settings.common.idle_unload(),
            library,
            providers: Some(settings.providers(catalog.name()).to_vec()),
            policy: settings.common.provider_policy,
            engine_cache: Some(EngineCache {
                folder: settings.common.engine_cache.clone(),
                library: library.version(),
            }),
            weights: (catalog.name() == ServiceName::Jpeg && !settings.jpeg_weights.as_os_str().is_empty())
                .then(|| settings.jpeg_weights.clone()),
            auto_complete: Some(AUTO_COMPLETE_MAX_BATCH_SIZE),
            parameters: parameters.map(|parameter| (parameter.key.clone(), parameter.value.clone())).collect(),
        },
        // One after the other, so that a load's time is not affected by another load.
        loads_at_once: 1,
        load_retries: 0,
        strict_readiness: true,
    };
    Repository::new(Arc::clone(catalog), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_seven_ports_named_as_their_flags() {
        let settings = Settings::default();
        let all: Vec<_> = settings
            .service
            .iter()
            .flat_map(|&service| listeners(service, &settings))
            .map(|(name, purpose, endpoint)| format!("{name} {purpose:?} {endpoint}"))
            .collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        jpeg Images 8002
        onnx-http KserveHttp 8010
        onnx-grpc KserveGrpc 8011
        onnx-metrics Metrics 8012
        trt-http KserveHttp 8020
        trt-grpc KserveGrpc 8021
        trt-metrics Metrics 8022
        ");
    }
}
