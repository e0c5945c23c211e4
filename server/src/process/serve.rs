//! Binds listeners, loads models, serves, and drains: for the suite and for Triton mode.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use axum::Router;
use quintet_onnxruntime::{Loaded, ThreadPool};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::onnx::{Plugin, Provider},
    observe::gpu_fault::GpuFault,
    process::{
        access::AccessControl,
        exit, memory,
        settings::{Common, EpLibrary, OnGpuFault, or_cores},
    },
    service::Service,
    transport::{
        http1,
        io_threads::IoThreads,
        kserve_grpc,
        listener::{Address, ConnectionLimits, Listener, reachable},
    },
};

/// The protocol of a listener.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP/1.1 with these routes.
    Http(Router),
    /// HTTP/1.1 with these routes, which take no body.
    Metrics(Router),
    /// KServe over gRPC.
    Grpc(kserve_grpc::Options),
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
    /// Whether other processes may listen on its port, too.
    pub shares_port: bool,
    /// Limits of its connections.
    pub connections: ConnectionLimits,
    /// Where this machine reaches it, set when it is bound to a TCP port.
    pub bound: Arc<OnceLock<SocketAddr>>,
}

/// Limits of the process, who may do what, and where it writes its ports.
pub struct Limits<'a> {
    /// Who may do what on the listeners.
    pub access: &'a AccessControl,
    /// How long the listeners stay open after a signal, while the services are not ready.
    pub exit_delay: Duration,
    /// How long accepted requests may take to finish after a signal.
    pub exit_timeout: Duration,
    /// What a failed GPU does to the process.
    pub on_gpu_fault: OnGpuFault,
    /// The file for the ports, written when the server is ready; empty for none.
    pub ports_file: &'a Path,
}

/// The exit status after a failure of a GPU.
const GPU_FAILED: u8 = 3;

/// Serves until a signal or, if the limits say so, a failed GPU ends it. Listeners answer while models load: the server is
/// alive but not ready.
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
    tokio::spawn(memory::release_while_idle());
    let (stop, serving) = (CancellationToken::new(), TaskTracker::new());
    let services = serve(listeners, &serving, &stop)?;
    let server = Server { services, stop, serving };

    let loaded = tokio::select! {
        loaded = load => Some(loaded?),
        _ = signals.recv() => None,
    };
    if loaded.is_some() {
        let list: Vec<_> = ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
        tracing::info!(ports = list.join(", "), sockets = sockets.join(", "), "ready");
        notify_systemd(NotifyState::Ready);
        if !limits.ports_file.as_os_str().is_empty() {
            write_ports(limits.ports_file, &ports)?;
        }
        tokio::select! {
            _ = signals.recv() => {}
            () = server.gpu_failed(limits.on_gpu_fault) => {}
        }
    }
    // A model that is being loaded has no requests, and its thread cannot be stopped: nothing waits for it.
    let answered_all = tokio::select! {
        answered_all = server.end(&limits, loaded.is_some()) => answered_all,
        _ = signals.recv() => {
            tracing::warn!("second signal: some requests are left unanswered");
            false
        }
    };
    if server.gpu_fault().and_then(GpuFault::reason).is_some() {
        exit::now(GPU_FAILED);
    }
    if loaded.is_none() || !answered_all {
        exit::now(u8::from(!answered_all));
    }
    Ok(ExitCode::SUCCESS)
}

/// A server that serves.
struct Server {
    services: Vec<Arc<Service>>,
    stop: CancellationToken,
    serving: TaskTracker,
}

impl Server {
    /// The value that the services share.
    fn gpu_fault(&self) -> Option<&GpuFault> {
        self.services.first().map(|service| service.catalog().gpu_fault())
    }

    /// Waits for the failure of a GPU, and takes the models on GPUs out of service. Returns only if it ends the process.
    async fn gpu_failed(&self, action: OnGpuFault) {
        let Some(fault) = self.gpu_fault() else { return std::future::pending().await };
        let reason = fault.reported().await;
        self.services.iter().for_each(|service| service.catalog().lose_gpu(reason));
        if action == OnGpuFault::Unready {
            std::future::pending().await
        }
    }

    /// Ends the server: makes the services not ready, then stops accepting connections and lets open requests finish.
    /// Returns whether they did.
    async fn end(&self, limits: &Limits<'_>, is_loaded: bool) -> bool {
        self.services.iter().for_each(|service| service.begin_drain());
        notify_systemd(NotifyState::Stopping);
        tracing::info!(seconds = limits.exit_timeout.as_secs(), "draining; a second signal stops at once");
        tokio::time::sleep(limits.exit_delay).await;
        self.stop.cancel();
        match tokio::time::timeout(limits.exit_timeout, self.drain(is_loaded)).await {
            Ok(()) => {
                tracing::info!("every accepted request was answered");
                true
            }
            Err(_) => {
                tracing::error!("exit timeout reached: some requests are left unanswered");
                false
            }
        }
    }

    /// Waits until every open request is answered, then stops the instances if all models are loaded.
    async fn drain(&self, is_loaded: bool) {
        self.serving.wait().await;
        let services = self.services.clone();
        let end = if is_loaded { Service::drain } else { Service::flush };
        let ended = tokio::task::spawn_blocking(move || services.iter().for_each(|service| end(service)));
        if let Err(error) = ended.await {
            tracing::error!(%error, "an instance did not stop");
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
    let mut bound = Bound { listeners: Vec::new(), ports: BTreeMap::new(), sockets: Vec::new() };
    for ListenerSpec { service, name, protocol, address, shares_port, connections, bound: reached } in specs {
        let access = match &protocol {
            Protocol::Http(_) | Protocol::Metrics(_) => limits.access.http(&address)?,
            Protocol::Grpc(_) => limits.access.grpc()?,
        };
        let listener = match address {
            Address::Tcp(address) => {
                let listener = match shares_port {
                    true => Listener::bind_shared(name, address, connections)?,
                    false => Listener::bind(name, address, connections).await?,
                };
                let port = listener.port().context("cannot read a listener's port")?;
                bound.ports.insert(name, port);
                let _ = reached.set(reachable(SocketAddr::new(address.ip(), port)));
                listener
            }
            Address::Unix { path, flag } => {
                let listener = Listener::bind_unix(name, &path, flag, connections)?;
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
            Protocol::Metrics(routes) => {
                serving.spawn(http1::serve::serve_without_bodies(listener, routes, service, threads, stop))
            }
            Protocol::Grpc(limits) => serving.spawn(kserve_grpc::serve(listener, service, limits, threads, stop)),
        };
    }
    serving.close();
    Ok(services)
}

/// Loads ONNX Runtime as the settings say, with the thread pool that all services share, and registers the libraries with
/// execution providers. One that fails is a warning: the models that ask for its provider have the reason. Blocks.
///
/// # Errors
/// When ONNX Runtime is missing or the file is not ONNX Runtime.
pub fn library(settings: &Common) -> anyhow::Result<&'static Loaded> {
    let path = settings.onnxruntime.as_path();
    let flag = (!path.as_os_str().is_empty()).then_some(path);
    let intra_op_threads = or_cores(settings.intra_op_threads);
    let spin = settings.intra_op_spin.spins(intra_op_threads, or_cores(0));
    let library = quintet_onnxruntime::load(flag, ThreadPool { intra_op_threads, spin })?;
    let path = library.path.display();
    tracing::info!(%path, build = library.build_info, intra_op_threads, spin, "ONNX Runtime");
    for EpLibrary { name, path } in ep_libraries(settings, &library.path) {
        let (registered, path) = (library.register(&name, &path), path.display());
        match registered {
            Ok(()) => tracing::info!(name, %path, "execution provider library"),
            Err(reason) => tracing::warn!(name, %path, reason, "cannot use an execution provider library"),
        }
    }
    if library.has_plugins() {
        let devices = library.devices();
        let list: Vec<_> = devices.iter().map(|it| format!("{} {} {}", it.provider, it.kind, it.name)).collect();
        tracing::info!(devices = list.join(", "), "devices of execution providers");
    }
    Ok(library)
}

/// The libraries with execution providers that the settings name, and TensorRT for RTX if it is installed with ONNX Runtime and
/// the settings name no other.
fn ep_libraries(settings: &Common, onnxruntime: &Path) -> Vec<EpLibrary> {
    let name = Provider::Plugin(Plugin::TensorRtRtx).to_string();
    let is_named = settings.ep_library.iter().any(|library| library.name == name);
    let installed = if is_named { None } else { quintet_onnxruntime::tensorrt_rtx_of(onnxruntime) };
    let installed = installed.map(|path| EpLibrary { name, path });
    settings.ep_library.iter().cloned().chain(installed).collect()
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

/// Tells systemd, if it started the process with `Type=notify`, that the server is ready or ends.
fn notify_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify systemd");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensorrt_for_rtx_is_found_beside_onnx_runtime_unless_another_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let onnxruntime = folder.path().join("libonnxruntime.so.1.31.1");
        let plugin = folder.path().join("tensorrt-rtx/libonnxruntime_providers_nv_tensorrt_rtx.so");
        let list = |settings: &Common| -> Vec<_> {
            ep_libraries(settings, &onnxruntime).iter().map(ToString::to_string).collect()
        };
        let openvino = Common { ep_library: vec!["openvino=/a.so".parse().unwrap()], ..Common::default() };
        assert_eq!(list(&openvino), ["openvino=/a.so"]);
        fs::create_dir(plugin.parent().unwrap()).unwrap();
        fs::write(&plugin, "").unwrap();
        let installed = format!("tensorrt-rtx={}", plugin.display());
        assert_eq!(list(&openvino), ["openvino=/a.so", &installed]);
        let other = Common { ep_library: vec!["tensorrt-rtx=/b.so".parse().unwrap()], ..Common::default() };
        assert_eq!(list(&other), ["tensorrt-rtx=/b.so"]);
    }
}
