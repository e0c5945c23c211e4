//! ONNX's protobuf messages, and constructors for those that a ResNet needs.

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod messages {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

use bytes::Bytes;

pub use messages::*;
pub use tensor_proto::DataType;

/// The name of the first dimension of inputs and outputs, which is dynamic.
pub const BATCH: &str = "batch";

/// Operator set 17 and IR version 8 belong together (ONNX 1.12). Every runtime in use reads them, and the models need
/// nothing newer.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// A model with this graph and these metadata entries (key, value).
pub(crate) fn model(graph: GraphProto, metadata: &[(&str, &str)]) -> ModelProto {
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "quintet-models".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: (*key).into(), value: (*value).into() })
            .collect(),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// A node with one output; the node has the output's name.
pub(crate) fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute,
    }
}

/// An attribute of type INT.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: value,
        r#type: attribute_proto::AttributeType::Int.into(),
        ..AttributeProto::default()
    }
}

/// An attribute of type INTS.
pub(crate) fn ints<const N: usize>(name: &str, values: [usize; N]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.iter().map(|value| *value as i64).collect(),
        r#type: attribute_proto::AttributeType::Ints.into(),
        ..AttributeProto::default()
    }
}

/// A constant FP32 tensor.
pub(crate) fn constant(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    let mut raw = Vec::with_capacity(size_of_val(values));
    for value in values {
        raw.extend_from_slice(&value.to_le_bytes());
    }
    tensor(name, DataType::Float, shape, raw)
}

/// A constant tensor of these bytes, little-endian and row-major.
pub(crate) fn tensor(name: &str, data_type: DataType, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|dim| *dim as i64).collect(),
        data_type: data_type.into(),
        name: name.into(),
        raw_data: Bytes::from(raw),
    }
}

/// The elements of a constant FP32 tensor.
pub(crate) fn floats(tensor: &TensorProto) -> Vec<f32> {
    let (elements, _) = tensor.raw_data.as_chunks();
    elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// An FP32 output whose shape is left to the runtime.
pub(crate) fn output_of_any_shape(name: &str) -> ValueInfoProto {
    let tensor_type = type_proto::Tensor { elem_type: DataType::Float.into(), shape: None };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// An input or output of shape `[batch, dims...]`.
pub(crate) fn batched(name: &str, data_type: DataType, dims: &[usize]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let batch = Value::DimParam(BATCH.into());
    let fixed = dims.iter().map(|dim| Value::DimValue(*dim as i64));
    let dim = std::iter::once(batch).chain(fixed).map(|value| Dimension { value: Some(value) }).collect();
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(type_proto::Tensor {
                elem_type: data_type.into(),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}
