//! A model found on disk becomes one in service: sessions, checks, warm-up.

use std::{path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, anyhow};
use quintet_engine::{Cache, Model, Placement, TensorSpec};
use quintet_onnxruntime::Loaded;
use quintet_proto::inference::{ModelConfig, model_config::SchedulingChoice, model_instance_group::Kind};

use super::{
    ModelSource,
    accelerators::{self, Wanted},
    builtin,
    open::{self, Opened},
    spec::{SpecDetails, complete},
    tuning, warmup,
};
use crate::backend::{
    image,
    onnx::{self, EngineCache, LoadOptions, Provider, ProviderPolicy, Tuning},
};
use crate::service::Service;

/// How the models of a repository are loaded.
pub struct Loader {
    /// ONNX Runtime, with the process's one environment, which owns the thread pool.
    pub library: &'static Loaded,
    /// Providers to try, in order; `None` is what each model's configuration asks for.
    pub providers: Option<Vec<Provider>>,
    /// Whether a model may run on another provider than the first. Of those that a configuration asks for,
    /// only one that it names is held to this.
    pub policy: ProviderPolicy,
    /// Where TensorRT keeps its engines.
    pub engine_cache: Option<EngineCache>,
    /// Weights or TorchScript that libtorch serves in the place of the model files, which only say what goes in and
    /// out.
    pub weights: Option<PathBuf>,
    /// Largest batch of a model without a configuration that can batch; `None` completes nothing.
    pub auto_complete: Option<i32>,
    /// Where answers are kept of models that ask for it; `None` keeps none.
    pub response_cache: Option<Arc<Cache>>,
}

impl Loader {
    /// Loads and warms a model for `service`. Blocks.
    ///
    /// # Errors
    /// When the model cannot be loaded, does not fit its configuration, or fails its warm-up.
    pub fn load(&self, source: &ModelSource, service: &Arc<Service>) -> anyhow::Result<(Model, ModelConfig)> {
        let started = Instant::now();
        let in_config = || source.config_path().display().to_string();
        if !needs_file(&source.config) {
            return builtin::load(source, self, service, started).with_context(in_config);
        }
        let (pool, service) = (service.pool(), service.name());
        let pins = source.config.optimization.as_ref().and_then(|it| it.input_pinned_memory);
        let options = LoadOptions {
            library: self.library,
            providers: self.allowed_providers(&source.config),
            engine_cache: self.engine_cache.clone(),
        };
        let (mut tuning, _) = tuning::tuning(&source.config).with_context(in_config)?;
        tuning.profile = accelerators::profile(&source.config, self.auto_complete);
        if self.providers.is_some() {
            // In Triton's place the precision is Triton's default, the model's own.
            tuning.tensorrt.prefer_fp16();
        }
        let devices = tuning::instance_devices(&source.config.instance_group);
        let tuning_of = |index: usize| Tuning { device: devices.get(index).copied().unwrap_or(0), ..tuning.clone() };

        let listed = open::is_pytorch(&source.config).then(|| open::listed_tensors(&source.config)).transpose();
        let listed = listed.with_context(in_config)?;
        let open = |index: usize| {
            let (file, tuning) = (&source.model_file, tuning_of(index));
            match &listed {
                Some(tensors) => open::torch(file, tensors.clone(), &options.providers, tuning.device),
                None => onnx::load(file, &options, &tuning).map(Opened::Onnx).map_err(|error| match self.policy {
                    ProviderPolicy::Strict if options.providers != [Provider::Cpu] => {
                        anyhow!("{error} (--provider-policy strict: no other provider may run it)")
                    }
                    _ => error.into(),
                }),
            }
        };
        let first = open(0)?;
        let mut details =
            complete(source, first.inputs(), first.outputs(), self.auto_complete).with_context(in_config)?;
        let placement = first.placement();
        let device = tuning_of(0).device;
        if placement.provider == Provider::Cpu.name() {
            details.without_effect.extend(pins.map(|_| "optimization.input_pinned_memory (runs on the CPU)".into()));
        } else if pins.is_none_or(|pins| pins.enable) {
            match onnx::pinned(&self.library.environment, device, pool.max_idle_bytes()) {
                Ok(source) => pool.set_source(source),
                Err(reason) => {
                    tracing::warn!(
                        service = service.as_str(),
                        reason,
                        "no page-locked memory; requests come into plain memory"
                    )
                }
            }
        }
        settle_kinds(&mut details, &placement, self.providers.is_none());
        let cache = self.cache_of(&mut details);
        details.warn(service, &source.name);
        let samples = warmup::samples(&details.config, &details.spec, &source.folder).with_context(in_config)?;
        let mut opened = Vec::new();
        match &self.weights {
            Some(weights) => {
                let of = |wanted: &[TensorSpec], known: &[TensorSpec]| {
                    let named = |spec: &TensorSpec| known.iter().find(|tensor| tensor.name == spec.name).cloned();
                    wanted.iter().filter_map(named).collect::<Vec<_>>()
                };
                let spec = &details.spec;
                let tensors = (of(spec.inputs(), first.inputs()), of(spec.outputs(), first.outputs()));
                drop(first);
                for index in 0..spec.instances() {
                    opened.push(open::torch(weights, tensors.clone(), &options.providers, tuning_of(index).device)?);
                }
            }
            None => {
                opened.push(first);
                while opened.len() < details.spec.instances() {
                    opened.push(open(opened.len())?);
                }
            }
        }
        let instances: Vec<_> = opened.into_iter().map(|opened| opened.into_instance(&details)).collect();
        let mut model = Model::start(details.spec, instances, samples, pool.clone(), started.elapsed())?;
        if let Some(cache) = cache {
            model = model.with_cache(cache);
        }
        tracing::info!(
            service = service.as_str(),
            model = source.name,
            version = source.version,
            runs_on = %model.placement(),
            warmed = ?model.spec().warmup_batch_sizes(),
            seconds = format!("{:.1}", started.elapsed().as_secs_f64()),
            "model is ready"
        );
        Ok((model, details.config))
    }
}

impl Loader {
    /// The cache of a model that asks for one, if there is one.
    pub(super) fn cache_of(&self, details: &mut SpecDetails) -> Option<Arc<Cache>> {
        details.config.response_cache.filter(|cache| cache.enable)?;
        if self.response_cache.is_none() {
            details.without_effect.push("response_cache (there is none: give --cache-config local,size=BYTES)".into());
        }
        self.response_cache.clone()
    }

    /// The providers to try, in order.
    fn allowed_providers(&self, config: &ModelConfig) -> Vec<Provider> {
        let Wanted { mut providers, is_explicit } = match &self.providers {
            Some(providers) => Wanted { providers: providers.clone(), is_explicit: true },
            None => accelerators::wanted(config),
        };
        if open::is_pytorch(config) {
            providers.retain(|&provider| provider != Provider::TensorRt);
        }
        if self.policy == ProviderPolicy::Strict && is_explicit {
            providers.truncate(1);
        }
        providers
    }
}

/// Whether a model is a file: an ensemble and what is built in are a configuration only.
pub(super) fn needs_file(config: &ModelConfig) -> bool {
    let ensemble = matches!(config.scheduling_choice, Some(SchedulingChoice::EnsembleScheduling(_)));
    !ensemble && config.backend != image::NAME
}

/// Says in the configuration on what kind of device the instances really are. `as_configured` is whether
/// the configuration had a say: then what it asked for and did not get has no effect.
fn settle_kinds(details: &mut SpecDetails, placement: &Placement, as_configured: bool) {
    let on_cpu = [Provider::Cpu.name(), "libtorch CPU"].contains(&placement.provider.as_str());
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
    let accelerators = details.config.optimization.as_ref().and_then(|it| it.execution_accelerators.as_ref());
    let wanted = accelerators.is_some_and(|it| it.gpu_execution_accelerator.iter().any(|a| a.name == "tensorrt"));
    if as_configured && wanted && placement.provider != Provider::TensorRt.name() {
        let field = "optimization.execution_accelerators.gpu_execution_accelerator \"tensorrt\"";
        if !details.without_effect.iter().any(|known| known == field) {
            details.without_effect.push(format!("{field} ({})", reason(placement)));
        }
    }
}

fn reason(placement: &Placement) -> String {
    let why = placement.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("runs on {}{why}", placement.provider)
}

#[cfg(test)]
mod tests {
    use quintet_engine::DataType;

    use super::*;
    use crate::repository::parse_config;

    #[test]
    fn gpus_that_are_asked_for_and_not_there_are_named() {
        let told = |group: &str| {
            let source = ModelSource {
                name: "m".into(),
                version: 1,
                model_file: PathBuf::new(),
                folder: PathBuf::new(),
                config: parse_config(format!("instance_group {{ {group} }}"), "m").unwrap(),
            };
            let tensor = |name| TensorSpec::new(name, DataType::Fp32, [Some(3)]);
            let mut details = complete(&source, &[tensor("x")], &[tensor("y")], Some(4)).unwrap();
            let provider = Provider::Cpu.name().to_owned();
            let reason = Some("no GPU".to_owned());
            settle_kinds(&mut details, &Placement { provider, nodes: Vec::new(), precision: None, reason }, true);
            let group = &details.config.instance_group[0];
            assert_eq!((group.kind(), group.gpus.is_empty()), (Kind::Cpu, true));
            details.without_effect
        };
        let why = "(runs on CPUExecutionProvider: no GPU)";
        assert_eq!(told("kind: KIND_GPU gpus: [ 0, 1 ]"), [format!("instance_group.kind: KIND_GPU {why}")]);
        assert_eq!(told("gpus: [ 0 ]"), [format!("instance_group.gpus {why}")]);
        assert_eq!(told("kind: KIND_CPU gpus: [ 0 ]"), [format!("instance_group.gpus {why}")]);
        assert!(told("kind: KIND_CPU").is_empty());
    }
}
