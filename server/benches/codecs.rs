//! The cost of requests in the HTTP routes, without a socket, by the encoding of their tensor.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Request;
use http_body_util::BodyExt as _;
use quintet_engine::{BatchPolicy, BufferPool, DataType, Model, ModelSpec, TensorSpec, testing::Echo};
use quintet_proto::inference::ModelConfig;
use quintet_server::{
    catalog::{Catalog, InputLimit, Limits, ServiceName},
    service::Service,
    transport::kserve_http::router,
};
use tower::ServiceExt as _;

/// Elements of one image.
const ELEMENTS: usize = 150_528;

fn service() -> Arc<Service> {
    let limits = Limits {
        max_input: InputLimit { bytes: 64 << 20, flag: "--max-input-bytes" },
        max_image_pixels: 1,
        max_images: 1,
    };
    let service = Arc::new(Service::new(Catalog::new(ServiceName::Onnx, BufferPool::new(64 << 20), limits)));
    let tensor = |name| TensorSpec::new(name, DataType::Fp32, [None]);
    let policy = BatchPolicy { max_batch_size: 8, ..BatchPolicy::default() };
    let spec = ModelSpec::new("echo", 1, vec![tensor("x")], vec![tensor("y")], policy).unwrap();
    let model =
        Model::start(spec, vec![Box::new(Echo::default())], vec![], service.catalog().pool().clone(), Duration::ZERO)
            .unwrap();
    service.catalog().put(model, ModelConfig::default());
    service
}

/// A request with `data` or `binary_data_size` of one tensor, and whether its response is binary.
fn json(elements: usize, field: &str, binary: bool) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{elements}],"datatype":"FP32",{field}}}],"parameters":{{"binary_data_output":{binary}}}}}"#
    )
}

fn codecs(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let routes = router(service());
    let mut group = criterion.benchmark_group("http");
    let mut case = |name: &str, elements: usize, header: Option<usize>, body: Vec<u8>| {
        let body = bytes::Bytes::from(body);
        group.throughput(Throughput::Elements(elements as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut request = Request::post("/v2/models/echo/infer");
                if let Some(length) = header {
                    request = request.header("inference-header-content-length", length);
                }
                let request = request.body(Body::from(body.clone())).unwrap();
                runtime.block_on(async {
                    let answer = routes.clone().oneshot(request).await.unwrap();
                    assert_eq!(answer.status(), 200);
                    answer.into_body().collect().await.unwrap()
                })
            });
        });
    };
    for elements in [16, ELEMENTS] {
        let numbers: Vec<_> = (0..elements).map(|n| format!("{:?}", n as f32 * 0.37 - 3.0)).collect();
        let text = json(elements, &format!(r#""data":[{}]"#, numbers.join(",")), false);
        case(&format!("json {elements}"), elements, None, text.into_bytes());
        let size = elements * 4;
        let text = json(elements, &format!(r#""parameters":{{"binary_data_size":{size}}}"#), true);
        let body = [text.as_bytes(), &vec![1; size]].concat();
        case(&format!("binary {elements}"), elements, Some(text.len()), body);
    }
    group.finish();

    let mut group = criterion.benchmark_group("base64");
    let encoded = base64_simd::STANDARD.encode_to_string(vec![7; 100_000]);
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("decode 100 kB", |bencher| {
        bencher.iter(|| base64_simd::STANDARD.decode_to_vec(encoded.as_bytes()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, codecs);
criterion_main!(benches);
