//! Inference over gRPC: tensors in every form return unchanged.

use bytes::Bytes;
use quintet_proto::{
    elements,
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
};

use crate::support::{GRPC, WIDTH, floats, framed, raw, start, typed};

#[tokio::test]
async fn raw_tensors_of_every_batch_size_return_unchanged() {
    let server = start().await;
    let mut client = server.client().await;
    for rows in [1, 2, 8] {
        let request = ModelInferRequest { id: "7".into(), model_version: "1".into(), ..floats("echo", rows) };
        let answer = client.model_infer(request.clone()).await.unwrap();
        let metadata = answer.metadata().clone();
        assert_eq!(metadata.get("quintet-effective-provider").unwrap(), "Echo");
        assert!(metadata.get("server-timing").unwrap().to_str().unwrap().starts_with("receive;dur="));
        let answer = answer.into_inner();
        assert_eq!((answer.model_name.as_str(), answer.model_version.as_str(), answer.id.as_str()), ("echo", "1", "7"));
        assert_eq!(answer.outputs.len(), 1);
        assert_eq!(
            (answer.outputs[0].name.as_str(), answer.outputs[0].datatype.as_str(), &answer.outputs[0].shape[..]),
            ("y", "FP32", &[rows as i64, WIDTH as i64][..])
        );
        assert_eq!(answer.raw_output_contents, request.raw_input_contents);
    }
    assert_eq!(server.model("echo").stats().success, 3);
}

#[tokio::test]
async fn stage_times_are_in_the_trailers_and_the_provider_in_the_headers() {
    let server = start().await;
    let answer = server.send(&[GRPC], framed(&floats("echo", 1))).await;
    assert_eq!((answer.status, answer.trailers["grpc-status"].as_bytes()), (200, &b"0"[..]));
    assert_eq!(answer.headers["quintet-effective-provider"], "Echo");
    assert!(answer.trailers.contains_key("server-timing"));
}

/// A message in many frames, larger than tonic's default limit.
#[tokio::test]
async fn large_tensors_return_unchanged() {
    let server = start().await;
    let elements: Vec<Bytes> = (0..30u8).map(|n| Bytes::from(vec![n; 100_000])).collect();
    let data = elements::encode(&elements);
    let mut client = server.client().await;
    let answer = client.model_infer(raw("text", "BYTES", &[30], data.clone())).await.unwrap().into_inner();
    assert!(answer.raw_output_contents[0] == data);
}

#[tokio::test]
async fn typed_contents_and_strings_return_unchanged() {
    let server = start().await;
    let mut client = server.client().await;
    let contents = InferTensorContents { fp32_contents: vec![0.5, 2.0, -1.0, 0.0], ..Default::default() };
    let answer = client.model_infer(typed("echo", "FP32", &[1, 4], contents)).await.unwrap().into_inner();
    let expected: Vec<u8> = [0.5f32, 2.0, -1.0, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(answer.raw_output_contents[0], expected);

    let strings = [&b"hello"[..], b"", b"\xff\0"].map(Bytes::from_static);
    let contents = InferTensorContents { bytes_contents: strings.to_vec(), ..Default::default() };
    let sent = [typed("text", "BYTES", &[3], contents), raw("text", "BYTES", &[3], elements::encode(&strings))];
    for request in sent {
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0], elements::encode(&strings));
        assert_eq!(answer.outputs[0].shape, [3]);
    }
}

/// The echoed input is at different offsets in the message, aligned or not.
#[tokio::test]
async fn each_input_has_its_own_data_at_any_alignment() {
    let server = start().await;
    let mut client = server.client().await;
    for length in 0..9 {
        let tensor = |name: &str, datatype: &str, shape| InferInputTensor {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![shape],
            ..Default::default()
        };
        let numbers: Vec<u8> = [1i64, -2].iter().flat_map(|x| x.to_le_bytes()).collect();
        let request = ModelInferRequest {
            model_name: "pair".into(),
            inputs: vec![tensor("x", "UINT8", length), tensor("y", "INT64", 2)],
            raw_input_contents: vec![vec![9; length as usize].into(), numbers.clone().into()],
            ..Default::default()
        };
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents[0], numbers);
    }
}

#[tokio::test]
async fn returns_classes() {
    let server = start().await;
    let mut client = server.client().await;
    let scores: Vec<u8> = [0.5f32, 2.0, -1.0, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let two = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(2)) };
    let request = ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor {
            name: "y".into(),
            parameters: [("classification".to_owned(), two)].into(),
        }],
        ..raw("echo", "FP32", &[1, 4], scores)
    };
    let answer = client.model_infer(request).await.unwrap().into_inner();
    assert_eq!((answer.outputs[0].datatype.as_str(), &answer.outputs[0].shape[..]), ("BYTES", &[1, 2][..]));
    assert_eq!(answer.raw_output_contents[0], elements::encode(["2.000000:1", "1.000000:3"]));
}
