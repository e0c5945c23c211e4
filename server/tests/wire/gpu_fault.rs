//! A GPU that fails: the server as a process of its own, with a backend that reports CUDA's errors on request.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, RunRequest, RunTimings,
    Tensor, TensorSpec, testing::Echo,
};
use quintet_proto::inference::ModelConfig;
use quintet_server::{
    backend::run_error,
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    process::{
        access::AccessControl,
        serve::{self, ListenerSpec, Protocol},
        settings::{Access, Common, OnGpuFault},
    },
    service::Service,
    transport::{http1, kserve_http},
};

use super::support::over_http;

/// The byte of a request whose run finds too little memory, and that of one whose run loses the GPU.
const NO_MEMORY: u8 = 2;
const FAULT: u8 = 7;

/// Where the child writes its ports, and its `--gpu-fault`.
const PORTS_FILE: &str = "QUINTET_TEST_PORTS_FILE";
const ACTION: &str = "QUINTET_TEST_GPU_FAULT";

/// Echoes on a GPU, if the request's first byte asks for nothing else.
struct OnGpu;

impl Instance for OnGpu {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let asked = request.inputs[0].as_ref().and_then(|input| input.data().first().copied());
        let failure = match asked {
            Some(NO_MEMORY) => "2: out of memory",
            Some(FAULT) => "700: an illegal memory access was encountered",
            _ => return Echo::default().run(request, timings),
        };
        Err(run_error(format_args!("onnxruntime::CudaCall(...) CUDA failure {failure} ; GPU=0 ; hostname=vm ; ")))
    }

    fn placement(&self) -> Placement {
        Placement { gpu: Some("NVIDIA GeForce RTX 4090".into()), ..Echo::default().placement() }
    }
}

fn put(service: &Service, name: &str, instance: Box<dyn Instance>) {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [None]);
    let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], BatchPolicy::default()).unwrap();
    let model = Model::start(spec, vec![instance], vec![], service.catalog().pool().clone(), Duration::ZERO).unwrap();
    service.catalog().put(model, ModelConfig { name: name.into(), ..ModelConfig::default() });
}

/// The process of the tests below.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "ends the process; the other tests run it as a process of its own"]
async fn server() {
    let [ports_file, action] = [PORTS_FILE, ACTION].map(|name| std::env::var(name).unwrap());
    let max_input = InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" };
    let limits = Limits { max_input, max_image_pixels: 1, max_images: 1 };
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Onnx, BufferPool::new(1 << 20), limits)));
    put(&service, "cpu", Box::new(Echo::default()));
    put(&service, "gpu", Box::new(OnGpu));
    let listener = |name, protocol| {
        let address = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        ListenerSpec {
            service: Arc::clone(&service),
            name,
            protocol,
            address,
            shares_port: false,
            connections: Common::default().connections(),
            bound: Arc::default(),
        }
    };
    let http = listener("http", Protocol::Http(kserve_http::router(Arc::clone(&service))));
    let metrics = listener("metrics", Protocol::Metrics(http1::metrics::router(Arc::clone(&service))));
    let limits = serve::Limits {
        access: &AccessControl::new(&Access::default()).unwrap(),
        exit_delay: Duration::ZERO,
        exit_timeout: Duration::from_secs(30),
        on_gpu_fault: <OnGpuFault as clap::ValueEnum>::from_str(&action, false).unwrap(),
        ports_file: Path::new(&ports_file),
    };
    serve::run(vec![http, metrics], limits, async { Ok(()) }).await.unwrap();
    panic!("the server ended as after a signal");
}

struct Process {
    child: Child,
    ports: BTreeMap<String, u16>,
}

impl Process {
    async fn start(action: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports_file = folder.path().join("ports.json");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "gpu_fault::server", "--nocapture"])
            .env(PORTS_FILE, &ports_file)
            .env(ACTION, action)
            .spawn()
            .unwrap();
        while !ports_file.exists() {
            assert_eq!(child.try_wait().unwrap(), None, "the server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ports = serde_json::from_slice(&fs::read(&ports_file).unwrap()).unwrap();
        Self { child, ports }
    }

    async fn get(&self, port: &str, path: &str) -> String {
        over_http(self.ports[port], "GET", path, "").await
    }

    /// The response to a request whose input is this byte.
    async fn infer(&self, model: &str, byte: u8) -> String {
        let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"UINT8","shape":[1],"data":[{byte}]}}]}}"#);
        over_http(self.ports["http"], "POST", &format!("/v2/models/{model}/infer"), &body).await
    }

    async fn end(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn too_little_memory_on_the_gpu_fails_one_request() {
    let server = Process::start("exit").await;
    let refused = server.infer("gpu", NO_MEMORY).await;
    assert_eq!(status(&refused), "503", "{refused}");
    assert!(refused.to_lowercase().contains("retry-after: 1") && refused.contains("try a smaller batch"), "{refused}");
    assert_eq!(status(&server.infer("gpu", 0).await), "200");
    assert_eq!(status(&server.get("http", "/v2/health/ready").await), "200");
    assert!(server.get("metrics", "/metrics").await.contains("\nquintet_gpu_fault 0\n"));
}

#[tokio::test]
async fn a_failed_gpu_ends_the_process() {
    let mut server = Process::start("exit").await;
    let refused = server.infer("gpu", FAULT).await;
    assert_eq!(status(&refused), "503", "{refused}");
    assert!(refused.contains("only a restart of the server helps: CUDA failure 700"), "{refused}");
    assert_eq!(server.end().await.code(), Some(3));
}

#[tokio::test]
async fn or_takes_its_models_out_of_service() {
    let mut server = Process::start("unready").await;
    assert_eq!(status(&server.infer("gpu", FAULT).await), "503");
    let index = loop {
        let index = over_http(server.ports["http"], "POST", "/v2/repository/index", "").await;
        if index.contains("UNAVAILABLE") {
            break index;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(index.contains(r#"{"name":"cpu","version":"1","state":"READY"}"#), "{index}");
    assert!(index.contains(r#""state":"UNAVAILABLE","reason":"the GPU failed"#), "{index}");
    for (path, expected) in [("live", "200"), ("ready", "503")] {
        assert_eq!(status(&server.get("http", &format!("/v2/health/{path}")).await), expected, "{path}");
    }
    assert_eq!(status(&server.infer("cpu", FAULT).await), "200");
    let refused = server.infer("gpu", 0).await;
    assert!(status(&refused) == "503" && refused.contains("CUDA failure 700"), "{refused}");
    let metrics = server.get("metrics", "/metrics").await;
    assert!(metrics.contains("quintet_gpu_fault{reason=\"the GPU failed"), "{metrics}");
    assert!(Command::new("kill").arg(server.child.id().to_string()).status().unwrap().success());
    assert_eq!(server.end().await.code(), Some(3));
}
