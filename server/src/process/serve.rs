//! Binds listeners, loads models, serves, and drains: for the suite and for Triton mode.

use std::{collections::BTreeMap, fs, future::Future, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::Router;
use quintet_onnxruntime::{Loaded, ThreadPool};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    process::{access::AccessControl, settings::or_cores},
    service::Service,
    transport::{
        http1,
        io_threads::IoThreads,
        kserve_grpc,
        listener::{Address, Listener},
    },
};

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP/1.1 with these routes.
    Http(Router),
    /// KServe over gRPC.
    Grpc(kserve_grpc::Limits),
}

/// A listener to bind. The flag of its port is `--<name>-port`.
pub struct ListenerSpec {
    /// The service that it serves.
    pub service: Arc<Service>,
    /// Its name in logs and in the ports file.
    pub name: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it listens.
    pub address: Address,
}

/// Limits of the process, who may do what, and where it writes its ports.
pub struct Limits<'a> {
    /// Who may do what on the listeners.
    pub access: &'a AccessControl,
    /// Maximum number of connections of one listener.
    pub max_connections: usize,
    /// How long accepted requests may take to finish after a signal.
    pub exit_timeout: Duration,
    /// The file for the ports, written when the server is ready; empty for none.
    pub ports_file: &'a Path,
}

/// Serves until a signal ends it. Listeners answer while models load: the server is alive but not ready.
///
/// # Errors
/// When a port is taken, or `load` fails.
pub async fn run(
    listeners: Vec<ListenerSpec>,
    limits: Limits<'_>,
    load: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<ExitCode> {
    let mut signals = signals()?;
    // Every listener is bound before anything slow happens.
    let Bound { listeners, ports, sockets } = bind(listeners, &limits).await?;
    tokio::spawn(limits.access.watch());
    let (stop, serving) = (CancellationToken::new(), TaskTracker::new());
    let services = serve(listeners, &serving, &stop)?;

    tokio::select! {
        loaded = load => loaded?,
        _ = signals.recv() => return Ok(ExitCode::SUCCESS),
    }
    let list: Vec<_> = ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
    tracing::info!(ports = list.join(", "), sockets = sockets.join(", "), "ready");
    if !limits.ports_file.as_os_str().is_empty() {
        write_ports(limits.ports_file, &ports)?;
    }

    signals.recv().await;
    tracing::info!(seconds = limits.exit_timeout.as_secs(), "draining; a second signal stops at once");
    tokio::select! {
        () = drain(&services, &stop, &serving) => {
            tracing::info!("every accepted request was answered");
            Ok(ExitCode::SUCCESS)
        }
        () = tokio::time::sleep(limits.exit_timeout) => {
            tracing::error!("exit timeout reached: some requests are left unanswered");
            Ok(ExitCode::FAILURE)
        }
        _ = signals.recv() => {
            tracing::warn!("second signal: some requests are left unanswered");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The bound listeners, the ports of those on TCP, and the paths of the others.
struct Bound {
    listeners: Vec<(Arc<Service>, Protocol, Listener)>,
    ports: BTreeMap<&'static str, u16>,
    sockets: Vec<String>,
}

async fn bind(specs: Vec<ListenerSpec>, limits: &Limits<'_>) -> anyhow::Result<Bound> {
    let max_connections = limits.max_connections;
    let mut bound = Bound { listeners: Vec::new(), ports: BTreeMap::new(), sockets: Vec::new() };
    for ListenerSpec { service, name, protocol, address } in specs {
        let access = match &protocol {
            Protocol::Http(_) => limits.access.http(&address)?,
            Protocol::Grpc(_) => limits.access.grpc()?,
        };
        let listener = match address {
            Address::Tcp(address) => {
                let listener = Listener::bind(name, address, max_connections).await?;
                bound.ports.insert(name, listener.port().context("cannot read a listener's port")?);
                listener
            }
            Address::Unix { path, flag } => {
                let listener = Listener::bind_unix(name, &path, flag, max_connections)?;
                bound.sockets.push(format!("{name} {}", path.display()));
                listener
            }
        };
        bound.listeners.push((service, protocol, listener.with_access(access)));
    }
    Ok(bound)
}

/// Serves each listener in a task of `serving` until `stop`. Returns the services, each once.
fn serve(
    listeners: Vec<(Arc<Service>, Protocol, Listener)>,
    serving: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Vec<Arc<Service>>> {
    let threads = IoThreads::start().context("cannot start threads for connections")?;
    let mut services: Vec<Arc<Service>> = Vec::new();
    for (service, protocol, listener) in listeners {
        if services.iter().all(|known| !Arc::ptr_eq(known, &service)) {
            services.push(Arc::clone(&service));
        }
        let (threads, stop) = (threads.clone(), stop.clone());
        match protocol {
            Protocol::Http(routes) => serving.spawn(http1::serve::serve(listener, routes, service, threads, stop)),
            Protocol::Grpc(limits) => serving.spawn(kserve_grpc::serve(listener, service, limits, threads, stop)),
        };
    }
    serving.close();
    Ok(services)
}

/// Loads ONNX Runtime from `path` (empty: search for it), with the thread pool that all services share. Blocks.
///
/// # Errors
/// When it is missing or is not ONNX Runtime.
pub fn library(path: &Path, intra_op_threads: usize) -> anyhow::Result<&'static Loaded> {
    let flag = (!path.as_os_str().is_empty()).then_some(path);
    let threads = ThreadPool { intra_op_threads: or_cores(intra_op_threads), spin: false };
    let library = quintet_onnxruntime::load(flag, threads)?;
    tracing::info!(path = %library.path.display(), build = library.build_info, "ONNX Runtime");
    Ok(library)
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

/// Makes the services not ready, stops accepting connections, lets open requests finish, then stops the instances.
async fn drain(services: &[Arc<Service>], stop: &CancellationToken, serving: &TaskTracker) {
    services.iter().for_each(|service| service.begin_drain());
    stop.cancel();
    serving.wait().await;
    let services = services.to_vec();
    let drained = tokio::task::spawn_blocking(move || services.iter().for_each(|service| service.drain()));
    if let Err(error) = drained.await {
        tracing::error!(%error, "an instance did not stop");
    }
}

/// Writes the ports. The file is renamed into place, so a reader never sees a part of it.
fn write_ports(path: &Path, ports: &BTreeMap<&str, u16>) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let json = serde_json::to_vec(ports).context("cannot print the ports")?;
    fs::write(&partial, json)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write the ports file {}", path.display()))
}
