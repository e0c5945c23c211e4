//! The tuning of a model's sessions, and the GPUs of its instances, from its configuration.

use quintet_proto::inference::{ModelConfig, ModelInstanceGroup};

use super::{accelerators, error::ConfigError};
use crate::{
    backend::onnx::{GraphLevel, Tuning},
    image_input, image_output,
};

/// The tuning for a configuration, and the fields that have no effect.
///
/// # Errors
/// When a parameter does not take its value.
pub(super) fn tuning(config: &ModelConfig) -> Result<(Tuning, Vec<String>), ConfigError> {
    let mut tuning = Tuning::default();
    let mut without_effect = Vec::new();
    let optimization = config.optimization.clone().unwrap_or_default();
    if let Some(graph) = optimization.graph {
        tuning.graph_level = match graph.level {
            0 => GraphLevel::All,
            1 => GraphLevel::Extended,
            -1 => GraphLevel::Basic,
            2 => GraphLevel::Off,
            level => return Err(wrong("optimization.graph.level", &format!("takes -1, 0, 1 or 2, not {level}"))),
        };
    }
    let mut parameters: Vec<_> = config.parameters.iter().collect();
    parameters.sort_by_key(|(name, _)| *name);
    for (name, value) in parameters {
        let (field, value) = (format!("parameters[\"{name}\"]"), value.string_value.trim());
        let number = || value.parse().map_err(|_| wrong(&field, &format!("takes a whole number, not '{value}'")));
        match name.as_str() {
            "intra_op_thread_count" => tuning.intra_op_threads = Some(number()?).filter(|&threads| threads > 0),
            "inter_op_thread_count" => tuning.inter_op_threads = Some(number()?).filter(|&threads| threads > 0),
            "execution_mode" => tuning.parallel = flag(&field, value)?,
            "enable_mem_pattern" => tuning.memory_pattern = Some(flag(&field, value)?),
            name if accelerators::CUDA_PARAMETERS.contains(&name) || is_of_images(name) => {}
            _ => without_effect.push(field),
        }
    }
    without_effect.extend(accelerators::tune(config, &mut tuning)?);
    Ok((tuning, without_effect))
}

/// Whether a parameter says how a model takes images, or which output is about them.
pub(super) fn is_of_images(parameter: &str) -> bool {
    image_input::PARAMETERS.contains(&parameter) || image_output::PARAMETERS.contains(&parameter)
}

/// The GPU of each instance, in order; groups without a list of GPUs use the first GPU.
pub(super) fn instance_devices(groups: &[ModelInstanceGroup]) -> Vec<i32> {
    let devices = |group: &ModelInstanceGroup| {
        let gpus = if group.gpus.is_empty() { vec![0] } else { group.gpus.clone() };
        gpus.into_iter().flat_map(|gpu| vec![gpu; group.count.max(1) as usize]).collect::<Vec<_>>()
    };
    groups.iter().flat_map(devices).collect()
}

fn flag(field: &str, value: &str) -> Result<bool, ConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(wrong(field, &format!("takes 0 or 1, not '{value}'"))),
    }
}

fn wrong(field: &str, what: &str) -> ConfigError {
    ConfigError::Contradiction(format!("field '{field}' {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::parse_config;

    fn tuned(text: &str) -> (Tuning, Vec<String>) {
        tuning(&parse_config(text, "m").unwrap()).unwrap()
    }

    #[test]
    fn parameters_tune_the_session_and_unknown_ones_are_named() {
        let (tuning, without_effect) = tuned(
            r#"optimization { graph { level: -1 } }
            parameters { key: "intra_op_thread_count" value { string_value: "2" } }
            parameters { key: "inter_op_thread_count" value { string_value: "0" } }
            parameters { key: "execution_mode" value { string_value: "1" } }
            parameters { key: "enable_mem_arena" value { string_value: "1" } }"#,
        );
        assert_eq!(without_effect, ["parameters[\"enable_mem_arena\"]"]);
        let expected =
            Tuning { graph_level: GraphLevel::Basic, intra_op_threads: Some(2), parallel: true, ..Tuning::default() };
        assert_eq!(tuning, expected);
        let config = parse_config("parameters { key: \"execution_mode\" value { string_value: \"x\" } }", "m").unwrap();
        let error = tuning_error(&config);
        assert_eq!(error, "field 'parameters[\"execution_mode\"]' takes 0 or 1, not 'x'");
    }

    fn tuning_error(config: &ModelConfig) -> String {
        tuning(config).unwrap_err().to_string()
    }

    #[test]
    fn each_gpu_of_a_group_has_its_count() {
        let config = parse_config("instance_group { count: 2 gpus: [ 0, 1 ] } instance_group { kind: KIND_CPU }", "m");
        assert_eq!(instance_devices(&config.unwrap().instance_group), [0, 0, 1, 1, 0]);
    }
}
