//! `config.pbtxt`: read, written as JSON and read again, then checked against a model's tensors.

use std::path::PathBuf;

use quintet_engine::{DataType, TensorSpec};
use quintet_server::repository::{ConfigOrigin, ModelSource, complete, config_from_json, config_to_json, parse_config};

pub(crate) fn run(bytes: &[u8]) {
    // The JSON form comes over the wire.
    let read = match bytes.first() {
        Some(b'{') => std::str::from_utf8(bytes).ok().and_then(|text| config_from_json(text, "m").ok()),
        _ => match parse_config(bytes, "m") {
            Ok(config) => Some(config),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                None
            }
        },
    };
    let Some(mut config) = read else { return };
    match config_to_json(&config) {
        Ok(json) => match config_from_json(&json.to_string(), "m") {
            // NaN is not equal to itself.
            Ok(same) => assert!(same == config || format!("{config:?}").contains("NaN"), "JSON changes it: {json}"),
            Err(error) => unreachable!("its own JSON is refused: {error}\n{json}"),
        },
        Err(error) => unreachable!("it has no JSON: {error}"),
    }
    // Labels are read from the disk of the machine that fuzzes.
    config.output.iter_mut().for_each(|output| output.label_filename.clear());
    let tensor = |name: &str, dims: [Option<usize>; 2]| TensorSpec::new(name, DataType::Fp32, dims);
    let (inputs, outputs) = ([tensor("x", [None, Some(4)])], [tensor("y", [None, None])]);
    let folder = PathBuf::from("m");
    let source = ModelSource {
        name: "m".into(),
        version: 1,
        model_file: folder.join("1/model.onnx"),
        folder,
        config,
        config_origin: ConfigOrigin::None,
    };
    for auto_complete in [Some(4), None] {
        if let Ok(details) = complete(&source, &inputs, &outputs, auto_complete) {
            assert!(details.spec.inputs().len() <= 1 && details.spec.outputs().len() <= 1, "tensors that it has not");
        }
    }
}
