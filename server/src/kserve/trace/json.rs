//! Formats a trace as Triton's JSON: the request, its timestamps, its tensors.

use std::fmt::Write as _;

use quintet_proto::{Float, Integer, Number, Visitor, elements};
use serde_json::{Value, json};

use super::{
    clock::Clock,
    record::{Record, TracedTensor},
};

/// The entries of a trace and of its steps in Triton's file, one per line. Times are UNIX time in nanoseconds.
pub(super) fn entries(record: &Record, clock: Clock) -> String {
    let id = record.id;
    let mut head = json!({"id": id, "model_name": record.model, "model_version": record.version});
    if !record.request_id.is_empty() {
        head["request_id"] = record.request_id.as_str().into();
    }
    if record.parent_id > 0 {
        head["parent_id"] = record.parent_id.into();
    }
    let mut entries = vec![head];
    if !record.stamps.is_empty() {
        let stamp = record.stamps.iter().map(|stamp| json!({"name": stamp.name, "ns": clock.ns(stamp.at)}));
        entries.push(json!({"id": id, "timestamps": stamp.collect::<Value>()}));
    }
    entries.extend(record.tensors.iter().map(|traced| tensor_entry(id, traced)));
    let lines = entries.iter().map(Value::to_string);
    lines.chain(record.steps.iter().map(|step| self::entries(step, clock))).collect::<Vec<_>>().join(",\n")
}

fn tensor_entry(id: u64, traced: &TracedTensor) -> Value {
    let TracedTensor { activity, name, tensor } = traced;
    let dims: Vec<_> = tensor.shape().dims().iter().map(ToString::to_string).collect();
    json!({
        "id": id,
        "activity": activity,
        "tensor": {"name": name, "data": tensor.data_type().visit(Elements(tensor.data())), "shape": dims.join(","), "dtype": tensor.data_type().name()},
    })
}

/// Formats elements with commas between them. Strings are in quotes; bytes that are not UTF-8 are replaced.
struct Elements<'a>(&'a [u8]);

impl Elements<'_> {
    fn numbers<T: Number>(self) -> String {
        let mut out = String::with_capacity(self.0.len() / size_of::<T>() * 4);
        for number in T::read(self.0) {
            if !out.is_empty() {
                out.push(',');
            }
            // Writing to a String does not fail.
            let _ = write!(out, "{number}");
        }
        out
    }
}

impl Visitor for Elements<'_> {
    type Output = String;

    fn integer<T: Integer>(self) -> String {
        self.numbers::<T>()
    }
    fn float<T: Float>(self) -> String {
        self.numbers::<T>()
    }
    fn boolean(self) -> String {
        self.0.iter().map(|&byte| if byte == 0 { "0" } else { "1" }).collect::<Vec<_>>().join(",")
    }
    fn bytes(self) -> String {
        let quoted = elements::iter(self.0).flatten();
        quoted.map(|element| format!("\"{}\"", String::from_utf8_lossy(element))).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quintet_engine::{DataType, Shape, Tensor};

    use super::*;

    #[test]
    fn formats_tensors_of_every_kind() {
        let printed = |data_type, dims: &[usize], bytes: Bytes| {
            let tensor = Tensor::new(data_type, Shape::new(dims.to_vec()), bytes).unwrap();
            tensor_entry(7, &TracedTensor { activity: "TENSOR_QUEUE_INPUT", name: "x".into(), tensor })["tensor"]
                .to_string()
        };
        let floats: Vec<u8> = [0.1f32, -2.0, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
        let halves: Vec<u8> =
            [0.5f32, 3.0].iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
        let all = [
            printed(DataType::Fp32, &[1, 3], floats.into()),
            printed(DataType::Fp16, &[2], halves.into()),
            printed(DataType::Int8, &[2], vec![1, 0xff].into()),
            printed(DataType::Bool, &[2], vec![1, 0].into()),
            printed(DataType::Bytes, &[2], elements::encode(["a\"b", ""])),
            printed(DataType::Int64, &[0], Bytes::new()),
        ];
        insta::assert_snapshot!(all.join("\n"), @r#"
        {"data":"0.1,-2,NaN","dtype":"FP32","name":"x","shape":"1,3"}
        {"data":"0.5,3","dtype":"FP16","name":"x","shape":"2"}
        {"data":"1,-1","dtype":"INT8","name":"x","shape":"2"}
        {"data":"1,0","dtype":"BOOL","name":"x","shape":"2"}
        {"data":"\"a\"b\",\"\"","dtype":"BYTES","name":"x","shape":"2"}
        {"data":"","dtype":"INT64","name":"x","shape":"0"}
        "#);
    }
}
