//! What a model's configuration says of batches, instances and acceleration, in its JSON and its protobuf form.

use quintet_proto::inference::{
    ModelConfig, model_config::SchedulingChoice, model_instance_group::Kind,
    model_optimization_policy::execution_accelerators::Accelerator,
};
use serde_json::Value;

/// The parts of a configuration that matter to a measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Delay of the dynamic batcher, in µs; `None` without one.
    pub max_queue_delay_us: Option<u64>,
    /// Largest batch; 0 if the model takes none.
    pub max_batch: usize,
    /// Names of the inputs that a request may leave out.
    pub optional: Vec<String>,
    /// Instances and accelerators in words; `None` if the configuration names none.
    pub instances: Option<String>,
    /// The precision that it asks of TensorRT.
    pub precision: Option<String>,
    /// CPU threads that run one operator together.
    pub threads: Option<usize>,
}

impl Configuration {
    /// Reads the JSON form; Triton writes 64-bit numbers as numbers, protobuf as strings.
    pub fn from_json(json: &Value) -> Self {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let at = |path: &str| json.pointer(path);
        let list = |path: &str| at(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let optional = list("/input").iter().filter(|input| input["optional"] == true);
        let groups = list("/instance_group").iter().map(|group| {
            let kind = if group["kind"].is_string() { text(group, "kind") } else { "KIND_AUTO".to_owned() };
            (number(&group["count"]).unwrap_or(1), kind)
        });
        let accelerators = "/optimization/execution_accelerators/gpu_execution_accelerator";
        let accelerators = list(accelerators).iter().map(|accelerator| {
            let precision = accelerator.pointer("/parameters/precision_mode").and_then(Value::as_str);
            (text(accelerator, "name"), precision.map(str::to_owned))
        });
        let threads = at("/parameters/intra_op_thread_count/string_value");
        Self {
            max_queue_delay_us: at("/dynamic_batching/max_queue_delay_microseconds").and_then(number),
            max_batch: at("/max_batch_size").and_then(number).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            optional: optional.map(|input| text(input, "name")).collect(),
            threads: threads.and_then(number).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0),
            ..Self::default()
        }
        .with_instances(groups.collect(), accelerators.collect())
    }

    /// Adds instance groups, as number and kind, and accelerators, as name and precision.
    fn with_instances(self, groups: Vec<(u64, String)>, accelerators: Vec<(String, Option<String>)>) -> Self {
        let precision = accelerators.iter().find_map(|(_, precision)| precision.clone());
        let groups = groups.into_iter().map(|(count, kind)| format!("{count} × {kind}"));
        let all: Vec<String> = groups.chain(accelerators.into_iter().map(|(name, _)| name)).collect();
        Self { precision, instances: (!all.is_empty()).then(|| all.join(", ")), ..self }
    }
}

impl From<ModelConfig> for Configuration {
    fn from(config: ModelConfig) -> Self {
        let kind = |kind| Kind::try_from(kind).unwrap_or(Kind::Auto).as_str_name().to_owned();
        let groups = config.instance_group.iter().map(|group| (group.count.max(1) as u64, kind(group.kind)));
        let accelerators = config.optimization.and_then(|optimization| optimization.execution_accelerators);
        let accelerators = accelerators.map_or_else(Vec::new, |all| all.gpu_execution_accelerator);
        let accelerator =
            |Accelerator { name, parameters }: Accelerator| (name, parameters.get("precision_mode").cloned());
        let threads = config.parameters.get("intra_op_thread_count");
        Self {
            max_queue_delay_us: match config.scheduling_choice {
                Some(SchedulingChoice::DynamicBatching(batching)) => Some(batching.max_queue_delay_microseconds),
                _ => None,
            },
            max_batch: usize::try_from(config.max_batch_size).unwrap_or(0),
            optional: config.input.into_iter().filter(|input| input.optional).map(|input| input.name).collect(),
            threads: threads.and_then(|threads| threads.string_value.parse().ok()).filter(|&threads| threads > 0),
            ..Self::default()
        }
        .with_instances(groups.collect(), accelerators.into_iter().map(accelerator).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quintet_proto::inference as pb;

    /// As Triton's documentation has it: TensorRT in ONNX Runtime.
    #[test]
    fn both_forms_say_the_same() {
        let json = serde_json::json!({
            "name": "m", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "max_batch_size": 8,
            "input": [{"name": "x", "optional": false}, {"name": "scale", "optional": true}],
            "instance_group": [{"name": "m_0", "kind": "KIND_GPU", "count": 2, "gpus": [0]}],
            "optimization": {"execution_accelerators": {"gpu_execution_accelerator": [
                {"name": "tensorrt", "parameters": {"precision_mode": "FP16", "max_workspace_size_bytes": "1073741824"}}]}},
            "dynamic_batching": {"max_queue_delay_microseconds": "100"},
            "parameters": {"intra_op_thread_count": {"string_value": "4"}},
        });
        let input = |name: &str, optional| pb::ModelInput { name: name.into(), optional, ..Default::default() };
        let accelerator = Accelerator {
            name: "tensorrt".into(),
            parameters: [("precision_mode".to_owned(), "FP16".to_owned())].into(),
        };
        let config = ModelConfig {
            max_batch_size: 8,
            input: vec![input("x", false), input("scale", true)],
            instance_group: vec![pb::ModelInstanceGroup { kind: Kind::Gpu.into(), count: 2, ..Default::default() }],
            optimization: Some(pb::ModelOptimizationPolicy {
                execution_accelerators: Some(pb::model_optimization_policy::ExecutionAccelerators {
                    gpu_execution_accelerator: vec![accelerator],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            scheduling_choice: Some(SchedulingChoice::DynamicBatching(pb::ModelDynamicBatching {
                max_queue_delay_microseconds: 100,
                ..Default::default()
            })),
            parameters: [("intra_op_thread_count".to_owned(), pb::ModelParameter { string_value: "4".into() })].into(),
            ..Default::default()
        };
        let expected = Configuration {
            max_queue_delay_us: Some(100),
            max_batch: 8,
            optional: vec!["scale".into()],
            instances: Some("2 × KIND_GPU, tensorrt".into()),
            precision: Some("FP16".into()),
            threads: Some(4),
        };
        assert_eq!((Configuration::from_json(&json), Configuration::from(config)), (expected.clone(), expected));
    }

    #[test]
    fn an_empty_configuration_says_nothing() {
        let nothing = Configuration::default();
        assert_eq!(Configuration::from_json(&Value::Null), nothing);
        assert_eq!(Configuration::from(ModelConfig::default()), nothing);
    }
}
