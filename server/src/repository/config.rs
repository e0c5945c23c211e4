//! `config.pbtxt`: protobuf's text format to Triton's `ModelConfig`, and that to Triton's JSON.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use quintet_proto::inference::{FILE_DESCRIPTOR_SET, ModelConfig, model_config::SchedulingChoice};

/// A `config.pbtxt` that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the text form of a model configuration.
    #[error("{0}")]
    Syntax(String),
    /// The name differs from the folder's.
    #[error("name is \"{found}\" but the folder is \"{folder}\": make them equal or leave the name out")]
    Name {
        /// The name in the file.
        found: String,
        /// The folder's name.
        folder: String,
    },
    /// A feature whose absence would change answers.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A backend that this server does not have.
    #[error("backend \"{0}\" is not supported: this server runs \"onnxruntime\"")]
    Backend(String),
    /// The file contradicts the model file, or itself.
    #[error("{0}")]
    Contradiction(String),
}

/// The descriptor of `inference.ModelConfig`; `None` only if the build is broken.
static DESCRIPTOR: LazyLock<Option<MessageDescriptor>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok()?.get_message_by_name("inference.ModelConfig"));

fn descriptor() -> Result<MessageDescriptor, ConfigError> {
    DESCRIPTOR.clone().ok_or_else(|| ConfigError::Syntax("the protocol's descriptors are broken".into()))
}

/// Reads the configuration of the model in `folder`.
///
/// # Errors
/// When the text is no model configuration, or asks for what would be served wrongly.
pub fn parse(text: &str, folder: &str) -> Result<ModelConfig, ConfigError> {
    let syntax = |error: &dyn std::fmt::Display| ConfigError::Syntax(error.to_string());
    let message =
        DynamicMessage::parse_text_format(descriptor()?, &with_list_colons(text)).map_err(|error| syntax(&error))?;
    let mut config: ModelConfig = message.transcode_to().map_err(|error| syntax(&error))?;
    if config.name.is_empty() {
        folder.clone_into(&mut config.name);
    } else if config.name != folder {
        return Err(ConfigError::Name { found: config.name, folder: folder.to_owned() });
    }
    refuse_unsupported(&config)?;
    Ok(config)
}

/// Writes `input [ ... ]` as `input: [ ... ]`: protobuf's own parsers, and so all of Triton's examples,
/// leave out the colon in front of a list of messages; prost-reflect insists on it.
fn with_list_colons(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut after_name = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => {
                out.push(c);
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '\n' {
                        break;
                    }
                }
                continue;
            }
            '"' | '\'' => {
                out.push(c);
                while let Some(inner) = chars.next() {
                    out.push(inner);
                    match inner {
                        '\\' => out.extend(chars.next()),
                        inner if inner == c => break,
                        _ => {}
                    }
                }
                after_name = false;
                continue;
            }
            '[' if after_name => out.push(':'),
            _ => {}
        }
        if !c.is_whitespace() {
            after_name = c.is_ascii_alphanumeric() || c == '_';
        }
        out.push(c);
    }
    out
}

fn refuse_unsupported(config: &ModelConfig) -> Result<(), ConfigError> {
    match config.scheduling_choice {
        Some(SchedulingChoice::SequenceBatching(_)) => return Err(ConfigError::Unsupported("sequence_batching")),
        Some(SchedulingChoice::EnsembleScheduling(_)) => return Err(ConfigError::Unsupported("ensemble_scheduling")),
        Some(SchedulingChoice::DynamicBatching(_)) | None => {}
    }
    let reshapes = config.input.iter().any(|input| input.reshape.is_some())
        || config.output.iter().any(|output| output.reshape.is_some());
    let refused = [
        (config.model_transaction_policy.is_some_and(|policy| policy.decoupled), "model_transaction_policy.decoupled"),
        (reshapes, "reshape"),
        (!config.batch_input.is_empty(), "batch_input"),
        (!config.batch_output.is_empty(), "batch_output"),
        (config.input.iter().any(|input| input.allow_ragged_batch), "allow_ragged_batch"),
        (config.input.iter().any(|input| input.optional), "optional inputs"),
    ];
    if let Some((_, what)) = refused.iter().find(|(present, _)| *present) {
        return Err(ConfigError::Unsupported(what));
    }
    match (config.backend.as_str(), config.platform.as_str()) {
        ("onnxruntime", _) | ("", "onnxruntime_onnx" | "") => Ok(()),
        ("", other) | (other, _) => Err(ConfigError::Backend(other.to_owned())),
    }
}

/// Fields that are set but have no effect here, by name: each deserves a warning.
pub(super) fn without_effect(config: &ModelConfig) -> Vec<&'static str> {
    [
        (config.optimization.is_some(), "optimization"),
        (!config.parameters.is_empty(), "parameters"),
        (!config.metric_tags.is_empty(), "metric_tags"),
        (config.response_cache.is_some_and(|cache| cache.enable), "response_cache"),
        (!config.cc_model_filenames.is_empty(), "cc_model_filenames"),
        (config.model_operations.is_some(), "model_operations"),
        (config.model_repository_agents.is_some(), "model_repository_agents"),
    ]
    .into_iter()
    .filter_map(|(present, name)| present.then_some(name))
    .collect()
}

/// The configuration as Triton prints it: protobuf's JSON with the fields' own names, numbers as numbers
/// and defaults spelt out.
pub fn to_json(config: &ModelConfig) -> Result<serde_json::Value, ConfigError> {
    let broken = |error: &dyn std::fmt::Display| ConfigError::Syntax(error.to_string());
    let message =
        DynamicMessage::decode(descriptor()?, config.encode_to_vec().as_slice()).map_err(|error| broken(&error))?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| broken(&error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_and_both_list_forms_are_read() {
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
    fn colons_are_added_where_a_list_follows_a_name_and_nowhere_else() {
        let text = "a [ 1 ] b: [ 2 ] s: \"x [ \\\" y [\" # c [ d\n e\t[ { f: 1 } ]";
        assert_eq!(with_list_colons(text), "a :[ 1 ] b: [ 2 ] s: \"x [ \\\" y [\" # c [ d\n e\t:[ { f: 1 } ]");
    }

    #[test]
    fn what_would_change_answers_is_refused() {
        let refusal = |text: &str| parse(text, "m").unwrap_err().to_string();
        assert_eq!(refusal("sequence_batching { }"), "sequence_batching is not supported");
        assert_eq!(
            refusal("backend: \"python\""),
            "backend \"python\" is not supported: this server runs \"onnxruntime\""
        );
        assert_eq!(
            refusal("name: \"n\""),
            "name is \"n\" but the folder is \"m\": make them equal or leave the name out"
        );
        assert!(refusal("max_batch: 8").contains("max_batch"), "{}", refusal("max_batch: 8"));
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
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text, "m");
        }
    }
}
