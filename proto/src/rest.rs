//! JSON messages of KServe v2 over HTTP, with Triton's parameters.
//!
//! Requests borrow from the body: a tensor's `data` stays unparsed text ([`RawValue`]) until its
//! element type is known. Field names are the protocol's.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Parameters of a request, a tensor or a response; values keep their JSON type.
pub type Parameters = BTreeMap<String, serde_json::Value>;

/// Body (or JSON part) of `POST /v2/models/{model}/infer`.
#[derive(Debug, Serialize, Deserialize)]
pub struct InferRequest<'a> {
    /// Echoed in the response.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// `priority`, `timeout` (µs), `binary_data_output`, and the client's own.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The input tensors.
    #[serde(borrow)]
    pub inputs: Vec<InferInput<'a>>,
    /// The requested outputs; all outputs if omitted.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<RequestedOutput<'a>>>,
}

/// One input tensor of an [`InferRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub struct InferInput<'a> {
    /// The input's name in the model.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Dimensions, the batch first.
    pub shape: Vec<i64>,
    /// KServe name of the element type.
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    /// `binary_data_size` if the data follows the JSON.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The elements as JSON, nested or flat.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
}

/// One requested output of an [`InferRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestedOutput<'a> {
    /// The output's name in the model.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// `binary_data`, `classification`.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}

/// Body (or JSON part) of an inference response.
#[derive(Debug, Serialize, Deserialize)]
pub struct InferResponse<'a> {
    /// The request's id, if it had one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// The model that answered.
    #[serde(borrow)]
    pub model_name: Cow<'a, str>,
    /// Its version.
    #[serde(borrow)]
    pub model_version: Cow<'a, str>,
    /// The output tensors.
    #[serde(borrow)]
    pub outputs: Vec<InferOutput<'a>>,
}

/// One output tensor of an [`InferResponse`].
#[derive(Debug, Serialize, Deserialize)]
pub struct InferOutput<'a> {
    /// The output's name in the model.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// KServe name of the element type.
    #[serde(borrow)]
    pub datatype: Cow<'a, str>,
    /// Dimensions, the batch first.
    pub shape: Vec<i64>,
    /// `binary_data_size` if the data follows the JSON.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The elements as flat JSON.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Cow<'a, RawValue>>,
}

/// Response to `GET /v2`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// Name of the server.
    pub name: String,
    /// Version of the server.
    pub version: String,
    /// Supported protocol extensions.
    pub extensions: Vec<String>,
}

/// Response to `GET /v2/models/{model}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// Name of the model.
    pub name: String,
    /// Versions that are served.
    pub versions: Vec<String>,
    /// `onnxruntime_onnx` for ONNX models.
    pub platform: String,
    /// Inputs, in the model's order.
    pub inputs: Vec<TensorMetadata>,
    /// Outputs, in the model's order.
    pub outputs: Vec<TensorMetadata>,
}

/// One tensor of a [`ModelMetadata`].
#[derive(Debug, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// Name of the tensor.
    pub name: String,
    /// KServe name of the element type.
    pub datatype: String,
    /// Dimensions, the batch first if the model batches; -1 is a dynamic one.
    pub shape: Vec<i64>,
    /// For inputs: whether a request may omit it. (Not part of KServe, so it is only present if true.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Body of every error.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error message.
    pub error: String,
}
