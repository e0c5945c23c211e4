//! What a model's configuration says of batches, instances and acceleration, in its JSON and its protobuf form.

use std::collections::BTreeMap;

use quintet_proto::inference::{
    ModelConfig, ModelInstanceGroup, model_config::SchedulingChoice, model_instance_group::Kind,
    model_optimization_policy::execution_accelerators::Accelerator,
};
use serde_json::Value;

use crate::model::machine::CONVOLUTION_SEARCH;

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
    /// All parameters.
    pub parameters: BTreeMap<String, String>,
    /// What it says of speed, by name ([`crate::model::machine::Machine::settings`]).
    pub settings: BTreeMap<String, String>,
}

/// What both forms of a configuration say.
#[derive(Default)]
struct Parts {
    max_batch: usize,
    optional: Vec<String>,
    /// Delay in µs and preferred sizes of the dynamic batcher; `None` without one.
    dynamic: Option<(u64, Vec<String>)>,
    groups: Vec<Group>,
    accelerators: Vec<(String, BTreeMap<String, String>)>,
    parameters: BTreeMap<String, String>,
}

/// A group of instances.
struct Group {
    /// Instances on each GPU, or of a group on the CPU.
    count: u64,
    kind: String,
    gpus: usize,
}

/// The parameters that change the speed of a model.
const PARAMETERS: [&str; 8] = [
    "arena_extend_strategy",
    CONVOLUTION_SEARCH,
    "do_copy_in_default_stream",
    "enable_mem_pattern",
    "execution_mode",
    "gpu_mem_limit",
    "inter_op_thread_count",
    "intra_op_thread_count",
];

/// The values of [`CONVOLUTION_SEARCH`], which Triton's ONNX Runtime backend takes as numbers.
const SEARCHES: [&str; 3] = ["EXHAUSTIVE", "HEURISTIC", "DEFAULT"];

impl Configuration {
    /// Reads the JSON form; Triton writes 64-bit numbers as numbers, protobuf as strings.
    pub fn from_json(json: &Value) -> Self {
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| -> BTreeMap<String, String> {
            let entries = value.as_object().into_iter().flatten();
            entries.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        let optional = list(&json["input"]).into_iter().filter(|input| input["optional"] == true);
        let batching = json["dynamic_batching"].is_object().then(|| &json["dynamic_batching"]);
        let accelerators = list(&json["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]);
        let parameters = json["parameters"].as_object().into_iter().flatten();
        let group = |group: Value| Group {
            count: number(&group["count"]).unwrap_or(1),
            kind: group["kind"].as_str().unwrap_or(Kind::Auto.as_str_name()).to_owned(),
            gpus: list(&group["gpus"]).len(),
        };
        Parts {
            max_batch: number(&json["max_batch_size"]).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            optional: optional.map(|input| text(&input["name"])).collect(),
            dynamic: batching.map(|it| {
                let sizes =
                    list(&it["preferred_batch_size"]).iter().filter_map(number).map(|n| n.to_string()).collect();
                (number(&it["max_queue_delay_microseconds"]).unwrap_or(0), sizes)
            }),
            groups: list(&json["instance_group"]).into_iter().map(group).collect(),
            accelerators: accelerators.iter().map(|it| (text(&it["name"]), texts(&it["parameters"]))).collect(),
            parameters: parameters.map(|(name, value)| (name.clone(), text(&value["string_value"]))).collect(),
        }
        .into()
    }
}

impl From<ModelConfig> for Configuration {
    fn from(config: ModelConfig) -> Self {
        let group = |group: &ModelInstanceGroup| Group {
            count: u64::try_from(group.count).unwrap_or(0).max(1),
            kind: group.kind().as_str_name().to_owned(),
            gpus: group.gpus.len(),
        };
        let accelerators = config.optimization.and_then(|optimization| optimization.execution_accelerators);
        let accelerators = accelerators.map_or_else(Vec::new, |all| all.gpu_execution_accelerator);
        let accelerator = |Accelerator { name, parameters }: Accelerator| (name, parameters.into_iter().collect());
        Parts {
            max_batch: usize::try_from(config.max_batch_size).unwrap_or(0),
            optional: config.input.into_iter().filter(|input| input.optional).map(|input| input.name).collect(),
            dynamic: match config.scheduling_choice {
                Some(SchedulingChoice::DynamicBatching(batching)) => Some((
                    batching.max_queue_delay_microseconds,
                    batching.preferred_batch_size.iter().map(ToString::to_string).collect(),
                )),
                _ => None,
            },
            groups: config.instance_group.iter().map(group).collect(),
            accelerators: accelerators.into_iter().map(accelerator).collect(),
            parameters: config.parameters.into_iter().map(|(name, it)| (name, it.string_value)).collect(),
        }
        .into()
    }
}

impl From<Parts> for Configuration {
    fn from(parts: Parts) -> Self {
        let Parts { max_batch, optional, dynamic, groups, accelerators, parameters } = parts;
        let mut settings = BTreeMap::from([("max_batch_size".to_owned(), max_batch.to_string())]);
        let batching = match &dynamic {
            Some((delay_us, sizes)) if sizes.is_empty() => format!("delay {delay_us} µs"),
            Some((delay_us, sizes)) => format!("delay {delay_us} µs, preferred sizes {}", sizes.join(" ")),
            None => "off".to_owned(),
        };
        settings.insert("dynamic_batching".into(), batching);
        if !groups.is_empty() {
            let each = |group: &Group| group.count * group.gpus.max(1) as u64;
            settings.insert("instances".into(), groups.iter().map(each).sum::<u64>().to_string());
            let mut kinds: Vec<&str> = groups.iter().map(|group| group.kind.as_str()).collect();
            kinds.dedup();
            // A server that states no more has not said where they are.
            if !kinds.contains(&Kind::Auto.as_str_name()) {
                settings.insert("instance kind".into(), kinds.join(", "));
            }
        }
        for name in PARAMETERS {
            let Some(value) = parameters.get(name) else { continue };
            let search = value.parse::<usize>().ok().and_then(|number| SEARCHES.get(number).copied());
            let value = search.filter(|_| name == CONVOLUTION_SEARCH).unwrap_or(value);
            settings.insert(name.to_owned(), value.to_owned());
        }
        for (accelerator, options) in &accelerators {
            let options = options.iter().filter(|(name, _)| !name.contains("cache"));
            settings.extend(options.map(|(name, value)| (format!("{accelerator}: {name}"), value.clone())));
        }
        let threads = parameters.get("intra_op_thread_count").and_then(|threads| threads.parse().ok());
        let precision = accelerators.iter().find_map(|(_, options)| options.get("precision_mode").cloned());
        let groups = groups.into_iter().map(|group| format!("{} × {}", group.count, group.kind));
        let instances: Vec<String> = groups.chain(accelerators.into_iter().map(|(name, _)| name)).collect();
        Self {
            max_queue_delay_us: dynamic.map(|(delay_us, _)| delay_us),
            max_batch,
            optional,
            instances: (!instances.is_empty()).then(|| instances.join(", ")),
            precision,
            threads: threads.filter(|&threads| threads > 0),
            parameters,
            settings,
        }
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
            parameters: [("precision_mode", "FP16"), ("max_workspace_size_bytes", "1073741824")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
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
            parameters: [("intra_op_thread_count".to_owned(), "4".to_owned())].into(),
            settings: BTreeMap::from(
                [
                    ("max_batch_size", "8"),
                    ("dynamic_batching", "delay 100 µs"),
                    ("instances", "2"),
                    ("instance kind", "KIND_GPU"),
                    ("intra_op_thread_count", "4"),
                    ("tensorrt: precision_mode", "FP16"),
                    ("tensorrt: max_workspace_size_bytes", "1073741824"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
        };
        assert_eq!((Configuration::from_json(&json), Configuration::from(config)), (expected.clone(), expected));
    }

    /// The answer of Triton 2.51.0 to `GET /v2/models/simple_dyn/config`, and that of `quintet-server` on the same repository.
    #[test]
    fn reads_what_servers_answer() {
        let settings = |answer: &str| Configuration::from_json(&serde_json::from_str(answer).unwrap()).settings;
        let triton = settings(include_str!("config/triton-2.51.0.json"));
        insta::assert_debug_snapshot!(triton, @r#"
        {
            "dynamic_batching": "delay 100 µs, preferred sizes 8",
            "instance kind": "KIND_CPU",
            "instances": "1",
            "inter_op_thread_count": "1",
            "intra_op_thread_count": "1",
            "max_batch_size": "8",
        }
        "#);
        assert_eq!(settings(include_str!("config/quintet.json")), triton);
    }

    #[test]
    fn an_empty_configuration_says_nothing() {
        let settings = [("max_batch_size", "0"), ("dynamic_batching", "off")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let nothing = Configuration { settings, ..Configuration::default() };
        assert_eq!(Configuration::from_json(&Value::Null), nothing);
        assert_eq!(Configuration::from(ModelConfig::default()), nothing);
    }
}
