//! Writes models that compute almost nothing, to measure the overhead around a model.
//!
//! `identity` returns its input. `head` returns the first 1000 elements of each row, as many as a classifier returns.
//! `scaled` has an optional input, and `aliases` has outputs that are inputs, or other outputs under another name.

use std::{fs, io, path::Path};

use prost::Message as _;

use crate::{
    atomic,
    onnx::{self, BATCH, DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto},
    repository::MODEL_FILE,
};

/// Elements of a row that `head` returns.
const HEAD: i64 = 1000;

/// ONNX's number of the type STRING, which no other model here has.
const STRING: i32 = 8;

/// The factor of `scaled` if the request has none.
pub const DEFAULT_FACTOR: f32 = 2.0;

/// Writes `identity` and `head` into the model repository `root`. Input `x` and output `y` are FP32 rows of any width,
/// or of `width` elements, in batches of up to 32. With a fixed width a server knows the size of the output.
///
/// # Errors
/// When a file cannot be written.
pub fn write(root: &Path, width: Option<u32>) -> io::Result<()> {
    let identity = onnx::node("Identity", &["x"], "y", Vec::new());
    let slice = onnx::node("Slice", &["x", "from", "to", "axis"], "y", Vec::new());
    let bounds = [integer("from", 0), integer("to", HEAD), integer("axis", 1)];
    let width = width.map(i64::from);
    let models = [
        ("identity", identity, Vec::new(), width),
        ("head", slice, bounds.to_vec(), width.map(|width| width.min(HEAD))),
    ];
    for (name, node, constants, output_width) in models {
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        atomic::write(&folder.join(MODEL_FILE), &model(name, node, constants))?;
        atomic::write(&folder.join("config.pbtxt"), config(name, width, output_width).as_bytes())?;
    }
    Ok(())
}

fn model(name: &str, node: NodeProto, initializer: Vec<TensorProto>) -> Vec<u8> {
    let graph = GraphProto {
        name: name.into(),
        node: vec![node],
        initializer,
        input: vec![rows("x")],
        output: vec![rows("y")],
    };
    onnx::model(graph, &[]).encode_to_vec()
}

/// Writes `scaled` into the model repository `root`: output `y` is input `x` (FP32 rows of any width, in batches of up
/// to 8) times the optional input `factor` (FP32 `[1]` for each row), [`DEFAULT_FACTOR`] by default.
///
/// # Errors
/// When a file cannot be written.
pub fn write_scaled(root: &Path) -> io::Result<()> {
    let folder = root.join("scaled");
    fs::create_dir_all(&folder)?;
    let graph = GraphProto {
        name: "scaled".into(),
        node: vec![onnx::node("Mul", &["x", "factor"], "y", Vec::new())],
        // The initializer is the default of the input with the same name.
        initializer: vec![onnx::constant("factor", &[1, 1], &[DEFAULT_FACTOR])],
        input: vec![rows("x"), onnx::batched("factor", DataType::Float, &[1])],
        output: vec![rows("y")],
    };
    atomic::write(&folder.join(MODEL_FILE), &onnx::model(graph, &[]).encode_to_vec())?;
    let config = "name: \"scaled\"
max_batch_size: 8
dynamic_batching { }
input [
  { name: \"x\" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: \"factor\" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
]
output { name: \"y\" data_type: TYPE_FP32 dims: [ -1 ] }
";
    atomic::write(&folder.join("config.pbtxt"), config.as_bytes())
}

/// Writes `name` into the model repository `root`, with `config` for its `config.pbtxt`: output `y` is input `x`, of the type
/// that ONNX gives the number `data_type`, and of these dimensions, of which `None` is dynamic. Without `dims`, the file does
/// not say how many there are.
///
/// # Errors
/// When a file cannot be written.
pub fn write_identity(
    root: &Path,
    name: &str,
    data_type: i32,
    dims: Option<&[Option<i64>]>,
    config: &str,
) -> io::Result<()> {
    use onnx::{
        TensorShapeProto, TypeProto,
        tensor_shape_proto::{Dimension, dimension::Value},
        type_proto::Tensor,
    };
    let dim = |dim: &Option<i64>| Dimension { value: dim.map(Value::DimValue) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type: Some(Tensor { elem_type: data_type, shape: shape.clone() }) }),
    };
    let graph = GraphProto {
        name: name.into(),
        node: vec![onnx::node("Identity", &["x"], "y", Vec::new())],
        initializer: Vec::new(),
        input: vec![tensor("x")],
        output: vec![tensor("y")],
    };
    let folder = root.join(name);
    fs::create_dir_all(&folder)?;
    atomic::write(&folder.join(MODEL_FILE), &onnx::model(graph, &[]).encode_to_vec())?;
    atomic::write(&folder.join("config.pbtxt"), config.as_bytes())
}

/// Outputs of `aliases` that are the input `x`, or that ONNX Runtime may take for it.
pub const SAME: [&str; 5] = ["x", "same", "same_too", "dropped", "reshaped"];

/// Outputs of `aliases` that are `-x`, under several names.
pub const NEGATED: [&str; 4] = ["negated", "negated_too", "negated_three", "negated_reshaped"];

/// Writes `aliases` into the model repository `root`, with `config` for its `config.pbtxt`: [`SAME`] and [`NEGATED`] of
/// input `x` (FP32, `[batch, any]`). With `has_more`, inputs `text` (BYTES, `[batch, any]`) and `factor` (FP32 `[1,1]`,
/// optional) are outputs, too, and so is the constant `constant`, which is [`DEFAULT_FACTOR`].
///
/// # Errors
/// When a file cannot be written.
pub fn write_aliases(root: &Path, config: &str, has_more: bool) -> io::Result<()> {
    let folder = root.join("aliases");
    fs::create_dir_all(&folder)?;
    let node = |kind, input, output| onnx::node(kind, &[input], output, Vec::new());
    let reshape = |input, output| onnx::node("Reshape", &[input, "as_it_is"], output, Vec::new());
    let mut graph = GraphProto {
        name: "aliases".into(),
        node: vec![
            node("Identity", "x", "same"),
            node("Identity", "x", "same_too"),
            node("Dropout", "x", "dropped"),
            reshape("x", "reshaped"),
            node("Neg", "x", "negated"),
            node("Identity", "negated", "negated_too"),
            node("Identity", "negated", "negated_three"),
            reshape("negated", "negated_reshaped"),
        ],
        // In a shape, 0 stands for the dimension that is there.
        initializer: vec![TensorProto {
            dims: vec![2],
            data_type: DataType::Int64.into(),
            name: "as_it_is".into(),
            raw_data: vec![0; 16].into(),
        }],
        input: vec![rows("x")],
        output: SAME.into_iter().chain(NEGATED).map(rows).collect(),
    };
    if has_more {
        let text = || {
            let mut info = rows("text");
            if let Some(tensor) = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
                tensor.elem_type = STRING;
            }
            info
        };
        graph.initializer.push(onnx::constant("factor", &[1, 1], &[DEFAULT_FACTOR]));
        graph.initializer.push(onnx::constant("constant", &[1, 1], &[DEFAULT_FACTOR]));
        graph.input.extend([text(), onnx::batched("factor", DataType::Float, &[1])]);
        graph.output.extend([text(), rows("factor"), rows("constant")]);
    }
    atomic::write(&folder.join(MODEL_FILE), &onnx::model(graph, &[]).encode_to_vec())?;
    atomic::write(&folder.join("config.pbtxt"), config.as_bytes())
}

/// FP32 `[batch, any]`.
fn rows(name: &str) -> ValueInfoProto {
    use onnx::tensor_shape_proto::{Dimension, dimension::Value};
    let mut info = onnx::batched(name, DataType::Float, &[]);
    if let Some(shape) = info.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()?.shape.as_mut()) {
        debug_assert_eq!(shape.dim[0].value, Some(Value::DimParam(BATCH.into())));
        shape.dim.push(Dimension { value: Some(Value::DimParam(format!("{name}_width"))) });
    }
    info
}

fn integer(name: &str, value: i64) -> TensorProto {
    TensorProto {
        dims: vec![1],
        data_type: DataType::Int64.into(),
        name: name.into(),
        raw_data: value.to_le_bytes().to_vec().into(),
    }
}

fn config(name: &str, input_width: Option<i64>, output_width: Option<i64>) -> String {
    let rows = |name, width: Option<i64>| {
        format!("[{{ name: \"{name}\" data_type: TYPE_FP32 dims: [ {} ] }}]", width.unwrap_or(-1))
    };
    format!(
        "name: \"{name}\"\nbackend: \"onnxruntime\"\nmax_batch_size: 32\ninput {}\noutput {}\n",
        rows("x", input_width),
        rows("y", output_width)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_identity_and_head_with_their_configuration() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), None).unwrap();
        for name in ["identity", "head"] {
            let model = fs::read(root.path().join(name).join(MODEL_FILE)).unwrap();
            let model = onnx::ModelProto::decode(&model[..]).unwrap();
            let graph = model.graph.unwrap();
            assert_eq!((graph.name.as_str(), graph.node[0].output[0].as_str()), (name, "y"));
            let shape = graph.input[0].r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
            assert_eq!(shape.dim.len(), 2);
        }
        let config = fs::read_to_string(root.path().join("identity/config.pbtxt")).unwrap();
        assert!(config.contains("input [{ name: \"x\" data_type: TYPE_FP32 dims: [ -1 ] }]"), "{config}");
        write(root.path(), Some(2000)).unwrap();
        let config = fs::read_to_string(root.path().join("head/config.pbtxt")).unwrap();
        assert!(config.contains("TYPE_FP32 dims: [ 2000 ]") && config.contains("TYPE_FP32 dims: [ 1000 ]"), "{config}");
    }
}
