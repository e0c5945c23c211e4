//! Updates a configuration to the devices that its model really runs on.

use quintet_engine::Placement;
use quintet_proto::inference::model_instance_group::Kind;

use crate::{
    backend::onnx::Provider,
    repository::{accelerators, spec::SpecDetails},
};

/// Sets the kind of device that the instances really run on in the configuration. If `as_configured`, the configuration
/// selected the devices, and requests that were not met are reported as having no effect.
pub(super) fn settle_kinds(details: &mut SpecDetails, placement: &Placement, as_configured: bool) {
    let on_cpu = is_on_cpu(placement);
    for group in &mut details.config.instance_group {
        let kind = group.kind();
        if on_cpu && kind == Kind::Gpu && as_configured {
            details.without_effect.push(format!("instance_group.kind: KIND_GPU ({})", reason(placement)));
        }
        if on_cpu && kind != Kind::Gpu && !group.gpus.is_empty() {
            details.without_effect.push(format!("instance_group.gpus ({})", reason(placement)));
        }
        if kind == Kind::Auto || (on_cpu && kind == Kind::Gpu) {
            group.set_kind(if on_cpu { Kind::Cpu } else { Kind::Gpu });
        }
        match group.kind() {
            Kind::Cpu => group.gpus.clear(),
            Kind::Gpu if group.gpus.is_empty() => group.gpus.push(0),
            _ => {}
        }
    }
    for (provider, field) in accelerators::asked(&details.config) {
        let is_new = !details.without_effect.contains(&field);
        if as_configured && is_new && placement.provider != provider.name() {
            details.without_effect.push(format!("{field} ({})", reason(placement)));
        }
    }
}

/// Whether a model runs on the CPU, with whatever provider.
pub(super) fn is_on_cpu(placement: &Placement) -> bool {
    match &placement.device {
        Some(device) => device.kind == "CPU",
        None => [Provider::Cpu.name(), "libtorch CPU"].contains(&placement.provider.as_str()),
    }
}

fn reason(placement: &Placement) -> String {
    let why = placement.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("runs on {}{why}", placement.provider)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use quintet_engine::{DataType, TensorSpec};

    use super::*;
    use crate::repository::{ModelSource, complete, parse_config, source::ConfigOrigin};

    #[test]
    fn names_requested_gpus_that_are_not_available() {
        let without_effect = |group: &str| {
            let source = ModelSource {
                name: "m".into(),
                version: 1,
                model_file: PathBuf::new(),
                folder: PathBuf::new(),
                config: parse_config(format!("instance_group {{ {group} }}"), "m").unwrap(),
                config_origin: ConfigOrigin::None,
            };
            let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(3)]);
            let mut details = complete(&source, &[tensor("x")], &[tensor("y")], Some(4)).unwrap();
            let provider = Provider::Cpu.name().to_owned();
            let reason = Some("no GPU".to_owned());
            settle_kinds(&mut details, &Placement { provider, reason, ..Placement::default() }, true);
            let group = &details.config.instance_group[0];
            assert_eq!((group.kind(), group.gpus.is_empty()), (Kind::Cpu, true));
            details.without_effect
        };
        let why = "(runs on CPUExecutionProvider: no GPU)";
        let kind = [format!("instance_group.kind: KIND_GPU {why}")];
        assert_eq!(without_effect("kind: KIND_GPU gpus: [ 0, 1 ]"), kind);
        assert_eq!(without_effect("gpus: [ 0 ]"), [format!("instance_group.gpus {why}")]);
        assert_eq!(without_effect("kind: KIND_CPU gpus: [ 0 ]"), [format!("instance_group.gpus {why}")]);
        assert!(without_effect("kind: KIND_CPU").is_empty());
    }
}
