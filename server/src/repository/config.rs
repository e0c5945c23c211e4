//! `config.pbtxt`: reads Triton's `ModelConfig` from protobuf's text format, and converts it to and from JSON.

use prost_reflect::DynamicMessage;
use quintet_proto::inference::ModelConfig;

use super::{
    backend::Backend,
    error::ConfigError,
    fields::{self, MESSAGE, descriptor},
    text_format::{self, Positions},
};
use crate::protobuf_json;

/// Reads the configuration of the model in `folder` (its name).
///
/// # Errors
/// When the text is not a model configuration, or uses a feature whose absence would change results.
pub fn parse(text: impl AsRef<[u8]>, folder: &str) -> Result<ModelConfig, ConfigError> {
    let (message, positions) = text_format::parse(text.as_ref(), descriptor()?)?;
    accept(message, folder, &positions)
}

/// Reads the configuration of the model in `folder` from Triton's JSON form, as in a load request.
///
/// # Errors
/// As [`parse`].
pub fn from_json(text: &str, folder: &str) -> Result<ModelConfig, ConfigError> {
    let wrong = |error: serde_json::Error| ConfigError::Json(error.to_string());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor()?, &mut deserializer).map_err(wrong)?;
    deserializer.end().map_err(wrong)?;
    accept(message, folder, &Positions::new())
}

fn accept(message: DynamicMessage, folder: &str, positions: &Positions) -> Result<ModelConfig, ConfigError> {
    let mut config: ModelConfig = message.transcode_to().map_err(|error| ConfigError::Json(error.to_string()))?;
    if config.name.is_empty() {
        folder.clone_into(&mut config.name);
    } else if config.name != folder {
        let at = positions.get("name").copied();
        return Err(ConfigError::Name { at, found: config.name, folder: folder.to_owned() });
    }
    fields::refuse(&config, positions)?;
    check_backend(&config, positions)?;
    Ok(config)
}

fn check_backend(config: &ModelConfig, positions: &Positions) -> Result<(), ConfigError> {
    let at = |field: &str| positions.get(field).copied();
    let (backends, platforms) = Backend::accepted(config);
    for (field, found, served) in [("backend", &config.backend, backends), ("platform", &config.platform, platforms)] {
        if !found.is_empty() && !served.contains(&found.as_str()) {
            return Err(ConfigError::Backend { at: at(field), field, found: found.clone() });
        }
    }
    Ok(())
}

/// The configuration in Triton's JSON form.
pub fn to_json(config: &ModelConfig) -> Result<serde_json::Value, ConfigError> {
    protobuf_json::to_json(MESSAGE, config).map_err(ConfigError::Json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_comments_and_both_list_forms() {
        let config = parse(
            r#"
            # a comment
            backend: "onnxruntime"
            max_batch_size: 8
            input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] }, { name: "y" data_type: TYPE_INT8 dims: 1 dims: 2 } ]
            output { name: "z" data_type: TYPE_STRING dims: [ 1 ] }
            dynamic_batching { max_queue_delay_microseconds: 100 }
            "#,
            "m",
        )
        .unwrap();
        assert_eq!((config.name.as_str(), config.max_batch_size, config.input.len()), ("m", 8, 2));
        assert_eq!((&config.input[0].dims[..], &config.input[1].dims[..]), (&[3, -1][..], &[1, 2][..]));
    }

    #[test]
    fn refuses_fields_whose_absence_would_change_results() {
        let refusals: Vec<_> = [
            "max_batch_size: 8\n  sequence_batching { }",
            "model_transaction_policy { decoupled: true }",
            "input { name: \"x\"\n allow_ragged_batch: true }",
            "ensemble_scheduling { }\ninstance_group { count: 2 }",
            "backend: \"python\"",
            "platform: \"tensorrt_plan\"",
            "name: \"n\"",
            "max_batch: 8",
        ]
        .into_iter()
        .map(|text| parse(text, "m").unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(refusals.join("\n"), @r#"
        2:3: field 'sequence_batching': this server does not support it, and ignoring it would change results
        1:28: field 'model_transaction_policy.decoupled': this server does not support it, and ignoring it would change results
        2:2: field 'input.allow_ragged_batch': this server does not support it, and ignoring it would change results
        2:1: field 'instance_group': an ensemble cannot have it; set it in the configurations of its steps
        1:1: field 'backend': "python" is not supported: this server runs the backends "onnxruntime" (platform "onnxruntime_onnx"), "pytorch" (platform "pytorch_libtorch") and "image", and ensemble_scheduling (platform "ensemble")
        1:1: field 'platform': "tensorrt_plan" is not supported: this server runs the backends "onnxruntime" (platform "onnxruntime_onnx"), "pytorch" (platform "pytorch_libtorch") and "image", and ensemble_scheduling (platform "ensemble")
        1:1: field 'name': it is "n" but the folder is "m": make them equal or leave the name out
        1:1: unknown field 'max_batch'; did you mean 'max_batch_size'?
        "#);
    }

    #[test]
    fn reads_both_spellings_of_json_and_names_unknown_fields() {
        let config = from_json(r#"{"max_batch_size": 4, "input": [{"name": "x", "dataType": "TYPE_FP32"}]}"#, "m");
        assert_eq!(config.unwrap().input[0].data_type, 11);
        let error = from_json(r#"{"max_batch": 4}"#, "m").unwrap_err().to_string();
        assert!(error.contains("max_batch"), "{error}");
        assert!(from_json("{} x", "m").is_err());
    }

    #[test]
    fn json_has_tritons_names_and_defaults() {
        let config = parse("max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 100 }", "m").unwrap();
        let json = to_json(&config).unwrap();
        assert_eq!(json["max_batch_size"], 4);
        assert_eq!(json["dynamic_batching"]["max_queue_delay_microseconds"], 100);
        assert_eq!(json["model_warmup"], serde_json::json!([]));
    }

    proptest! {
        #[test]
        fn arbitrary_json_never_panics(text in "\\PC{0,200}") {
            let _ = from_json(&text, "m");
        }
    }
}
