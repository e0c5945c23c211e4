//! Services with scripted models, which the targets send their requests to.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use quintet_engine::{
    BatchPolicy, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, RunRequest, RunTimings,
    Shape, Tensor, TensorSpec, testing::Echo,
};
use quintet_proto::inference::ModelConfig;
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    service::Service,
};
use tokio::runtime::Runtime;

/// Limit for the size of a request.
pub(crate) const MAX_INPUT: InputLimit = InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" };

/// Models that answer with their input, by the name of its type.
pub(crate) const ECHOES: [(&str, DataType); 6] = [
    ("FP32", DataType::Fp32),
    ("INT64", DataType::Int64),
    ("BYTES", DataType::Bytes),
    ("BOOL", DataType::Bool),
    ("FP16", DataType::Fp16),
    ("UINT8", DataType::Uint8),
];

/// The runtime of the process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| fail(&error))
    })
}

/// Ends the process: without its models no target says anything.
#[allow(clippy::panic)] // The fuzzer reports it.
fn fail(error: &dyn std::fmt::Display) -> ! {
    panic!("cannot set the target up: {error}")
}

/// A service with the models of [`ECHOES`], `pair`, which has two inputs, and `vast`, whose rows no memory can hold.
pub(crate) fn echoes() -> &'static Arc<Service> {
    static SERVICE: OnceLock<Arc<Service>> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let service = service(ServiceName::Onnx);
        for (name, data_type) in ECHOES {
            let tensor = |name| TensorSpec::new(name, data_type, [None]);
            put(&service, name, vec![tensor("x")], vec![tensor("y")], Box::new(Echo::default()));
        }
        let pair =
            vec![TensorSpec::new("x", DataType::Int32, [Some(2)]), TensorSpec::new("z", DataType::Bytes, [None])];
        let output = TensorSpec::new("y", DataType::Int32, [Some(2)]);
        put(&service, "pair", pair, vec![output], Box::new(Echo::default()));
        let vast = |name| TensorSpec::new(name, DataType::Int64, [Some(1 << 61), None]);
        put(&service, "vast", vec![vast("x")], vec![vast("y")], Box::new(Echo::default()));
        service
    })
}

/// A jpeg service whose model answers with zeros.
pub(crate) fn images() -> &'static Arc<Service> {
    static SERVICE: OnceLock<Arc<Service>> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let service = service(ServiceName::Jpeg);
        let input = TensorSpec::new("image", DataType::Uint8, [Some(224), Some(224), Some(3)]);
        let outputs = ["logits", "embedding"].map(|name| TensorSpec::new(name, DataType::Fp32, [Some(2)]));
        put(&service, "zeros", vec![input], outputs.into(), Box::new(Zeros));
        service
    })
}

fn service(name: ServiceName) -> Arc<Service> {
    let limits = Limits { max_input: MAX_INPUT, max_image_pixels: 64 * 64, max_images: 4 };
    Arc::new(Service::new(Catalog::new(name, BufferPool::new(4 << 20), limits)))
}

fn put(service: &Service, name: &str, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>, instance: Box<dyn Instance>) {
    let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
    let model = ModelSpec::new(name, 1, inputs, outputs, policy).map_err(|error| error.to_string()).and_then(|spec| {
        let pool = service.catalog().pool().clone();
        Model::start(spec, vec![instance], vec![], pool, Duration::ZERO).map_err(|error| error.to_string())
    });
    match model {
        Ok(model) => service.catalog().put(model, ModelConfig { name: name.into(), ..ModelConfig::default() }),
        Err(error) => fail(&error),
    }
}

/// Answers with two zeros for each image.
struct Zeros;

impl Instance for Zeros {
    fn run(&mut self, request: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let rows = request.inputs.iter().flatten().next().and_then(|input| input.shape().dims().first().copied());
        let rows = rows.unwrap_or(1);
        let zeros = Tensor::new(DataType::Fp32, Shape::new([rows, 2]), vec![0; rows * 8].into());
        let zeros = zeros.map_err(InferError::internal)?;
        Ok([0, 1].map(|output| request.outputs.contains(output).then(|| zeros.clone())).into())
    }

    fn placement(&self) -> Placement {
        Echo::default().placement()
    }
}
