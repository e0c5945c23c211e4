//! A lane's description of itself: server, provider, what runs the model, inputs and outputs.

use quintet_proto::{EFFECTIVE_PROVIDER, GPU, PRECISION, PROVIDER_REASON, SOFTWARE, THREADS, WEIGHTS};

use crate::{
    client::{call::Reply, target::Target},
    model::{
        connection::TlsVersion,
        machine::Machine,
        report::LaneInfo,
        signature::{Signature, TensorInfo},
    },
    server::{config::Configuration, gpus::Gpus},
};

/// A lane's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Name of the model, if known.
    pub model: Option<String>,
    /// Its versions.
    pub model_versions: Vec<String>,
    /// Name and version of the server.
    pub server: Option<String>,
    /// The effective execution provider.
    pub effective_provider: Option<String>,
    /// The precision, if it is lower than the model's own.
    pub precision: Option<String>,
    /// Why that provider is used.
    pub provider_reason: Option<String>,
    /// The source of the model's weights.
    pub weights: Option<String>,
    /// Queue delay in µs, from the model's configuration.
    pub max_queue_delay_us: Option<u64>,
    /// TLS version of the connection, if TLS is used.
    pub tls: Option<TlsVersion>,
    /// What runs the model.
    pub machine: Machine,
    /// The model's inputs and outputs; `None` if the server describes none.
    pub signature: Option<Signature>,
}

impl Description {
    /// The description as the report has it.
    pub fn into_info(self, target: &Target, counters_url: &str, counters_missing: Option<String>) -> LaneInfo {
        LaneInfo {
            lane: target.lane,
            service: target.lane.service().to_owned(),
            url: target.url(),
            metrics_url: counters_url.to_owned(),
            model: target.model.clone(),
            model_versions: self.model_versions,
            server: self.server,
            effective_provider: self.effective_provider,
            precision: self.precision,
            provider_reason: self.provider_reason,
            weights: self.weights,
            max_queue_delay_us: self.max_queue_delay_us,
            tls: self.tls,
            machine: self.machine,
            inputs: words(self.signature.as_ref().map(|signature| &signature.inputs)),
            outputs: words(self.signature.as_ref().map(|signature| &signature.outputs)),
            counters_missing,
        }
    }

    /// Takes provider, GPU and software from a response's headers or gRPC metadata; stock Triton sends none.
    pub fn add_provider(&mut self, reply: &Reply) {
        let text = |key| {
            let value = reply.headers.get(key).or_else(|| reply.trailers.get(key))?;
            Some(value.to_str().ok()?.to_owned())
        };
        self.effective_provider = text(EFFECTIVE_PROVIDER).or(self.effective_provider.take());
        self.precision = text(PRECISION).or(self.precision.take());
        self.provider_reason = text(PROVIDER_REASON).or(self.provider_reason.take());
        self.weights = text(WEIGHTS).or(self.weights.take());
        self.machine.gpus.extend(text(GPU));
        self.machine.threads = text(THREADS).and_then(|threads| threads.parse().ok()).or(self.machine.threads);
        for product in text(SOFTWARE).unwrap_or_default().split(' ') {
            let Some((name, version)) = product.split_once('/') else { continue };
            let (version, commit) = version.split_once('+').map_or((version, None), |(v, c)| (v, Some(c.to_owned())));
            self.machine.software.insert(name.to_owned(), version.to_owned());
            self.machine.commit = commit.or(self.machine.commit.take());
        }
    }

    /// Takes from the metrics page what the server does not state of itself.
    pub fn add_gpus(&mut self, gpus: Gpus) {
        if self.machine.gpus.is_empty() {
            self.machine.gpus = gpus.models;
        }
        if let Some(driver) = gpus.driver {
            self.machine.software.entry("nvidia-driver".into()).or_insert(driver);
        }
    }

    /// Takes from the configuration what the server does not state of itself.
    pub fn add_configuration(&mut self, config: Configuration) {
        self.max_queue_delay_us = config.max_queue_delay_us;
        self.precision = self.precision.take().or(config.precision);
        self.machine.threads = self.machine.threads.or(config.threads);
        self.machine.instances = config.instances;
        self.machine.settings = config.settings;
        if let Some(signature) = &mut self.signature {
            signature.max_batch = Some(config.max_batch);
            signature.parameters = config.parameters;
            for input in &mut signature.inputs {
                input.optional |= config.optional.contains(&input.name);
            }
        }
    }

    /// Takes versions, platform and tensors from the metadata.
    pub fn add_metadata(
        &mut self,
        versions: Vec<String>,
        platform: String,
        inputs: Vec<TensorInfo>,
        outputs: Vec<TensorInfo>,
    ) {
        self.model_versions = versions;
        self.machine.platform = Some(platform).filter(|platform| !platform.is_empty());
        self.signature = (!inputs.is_empty()).then(|| Signature { inputs, outputs, ..Signature::default() });
    }
}

fn words(tensors: Option<&Vec<TensorInfo>>) -> Vec<String> {
    tensors.into_iter().flatten().map(ToString::to_string).collect()
}
