//! A service with a model that works, and one whose runs fail, panic and take their time.

use std::{path::Path, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use quintet_engine::{
    BatchPolicy, Budget, BufferPool, DataType, InferError, Instance, Model, ModelSpec, Placement, RunRequest,
    RunTimings, Tensor, TensorSpec, budget::Bounds, testing::Echo,
};
use quintet_proto::inference::ModelConfig;
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    kserve::trace::{Target, Traces, Update, Waiting},
    service::Service,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

pub const MAX_INPUT: InputLimit = InputLimit { bytes: 1 << 20, flag: "--max-input-bytes" };

/// The bytes that requests may hold, of which a round may take most away. Nothing waits for them for longer than a client
/// of the rounds would.
pub const MEMORY: Bounds =
    Bounds { bytes: 8 << 20, largest_body: 256 << 10, wait: Duration::from_millis(5), flag: "--max-memory-bytes" };

/// The model that always works.
pub const ECHO: &str = "echo";
/// The model whose runs fail.
pub const UNRELIABLE: &str = "unreliable";
/// What its panics and errors say.
pub const SCRIPTED: &str = "scripted-fault";

/// Echoes, if it does not fail, panic or wait first.
#[derive(Clone)]
pub struct Unreliable(Arc<Mutex<StdRng>>);

impl Unreliable {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(0))))
    }

    /// Begins the faults of a round.
    pub fn seed(&self, seed: u64) {
        *self.0.lock() = StdRng::seed_from_u64(seed);
    }
}

impl Instance for Unreliable {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let (fault, micros) = {
            let mut rng = self.0.lock();
            (rng.random_range(0..8), rng.random_range(0..3000))
        };
        match fault {
            0 => return Err(InferError::internal(SCRIPTED)),
            1 => panic!("{SCRIPTED}"),
            2 => thread::sleep(Duration::from_micros(micros)),
            _ => {}
        }
        Echo::default().run(request, timings)
    }

    fn placement(&self) -> Placement {
        Echo::default().placement()
    }
}

/// A service with [`ECHO`] and two instances of [`UNRELIABLE`], and the faults of the latter. Every request is traced to
/// this file.
pub fn service(traces: &Path) -> (Arc<Service>, Unreliable) {
    let traces = Traces::new(Target::File(Some(traces.to_owned())), Waiting::default()).unwrap();
    let settings = [("trace_level", "TIMESTAMPS"), ("trace_rate", "1"), ("trace_count", "-1")];
    let update = settings.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
    traces.update(None, &Update::from_iter(update)).unwrap();
    let limits = Limits { max_input: MAX_INPUT, max_image_pixels: 1, max_images: 1 };
    let catalog = Catalog::new(ServiceName::Onnx, BufferPool::within(16 << 20, Budget::new(MEMORY)), limits);
    let service = Arc::new(Service::new(catalog).with_traces(traces));
    let unreliable = Unreliable::new();
    put(&service, ECHO, vec![Box::new(Echo::default())]);
    put(&service, UNRELIABLE, vec![Box::new(unreliable.clone()), Box::new(unreliable.clone())]);
    (service, unreliable)
}

fn put(service: &Service, name: &str, instances: Vec<Box<dyn Instance>>) {
    let tensor = |name| TensorSpec::new(name, DataType::Uint8, [None]);
    let policy = BatchPolicy { max_batch_size: 8, dynamic: true, ..BatchPolicy::default() };
    let spec = ModelSpec::new(name, 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
    let model = Model::start(spec, instances, vec![], service.catalog().pool().clone(), Duration::ZERO).unwrap();
    service.catalog().put(model, ModelConfig { name: name.into(), ..ModelConfig::default() });
}
