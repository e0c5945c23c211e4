//! The table of how each field of a model's configuration is supported: no field is ignored silently.

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value};
use quintet_proto::inference::ModelConfig;

use super::{backend::Backend, error::ConfigError, text_format::Positions};
use crate::protobuf_json;

/// How a field is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldSupport {
    /// It has the same effect as in Triton.
    Honoured,
    /// It depends on the value: the code that reads the field honours it, reports it as having no effect, or rejects
    /// it.
    ByValue,
    /// It has no effect here; a warning at load names it.
    WithoutEffect,
    /// Ignoring it would change results: the configuration is refused.
    Refused,
    /// An ensemble cannot have it: the configuration is refused.
    OfSteps,
}

/// The protobuf message of a configuration.
pub(super) const MESSAGE: &str = "inference.ModelConfig";

/// The descriptor of [`MESSAGE`].
///
/// # Errors
/// Only if the build is broken.
pub(super) fn descriptor() -> Result<MessageDescriptor, ConfigError> {
    protobuf_json::descriptor(MESSAGE).ok_or_else(|| ConfigError::Json("the protocol's descriptors are broken".into()))
}

/// The path of a field, its support (also for the fields inside it), and exceptions by backend.
type Row = (&'static str, FieldSupport, &'static [(Backend, FieldSupport)]);

use Backend::{Ensemble, Image, PyTorch};
use FieldSupport::{ByValue, Honoured, OfSteps, Refused, WithoutEffect};

const NO_FILE: &[(Backend, FieldSupport)] = &[(Ensemble, WithoutEffect), (Image, WithoutEffect)];
const ON_CPU: &[(Backend, FieldSupport)] = &[(Image, WithoutEffect)];
const ONNX_ONLY: &[(Backend, FieldSupport)] =
    &[(Ensemble, WithoutEffect), (Image, WithoutEffect), (PyTorch, WithoutEffect)];

/// The fields for models with instances, which an ensemble does not have.
const OF_STEPS: [&str; 3] = ["instance_group", "optimization", "model_warmup"];

/// Every field of `ModelConfig` is in exactly one row; a test compares the table with the descriptor.
const ROWS: &[Row] = &[
    ("name", Honoured, &[]),
    ("platform", ByValue, &[]),
    ("backend", ByValue, &[]),
    ("runtime", WithoutEffect, &[]),
    ("version_policy", Honoured, &[]),
    ("max_batch_size", Honoured, &[]),
    ("input.name", Honoured, &[]),
    ("input.data_type", Honoured, &[]),
    ("input.format", WithoutEffect, &[]),
    ("input.dims", Honoured, &[]),
    ("input.reshape", Honoured, &[]),
    ("input.is_shape_tensor", Refused, &[]),
    ("input.allow_ragged_batch", Refused, &[]),
    ("input.optional", ByValue, &[]),
    ("input.is_non_linear_format_io", WithoutEffect, &[]),
    ("output.name", Honoured, &[]),
    ("output.data_type", Honoured, &[]),
    ("output.dims", Honoured, &[]),
    ("output.reshape", Honoured, &[]),
    ("output.label_filename", Honoured, &[]),
    ("output.is_shape_tensor", Refused, &[]),
    ("output.is_non_linear_format_io", WithoutEffect, &[]),
    ("batch_input", Refused, &[]),
    ("batch_output", Refused, &[]),
    ("optimization.graph", ByValue, ONNX_ONLY),
    ("optimization.priority", WithoutEffect, &[]),
    ("optimization.cuda.graphs", WithoutEffect, &[]),
    ("optimization.cuda.busy_wait_events", WithoutEffect, &[]),
    ("optimization.cuda.graph_spec", WithoutEffect, &[]),
    ("optimization.cuda.output_copy_stream", WithoutEffect, &[]),
    ("optimization.execution_accelerators", ByValue, ON_CPU),
    ("optimization.input_pinned_memory", ByValue, ON_CPU),
    ("optimization.output_pinned_memory", WithoutEffect, &[]),
    ("optimization.gather_kernel_buffer_threshold", WithoutEffect, &[]),
    ("optimization.eager_batching", WithoutEffect, &[]),
    ("dynamic_batching.preferred_batch_size", Honoured, &[]),
    ("dynamic_batching.max_queue_delay_microseconds", Honoured, &[]),
    ("dynamic_batching.preserve_ordering", Honoured, &[]),
    ("dynamic_batching.priority_levels", Honoured, &[]),
    ("dynamic_batching.default_priority_level", Honoured, &[]),
    ("dynamic_batching.default_queue_policy", Honoured, &[]),
    ("dynamic_batching.priority_queue_policy", Honoured, &[]),
    ("sequence_batching", Refused, &[]),
    ("ensemble_scheduling.step.model_name", Honoured, &[]),
    ("ensemble_scheduling.step.model_version", Honoured, &[]),
    ("ensemble_scheduling.step.input_map", Honoured, &[]),
    ("ensemble_scheduling.step.output_map", Honoured, &[]),
    ("ensemble_scheduling.step.model_namespace", Refused, &[]),
    ("instance_group.name", Honoured, &[]),
    ("instance_group.kind", ByValue, ON_CPU),
    ("instance_group.count", Honoured, &[]),
    ("instance_group.gpus", ByValue, ON_CPU),
    ("instance_group.rate_limiter", WithoutEffect, &[]),
    ("instance_group.secondary_devices", WithoutEffect, &[]),
    ("instance_group.profile", WithoutEffect, &[]),
    ("instance_group.passive", WithoutEffect, &[]),
    ("instance_group.host_policy", WithoutEffect, &[]),
    ("default_model_filename", Honoured, NO_FILE),
    ("cc_model_filenames", WithoutEffect, &[]),
    ("metric_tags", Honoured, &[]),
    ("parameters", ByValue, ONNX_ONLY),
    ("model_warmup", Honoured, &[]),
    ("model_operations", WithoutEffect, &[]),
    ("model_transaction_policy.decoupled", Refused, &[]),
    ("model_repository_agents", WithoutEffect, &[]),
    ("response_cache", ByValue, &[]),
];

/// The support of the field with this path; `None` if the table has rows for the fields inside it instead.
fn support(path: &str, backend: Backend) -> Option<FieldSupport> {
    if backend == Ensemble && OF_STEPS.contains(&path) {
        return Some(OfSteps);
    }
    let (_, support, others) = ROWS.iter().find(|(row, ..)| *row == path)?;
    Some(others.iter().find(|(other, _)| *other == backend).map_or(*support, |(_, support)| *support))
}

/// Refuses fields that cannot be ignored without changing results.
///
/// # Errors
/// The first such field, with its position.
pub(super) fn refuse(config: &ModelConfig, positions: &Positions) -> Result<(), ConfigError> {
    for (path, support) in set(config)? {
        let at = positions.get(&path).copied();
        match support {
            Refused => return Err(ConfigError::Unsupported { at, field: path }),
            OfSteps => return Err(ConfigError::Ensemble { at, field: path }),
            Honoured | ByValue | WithoutEffect => {}
        }
    }
    Ok(())
}

/// Fields that are set but have no effect here, by name.
///
/// # Errors
/// Only if the protocol's descriptors are broken.
pub(super) fn without_effect(config: &ModelConfig) -> Result<Vec<String>, ConfigError> {
    Ok(set(config)?.into_iter().filter(|(_, support)| *support == WithoutEffect).map(|(path, _)| path).collect())
}

/// Every field that is set and has a row, once, with its support; for a map, every key.
fn set(config: &ModelConfig) -> Result<Vec<(String, FieldSupport)>, ConfigError> {
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(config).map_err(|error| ConfigError::Json(error.to_string()))?;
    let mut found = Vec::new();
    collect(&message, "", Backend::of(config), &mut found);
    Ok(found)
}

fn collect(message: &DynamicMessage, within: &str, backend: Backend, found: &mut Vec<(String, FieldSupport)>) {
    for (field, value) in message.fields() {
        let path = if within.is_empty() { field.name().to_owned() } else { format!("{within}.{}", field.name()) };
        let Some(support) = support(&path, backend) else {
            let inner: Vec<_> = match value {
                Value::Message(inner) => vec![inner],
                Value::List(list) => list.iter().filter_map(Value::as_message).collect(),
                _ => Vec::new(),
            };
            inner.into_iter().for_each(|inner| collect(inner, &path, backend, found));
            continue;
        };
        let names = match value {
            Value::Map(map) => keys(map.keys()).into_iter().map(|key| format!("{path}[{key}]")).collect(),
            _ => vec![path],
        };
        for name in names {
            if found.iter().all(|(known, _)| *known != name) {
                found.push((name, support));
            }
        }
    }
}

/// The keys of a map, in order.
fn keys<'a>(keys: impl Iterator<Item = &'a MapKey>) -> Vec<String> {
    let print = |key: &MapKey| match key {
        MapKey::String(key) => format!("{key:?}"),
        MapKey::U64(key) => key.to_string(),
        other => format!("{other:?}"),
    };
    let mut keys: Vec<_> = keys.map(print).collect();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use prost_reflect::{FieldDescriptor, Kind as FieldKind, MessageDescriptor};
    use quintet_proto::inference::model_config;

    use super::*;

    /// A field with the fields around it.
    type Path = Vec<FieldDescriptor>;

    fn name(path: &Path) -> String {
        path.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".")
    }

    /// Every field without fields inside it, and every map, each with the path to it.
    fn leaves(message: &MessageDescriptor, within: &Path, found: &mut Vec<Path>) {
        for field in message.fields() {
            let path: Path = within.iter().cloned().chain([field.clone()]).collect();
            match field.kind() {
                FieldKind::Message(inner) if !field.is_map() && inner.fields().len() > 0 => {
                    leaves(&inner, &path, found);
                }
                _ => found.push(path),
            }
        }
    }

    fn all_leaves() -> Vec<Path> {
        let mut found = Vec::new();
        leaves(&descriptor().unwrap(), &Vec::new(), &mut found);
        found
    }

    /// The rows that a field is in.
    fn rows(path: &str) -> Vec<&'static Row> {
        ROWS.iter().filter(|(row, ..)| path == *row || path.starts_with(&format!("{row}."))).collect()
    }

    #[test]
    fn every_field_is_in_one_row_and_every_row_is_a_field() {
        let all: Vec<_> = all_leaves().iter().map(name).collect();
        assert!(all.len() > 100, "{}", all.len());
        for path in &all {
            let rows: Vec<_> = rows(path).into_iter().map(|(row, ..)| row).collect();
            assert_eq!(rows.len(), 1, "'{path}' must be in one row of the table but is in {rows:?}");
        }
        for (row, ..) in ROWS {
            let is_field = all.iter().any(|path| path == row || path.starts_with(&format!("{row}.")));
            assert!(is_field, "there is no field '{row}'");
        }
    }

    /// A value that is not the default.
    fn sample(field: &FieldDescriptor) -> Value {
        let one = match field.kind() {
            FieldKind::Bool => Value::Bool(true),
            FieldKind::String => Value::String("a".into()),
            FieldKind::Int32 => Value::I32(1),
            FieldKind::Int64 => Value::I64(1),
            FieldKind::Uint32 => Value::U32(1),
            FieldKind::Uint64 => Value::U64(1),
            FieldKind::Float => Value::F32(1.0),
            FieldKind::Enum(_) => Value::EnumNumber(1),
            FieldKind::Message(inner) if field.is_map() => {
                let key = match inner.map_entry_key_field().kind() {
                    FieldKind::String => MapKey::String("a".into()),
                    _ => MapKey::U64(1),
                };
                return Value::Map([(key, sample(&inner.map_entry_value_field()))].into());
            }
            FieldKind::Message(inner) => Value::Message(DynamicMessage::new(inner)),
            other => panic!("{other:?}"),
        };
        if field.is_list() { Value::List(vec![one]) } else { one }
    }

    /// A configuration with only this field set; a list has one element.
    fn only(path: &[FieldDescriptor]) -> DynamicMessage {
        let [field, rest @ ..] = path else { panic!("an empty path") };
        let mut message = DynamicMessage::new(field.parent_message().clone());
        let value = match rest {
            [] => sample(field),
            rest if field.is_list() => Value::List(vec![Value::Message(only(rest))]),
            rest => Value::Message(only(rest)),
        };
        message.set_field(field, value);
        message
    }

    /// A configuration with only this field set, and the fields that select the backend.
    fn config_for(backend: Backend, path: &Path) -> ModelConfig {
        let mut config: ModelConfig = only(path).transcode_to().unwrap();
        match backend {
            Backend::OnnxRuntime => {}
            Backend::PyTorch => config.backend = "pytorch".to_owned(),
            Backend::Image => config.backend = "image".to_owned(),
            Backend::Ensemble if config.scheduling_choice.is_none() => {
                config.scheduling_choice = Some(model_config::SchedulingChoice::EnsembleScheduling(Default::default()));
            }
            Backend::Ensemble => {}
        }
        config
    }

    #[test]
    fn every_field_is_treated_as_its_row_says() {
        let mut seen = Vec::new();
        for path in all_leaves() {
            let name = name(&path);
            let [(row, ..)] = rows(&name)[..] else { panic!("{name}") };
            for backend in [Backend::OnnxRuntime, Backend::PyTorch, Backend::Image, Backend::Ensemble] {
                let config = config_for(backend, &path);
                // A scheduling choice determines whether the model is an ensemble.
                if Backend::of(&config) != backend {
                    continue;
                }
                let outermost = path[0].name();
                let (row, support) = match support(outermost, backend) {
                    Some(support) => (outermost, support),
                    None => (*row, support(row, backend).unwrap()),
                };
                let warned = without_effect(&config).unwrap();
                let refusal = refuse(&config, &Positions::new()).err().map(|error| error.to_string());
                let message = |text: &str| Some(format!("field '{row}': {text}"));
                let (warns, wanted) = match support {
                    Honoured | ByValue => (false, None),
                    WithoutEffect => (true, None),
                    Refused => {
                        (false, message("this server does not support it, and ignoring it would change results"))
                    }
                    OfSteps => {
                        (false, message("an ensemble cannot have it; set it in the configurations of its steps"))
                    }
                };
                let names_row = |field: &String| field == row || field.starts_with(&format!("{row}["));
                assert_eq!(
                    warned.iter().filter(|field| names_row(field)).count(),
                    usize::from(warns),
                    "{name}: {warned:?}"
                );
                assert_eq!(refusal, wanted, "{name} of {backend:?}");
                seen.push(support);
            }
        }
        assert!([Honoured, ByValue, WithoutEffect, Refused, OfSteps].iter().all(|support| seen.contains(support)));
    }
}
