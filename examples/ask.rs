//! Asks a KServe lane about a photograph over gRPC, with the file as it is.
//!
//! ```sh
//! cargo run -p quintet-proto --example ask -- photos/coffee.jpg http://localhost:8011 resnet18
//! ```
//!
//! Outside of this workspace, `tonic` makes the same client of `proto/proto/grpc_service.proto`.
#![allow(clippy::print_stdout, reason = "the answer is the result")]

use std::{collections::HashMap, env, fs};

use anyhow::Context as _;
use quintet_proto::{
    elements,
    inference::{
        InferParameter, ModelInferRequest,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    },
};
use tonic::transport::Endpoint;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let photograph = arguments.next().context("usage: ask PHOTOGRAPH [ADDRESS] [MODEL]")?;
    let address = arguments.next().unwrap_or_else(|| "http://localhost:8011".into());
    let model_name = arguments.next().unwrap_or_else(|| "resnet18".into());

    // One element of type BYTES: the server decodes and prepares the photograph. A tensor is the same with the datatype
    // "FP32", the shape [1, 3, 224, 224] and the little-endian bytes of its elements.
    let encoded = fs::read(&photograph).context(photograph)?;
    let input =
        InferInputTensor { name: "image".into(), datatype: "BYTES".into(), shape: vec![1], ..Default::default() };
    // The three likeliest classes in place of all logits.
    let three = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(3)) };
    let output = InferRequestedOutputTensor {
        name: "logits".into(),
        parameters: HashMap::from([("classification".into(), three)]),
    };
    let request = ModelInferRequest {
        model_name,
        inputs: vec![input],
        outputs: vec![output],
        raw_input_contents: vec![elements::encode([encoded])],
        ..Default::default()
    };

    let channel = Endpoint::from_shared(address)?.connect().await?;
    let mut client = GrpcInferenceServiceClient::new(channel);
    let answer = client.model_infer(request).await?.into_inner();
    let classes = answer.raw_output_contents.first().context("the answer has no output")?;
    for class in elements::iter(classes) {
        // SCORE:INDEX:LABEL
        println!("{}", String::from_utf8_lossy(class?));
    }
    Ok(())
}
