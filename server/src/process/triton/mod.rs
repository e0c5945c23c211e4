//! Triton mode: one service for a model repository, with Triton's ports and flags.

mod addresses;
mod flags;
mod grpc_flags;
mod other_flags;
mod trace_flags;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use quintet_engine::Cache;

use crate::{
    backend::onnx::EngineCache,
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    process::{
        access::AccessControl,
        budget::{budget, pool},
        serve::{self, ListenerSpec, Protocol},
        settings::Common,
    },
    repository::{Loader, Mode, Options, Repository, Roots},
    service::Service,
    transport::{http1, kserve_grpc, kserve_http, listener::Address},
};

pub use flags::{ControlMode, Flags};

/// The name that loads every model.
const EVERY_MODEL: &str = "*";

/// Serves a model repository until a signal ends it.
///
/// # Errors
/// When a flag is wrong or not supported, a port is taken, ONNX Runtime is missing, or a model cannot be loaded and
/// `--exit-on-error` is true.
pub async fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    flags.check()?;
    let common = flags.common.resolve()?;
    let roots = Roots::open(&flags.model_repository, &common.object_stores.options(flags.copied()))?;
    let access = AccessControl::new(&common.access)?;
    let addresses = flags.addresses(&access);
    let limits = Limits {
        max_input: InputLimit { bytes: flags.http_max_input_size, flag: "--http-max-input-size" },
        max_image_pixels: common.images.max_image_pixels,
        max_images: common.images.max_images,
    };
    let budget = budget(&common.memory, flags.http_max_input_size.max(flags.grpc_max_input_size));
    let catalog = Catalog::new(ServiceName::Triton, pool(common.buffer_pool_bytes, budget), limits)
        .with_decoder(common.images.decoder())
        .with_metrics(flags.metrics_options()?);
    let shared_memory = common.shared_memory().copying_inputs(flags.response_cache_bytes().is_some());
    let service =
        Service::new(catalog).with_shared_memory(shared_memory).with_traces(flags.trace.traces()?).with_id(&flags.id);
    let service = Arc::new(service);
    let grpc = kserve_grpc::Options {
        max_input: InputLimit { bytes: flags.grpc_max_input_size, flag: "--grpc-max-input-size" },
        max_stream_requests: flags.grpc_max_stream_requests,
        compression: flags.grpc.compression(),
    };
    let (http, metrics) = (kserve_http::router(Arc::clone(&service)), http1::metrics::router(Arc::clone(&service)));
    let (http, grpc, metrics) = (Protocol::Http(http), Protocol::Grpc(grpc), Protocol::Metrics(metrics));
    let limits = common.connections();
    let grpc_limits = flags.grpc.connections(limits);
    let spec = |name, protocol: &Protocol, address, shares_port, connections| ListenerSpec {
        service: Arc::clone(&service),
        name,
        protocol: protocol.clone(),
        address,
        shares_port,
        connections,
        bound: Arc::default(),
    };
    let port = |ip, port| SocketAddr::new(ip, port).into();
    let unix = |path: &Option<PathBuf>, flag| Some(Address::Unix { path: path.clone()?, flag });
    let http_port = flags.allow_http.then(|| port(addresses.http, flags.http_port));
    let grpc_port = flags.allow_grpc.then(|| port(addresses.grpc, flags.grpc_port));
    let metrics_port = flags.allow_metrics.then(|| port(addresses.metrics, flags.metrics_port));
    let specs = [
        http_port.map(|address| spec("http", &http, address, flags.reuse_http_port, limits)),
        grpc_port.map(|address| spec("grpc", &grpc, address, flags.reuse_grpc_port, grpc_limits)),
        metrics_port.map(|address| spec("metrics", &metrics, address, false, limits)),
        unix(&flags.http_uds, "--http-uds").map(|address| spec("http", &http, address, false, limits)),
        unix(&flags.grpc_uds, "--grpc-uds").map(|address| spec("grpc", &grpc, address, false, grpc_limits)),
    ];
    let specs = specs.into_iter().flatten().collect();
    let limits = serve::Limits {
        access: &access,
        exit_delay: common.exit_delay(),
        exit_timeout: common.exit_timeout(),
        on_gpu_fault: common.gpu_fault,
        ports_file: &common.ports_file,
    };
    serve::run(specs, limits, load(Arc::clone(&service), roots, flags, &common)).await
}

/// Loads and warms the models that the control mode selects, and starts polling in poll mode.
async fn load(service: Arc<Service>, roots: Roots, flags: &Flags, common: &Common) -> anyhow::Result<()> {
    let of_library = common.clone();
    let library = tokio::task::spawn_blocking(move || serve::library(&of_library)).await??;
    let options = Options {
        roots,
        mode: match flags.model_control_mode {
            ControlMode::None => Mode::None,
            ControlMode::Poll => Mode::Poll(Duration::from_secs(flags.repository_poll_secs)),
            ControlMode::Explicit => Mode::Explicit,
        },
        loader: Loader {
            library,
            providers: None,
            policy: common.provider_policy,
            // Without the flag, engines are cached only where a model's configuration says so.
            engine_cache: flags
                .common
                .engine_cache
                .clone()
                .map(|folder| EngineCache { folder, library: library.version() }),
            weights: None,
            auto_complete: flags.auto_complete(),
            parameters: Vec::new(),
            response_cache: flags.response_cache_bytes().map(|bytes| Arc::new(Cache::new(bytes))),
            idle_unload: common.idle_unload(),
        },
        loads_at_once: flags.loads_at_once(),
        load_retries: flags.model_load_retry_count,
        strict_readiness: flags.strict_readiness,
    };
    let repository = Arc::new(Repository::new(Arc::clone(service.catalog()), options));
    service.attach(Arc::clone(&repository));
    let not_copied: Vec<_> = repository.refresh().await.iter().map(ToString::to_string).collect();
    if flags.exit_on_error && !not_copied.is_empty() {
        bail!("{}\n(--exit-on-error=false serves what is there)", not_copied.join("\n"));
    }
    for error in &not_copied {
        tracing::error!(error, "models of the repository are missing or not up to date");
    }
    let every = || repository.names_on_disk().context("cannot read the model repository");
    let names = match flags.model_control_mode {
        ControlMode::Explicit if !flags.load_model.iter().any(|name| name == EVERY_MODEL) => flags.load_model.clone(),
        _ => every()?,
    };
    let failed = repository.start(&names).await;
    for (model, error) in &failed {
        tracing::error!(model, %error, "the model is not served");
    }
    if flags.exit_on_error && !failed.is_empty() {
        let reasons: Vec<_> = failed.into_iter().map(|(_, error)| error.to_string()).collect();
        bail!("{}\n(--exit-on-error=false serves the other models)", reasons.join("\n"));
    }
    tokio::spawn(repository.poll());
    Ok(())
}
