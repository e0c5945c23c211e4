//! Optional inputs: the model file has a default for them.

use std::fs;

use bytes::Bytes;
use quintet_models::passthrough::{DEFAULT_FACTOR, write_scaled};
use quintet_proto::inference::{
    ModelConfigRequest, ModelInferRequest, ModelMetadataRequest, model_infer_request::InferInputTensor,
};
use quintet_server::repository::Mode;

use crate::support::{Server, attach, over_http, start};

/// A server of `scaled`: `x` times `factor`, which may be left out.
async fn scaled() -> Server {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_scaled(root.path()).unwrap();
    let repository = attach(&server, root.path(), Mode::None);
    let failed = repository.start(&["scaled".to_owned()]).await;
    assert!(failed.is_empty(), "{failed:?}");
    server
}

fn bytes(numbers: &[f32]) -> Bytes {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A row of `x`, a factor, or both.
fn request(x: Option<[f32; 2]>, factor: Option<f32>) -> ModelInferRequest {
    let tensor = |name: &str, numbers: &[f32]| {
        let shape = vec![1, numbers.len() as i64];
        let input = InferInputTensor { name: name.into(), datatype: "FP32".into(), shape, ..Default::default() };
        (input, bytes(numbers))
    };
    let sent = factor.map(|factor| tensor("factor", &[factor])).into_iter().chain(x.map(|x| tensor("x", &x)));
    let (inputs, raw_input_contents) = sent.unzip();
    ModelInferRequest { model_name: "scaled".into(), inputs, raw_input_contents, ..Default::default() }
}

#[tokio::test]
async fn over_grpc_each_request_gets_its_own_result() {
    let server = scaled().await;
    let client = server.client().await;
    let asked = (0..60u8).map(|index| {
        let (mut client, x) = (client.clone(), [f32::from(index), 1.0]);
        let factor = (index % 3 != 0).then_some(f32::from(index) / 4.0);
        async move {
            let answer = client.model_infer(request(Some(x), factor)).await.unwrap().into_inner();
            let factor = factor.unwrap_or(DEFAULT_FACTOR);
            assert_eq!(answer.raw_output_contents, [bytes(&x.map(|x| x * factor))], "{index}");
        }
    });
    futures_util::future::join_all(asked).await;
    let stats = server.model("scaled").stats();
    assert_eq!((stats.success, stats.failures.total()), (60, 0));
}

#[tokio::test]
async fn over_http_an_optional_input_may_be_omitted() {
    let server = scaled().await;
    let port = server.http().await;
    let infer = async |inputs: &str| over_http(port, "POST", "/v2/models/scaled/infer", inputs).await;
    let x = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,3]}"#;
    let factor = r#"{"name":"factor","datatype":"FP32","shape":[1,1],"data":[5]}"#;
    let answers =
        [infer(&format!(r#"{{"inputs":[{x}]}}"#)).await, infer(&format!(r#"{{"inputs":[{x},{factor}]}}"#)).await];
    assert!(answers[0].ends_with(r#""data":[2.0,6.0]}]}"#), "{}", answers[0]);
    assert!(answers[1].ends_with(r#""data":[5.0,15.0]}]}"#), "{}", answers[1]);
}

#[tokio::test]
async fn a_missing_required_input_is_reported_in_tritons_words() {
    let server = scaled().await;
    let (mut client, port) = (server.client().await, server.http().await);
    let words = "[request id: <id_unknown>] expected number of inputs between 1 and 2 but got 1 inputs for model \
                 'scaled'. Got input(s) ['factor'], but missing required input(s) ['x']. Please provide all required \
                 input(s).";
    let status = client.model_infer(request(None, Some(1.0))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, words));
    let sent = r#"{"inputs":[{"name":"factor","datatype":"FP32","shape":[1,1],"data":[5]}]}"#;
    let answer = over_http(port, "POST", "/v2/models/scaled/infer", sent).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with(&format!(r#"{{"error":"{words}"}}"#)), "{answer}");
    let status = client.model_infer(request(None, None)).await.unwrap_err();
    assert!(
        status.message().contains("between 1 and 2 but got 0 inputs for model 'scaled'. Got input(s) []"),
        "{status}"
    );
}

#[tokio::test]
async fn an_ensembles_omitted_input_is_omitted_in_its_steps() {
    let (server, root) = (start().await, tempfile::tempdir().unwrap());
    write_scaled(root.path()).unwrap();
    let write = |model: &str, optional: &str, map: &str| {
        let input = |name: &str, dims: i64| {
            let optional = if name == optional { "optional: true" } else { "" };
            format!("input {{ name: \"{name}\" data_type: TYPE_FP32 dims: {dims} {optional} }}")
        };
        let config = format!(
            "max_batch_size: 8 {} {} output {{ name: \"out\" data_type: TYPE_FP32 dims: -1 }}
            ensemble_scheduling {{ step {{ model_name: \"scaled\" model_version: -1 {map}
              input_map {{ key: \"x\" value: \"in\" }} output_map {{ key: \"y\" value: \"out\" }} }} }}",
            input("in", -1),
            input("by", 1)
        );
        fs::create_dir_all(root.path().join(model).join("1")).unwrap();
        fs::write(root.path().join(model).join("config.pbtxt"), config).unwrap();
    };
    let map = "input_map { key: \"factor\" value: \"by\" }";
    write("whole", "by", map);
    write("unmapped", "by", "");
    write("wrong", "in", map);
    let repository = attach(&server, root.path(), Mode::None);
    let failed = repository.start(&["unmapped", "whole", "wrong"].map(str::to_owned)).await;
    let [(name, error)] = &failed[..] else { panic!("{failed:?}") };
    let words = "tensor 'in' is optional, but input 'x' of step 'scaled' is not";
    assert!(name == "wrong" && error.to_string().contains(words), "{error}");

    let port = server.http().await;
    let x = r#"{"name":"in","datatype":"FP32","shape":[1,2],"data":[1,3]}"#;
    let by = r#"{"name":"by","datatype":"FP32","shape":[1,1],"data":[5]}"#;
    for (model, inputs, data) in [
        ("whole", x.to_owned(), "[2.0,6.0]"),
        ("whole", format!("{by},{x}"), "[5.0,15.0]"),
        ("unmapped", format!("{x},{by}"), "[2.0,6.0]"),
    ] {
        let sent = format!(r#"{{"inputs":[{inputs}]}}"#);
        let answer = over_http(port, "POST", &format!("/v2/models/{model}/infer"), &sent).await;
        assert!(answer.ends_with(&format!(r#""data":{data}}}]}}"#)), "{model} {inputs}: {answer}");
    }
}

#[tokio::test]
async fn metadata_and_configuration_mark_optional_inputs() {
    let server = scaled().await;
    let (mut client, port) = (server.client().await, server.http().await);
    let metadata = over_http(port, "GET", "/v2/models/scaled", "").await;
    let expected = r#""inputs":[{"name":"x","datatype":"FP32","shape":[-1,-1]},{"name":"factor","datatype":"FP32","shape":[-1,1],"optional":true}]"#;
    assert!(metadata.contains(expected), "{metadata}");
    let request = ModelMetadataRequest { name: "scaled".into(), ..Default::default() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!(metadata.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x", "factor"]);
    let request = ModelConfigRequest { name: "scaled".into(), ..Default::default() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    let optional: Vec<_> = config.input.iter().map(|input| (input.name.as_str(), input.optional)).collect();
    assert_eq!(optional, [("x", false), ("factor", true)]);
}
