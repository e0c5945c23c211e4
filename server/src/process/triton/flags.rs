//! Triton's command line: each flag is honoured, reported as having no effect, or refused.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, ValueEnum};

use super::{
    grpc_flags::GrpcFlags,
    other_flags::{Given, Refused, WithoutEffect},
    trace_flags::TraceFlags,
};
use crate::{
    SERVER_NAME,
    observe::{
        device_metrics::DeviceOptions,
        logging::{self, Format},
        metrics::MetricsOptions,
    },
    process::settings::{CommonFlags, boolean, or_cores},
    repository::{AUTO_COMPLETE_MAX_BATCH_SIZE, Copied},
    transport::kserve_grpc,
};

/// How models are selected for loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ControlMode {
    /// Load all models of the repository at the start.
    None,
    /// Load all models of the repository, and follow its changes.
    Poll,
    /// Load the models of --load-model, and those that clients load.
    Explicit,
}

/// Triton's names of log formats.
fn log_format(text: &str) -> Result<Format, String> {
    Format::from_name(text).ok_or_else(|| "use default, ISO8601 or json".into())
}

/// A number of milliseconds, of which a part may be given.
fn milliseconds(text: &str) -> Result<f64, String> {
    /// A day.
    const MAX: f64 = 86_400_000.0;
    let wrong = || format!("use a number of milliseconds from 0 to {MAX}");
    text.parse().ok().filter(|ms| (0.0..=MAX).contains(ms)).ok_or_else(wrong)
}

/// The bytes of `local,size=BYTES`.
fn cache_size(text: &str) -> Result<usize, String> {
    text.strip_prefix("local,size=")
        .and_then(|bytes| bytes.parse().ok())
        .ok_or_else(|| "use local,size=BYTES: only the local cache is supported".into())
}

/// Triton's flags, and a few that only this server has.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Name of the server in its metadata; some clients expect triton
    #[arg(long, value_name = "NAME", default_value = SERVER_NAME)]
    pub id: String,
    /// Folder with models in Triton's layout, or in a build with --features object-stores an address (s3://, gs://, as://, az://); may be repeated, and is needed at least once
    #[arg(long, alias = "model-store", value_name = "DIR")]
    pub model_repository: Vec<PathBuf>,
    /// How models are selected for loading
    #[arg(long, value_enum, value_name = "MODE", default_value = "none", ignore_case = true)]
    pub model_control_mode: ControlMode,
    /// Model to load at the start in explicit mode, or * for all; may be repeated [default: none]
    #[arg(long, value_name = "NAME")]
    pub load_model: Vec<String>,
    /// Seconds between two checks of the repository in poll mode
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pub repository_poll_secs: u64,
    /// Report the server as ready only while all models are ready
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub strict_readiness: bool,
    /// Exit if a model cannot be loaded at the start; with false, serve the other models
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub exit_on_error: bool,
    /// Do not complete a config.pbtxt from the model file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub disable_auto_complete_config: bool,
    /// Triton's old name for --disable-auto-complete-config
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub strict_model_config: bool,
    /// Maximum number of models that load at the same time [default: one for each core]
    #[arg(long, value_name = "N")]
    pub model_load_thread_count: Option<usize>,
    /// Number of times that a model that failed to load is tried again, at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub model_load_retry_count: u32,
    /// Response cache for models whose configuration enables response_cache, as local,size=BYTES [default: none]
    #[arg(long, value_name = "CACHE,KEY=VALUE", value_parser = cache_size)]
    pub cache_config: Option<usize>,
    /// Triton's old name for --cache-config local,size=BYTES
    #[arg(long, hide = true, value_name = "BYTES", conflicts_with = "cache_config")]
    pub response_cache_byte_size: Option<usize>,
    /// Setting of a backend, as onnxruntime,default-max-batch-size=N; may be repeated
    #[arg(long, value_name = "BACKEND,KEY=VALUE")]
    pub backend_config: Vec<String>,

    /// Port for KServe over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub http_port: u16,
    /// Port for KServe over gRPC
    #[arg(long, value_name = "PORT", default_value_t = 8001)]
    pub grpc_port: u16,
    /// Let other servers with this flag listen on the HTTP port: the system spreads new connections over them, so all should have the same models
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub reuse_http_port: bool,
    /// The same as --reuse-http-port, for the gRPC port
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub reuse_grpc_port: bool,
    /// Also serve KServe over HTTP on this Unix domain socket, which is created at the start and removed at the end [default: none]
    #[arg(long, value_name = "PATH")]
    pub http_uds: Option<PathBuf>,
    /// Also serve KServe over gRPC on this Unix domain socket [default: none]
    #[arg(long, value_name = "PATH")]
    pub grpc_uds: Option<PathBuf>,
    /// Port for Prometheus metrics over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 8002)]
    pub metrics_port: u16,
    /// Address of the HTTP listener; 0.0.0.0 accepts connections from other machines [default: 127.0.0.1, or 0.0.0.0 if requests need a token or a client certificate]
    #[arg(long, env = "QUINTET_HTTP_ADDRESS", value_name = "ADDRESS", help_heading = "Security")]
    pub http_address: Option<IpAddr>,
    /// Address of the gRPC listener [default: as for --http-address]
    #[arg(long, env = "QUINTET_GRPC_ADDRESS", value_name = "ADDRESS", help_heading = "Security")]
    pub grpc_address: Option<IpAddr>,
    /// Address of the metrics listener [default: the HTTP listener's]
    #[arg(long, value_name = "ADDRESS", help_heading = "Security")]
    pub metrics_address: Option<IpAddr>,
    /// Serve KServe over HTTP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_http: bool,
    /// Serve KServe over gRPC
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_grpc: bool,
    /// Serve metrics
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_metrics: bool,
    /// Report metrics of the GPUs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_gpu_metrics: bool,
    /// Report metrics of processors and memory
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_cpu_metrics: bool,
    /// Milliseconds for which a reading of GPUs, processors and memory is reported again; metrics of requests are always current
    #[arg(long, value_name = "MS", default_value_t = 2000.0, value_parser = milliseconds)]
    pub metrics_interval_ms: f64,
    /// Metrics in addition to the counters, e.g. summary_latencies=true; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub metrics_config: Vec<String>,
    /// Maximum bytes of a request body, before and after decompression, so that one request cannot fill the memory; larger ones get 413
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Limits")]
    pub http_max_input_size: usize,
    /// Maximum bytes of a gRPC message, so that one request cannot fill the memory (Triton has no such limit)
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..), help_heading = "Limits")]
    pub grpc_max_input_size: usize,
    /// Maximum number of requests of one gRPC stream that run at the same time, so that a stream does not take all instances; further ones are read later
    #[arg(long, value_name = "N", default_value_t = kserve_grpc::MAX_STREAM_REQUESTS, help_heading = "Limits")]
    pub grpc_max_stream_requests: usize,

    /// Log level for debugging: 1 or more adds debug lines
    #[arg(long, value_name = "LEVEL", default_value_t = 0)]
    pub log_verbose: u32,
    /// Append the log to this file instead of writing it to stderr
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Format of the log lines: default, ISO8601 or json
    #[arg(long, value_name = "FORMAT", default_value = "default", value_parser = log_format)]
    pub log_format: Format,
    /// Log informational messages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_info: bool,
    /// Log warnings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_warning: bool,
    /// Log errors
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_error: bool,
    #[command(flatten)]
    pub(super) grpc: GrpcFlags,
    #[command(flatten)]
    pub(super) trace: TraceFlags,
    /// Settings shared with the suite.
    #[command(flatten)]
    pub common: CommonFlags,
    #[command(flatten)]
    without_effect: WithoutEffect,
    #[command(flatten)]
    refused: Refused,
}

impl Flags {
    /// Warns of flags without effect.
    ///
    /// # Errors
    /// When a flag asks for something that this server does not support, or a required flag is missing.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.model_repository.is_empty(),
            "--model-repository is missing: name the folder with the models, or use a subcommand (see --help)"
        );
        for Given { flag, values, reason } in self.refused.given() {
            // A flag that is off or empty asks for nothing.
            let off = values.iter().all(|value| value.is_empty() || boolean(value) == Ok(false));
            anyhow::ensure!(off, "{flag} is not supported, and must not be ignored: {reason}. Remove it");
        }
        anyhow::ensure!(
            self.load_model.is_empty() || self.model_control_mode == ControlMode::Explicit,
            "--load-model needs --model-control-mode=explicit"
        );
        for Given { flag, values, reason } in self.without_effect.given() {
            tracing::warn!(flag, values = values.join(" "), reason, "this flag has no effect here");
        }
        for text in &self.backend_config {
            if default_max_batch_size(text).is_none() {
                tracing::warn!(flag = "--backend-config", values = text, "this setting has no effect here");
            }
        }
        Ok(())
    }

    /// Maximum batch size for a model that supports batching and does not set one; `None` if nothing is completed.
    pub(super) fn auto_complete(&self) -> Option<i32> {
        let given = self.backend_config.iter().filter_map(|text| default_max_batch_size(text)).next_back();
        let complete = !self.disable_auto_complete_config && !self.strict_model_config;
        complete.then_some(given.unwrap_or(AUTO_COMPLETE_MAX_BATCH_SIZE))
    }

    /// Size of the response cache in bytes; `None` for no cache.
    pub(super) fn response_cache_bytes(&self) -> Option<usize> {
        self.cache_config.or(self.response_cache_byte_size).filter(|&bytes| bytes > 0)
    }

    /// The metrics to measure.
    ///
    /// # Errors
    /// When --metrics-config has an unknown setting.
    pub(super) fn metrics_options(&self) -> anyhow::Result<MetricsOptions> {
        let mut options = MetricsOptions {
            devices: DeviceOptions {
                gpu: self.allow_gpu_metrics,
                cpu: self.allow_cpu_metrics,
                interval: Duration::from_secs_f64(self.metrics_interval_ms / 1e3),
            },
            ..MetricsOptions::default()
        };
        for setting in &self.metrics_config {
            options.set(setting).map_err(|error| anyhow::anyhow!("--metrics-config {setting}: {error}"))?;
        }
        Ok(options)
    }

    /// The log settings.
    pub fn logging(&self) -> logging::Settings {
        logging::Settings {
            info: self.log_info,
            warning: self.log_warning,
            error: self.log_error,
            verbose: self.log_verbose,
            format: self.log_format,
        }
    }

    /// Which models of an object store are copied: all of them, unless clients say which are loaded.
    pub(super) fn copied(&self) -> Copied {
        if self.model_control_mode == ControlMode::Explicit { Copied::Loaded } else { Copied::All }
    }

    pub(super) fn loads_at_once(&self) -> usize {
        or_cores(self.model_load_thread_count.unwrap_or(0))
    }
}

/// `N` of `[onnxruntime],default-max-batch-size=N`. As in Triton, an empty backend means all backends.
fn default_max_batch_size(text: &str) -> Option<i32> {
    let (backend, setting) = text.split_once(',')?;
    let value = setting.strip_prefix("default-max-batch-size=")?;
    if matches!(backend, "" | "onnxruntime") { value.parse().ok().filter(|&size| size >= 0) } else { None }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn read(line: &str) -> Result<Flags, String> {
        let line = std::iter::once("quintet-server").chain(line.split_whitespace());
        Cli::try_parse_from(line).map(|cli| cli.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_tritons_spellings() {
        let flags = read(
            "--model-repository /a --model-store=/b --model-control-mode=EXPLICIT --load-model x --load-model=* \
             --strict-readiness=0 --exit-on-error false --disable-auto-complete-config --http-port 9000 \
             --grpc-address=127.0.0.1 --allow-metrics=false --backend-config=onnxruntime,default-max-batch-size=16 \
             --pinned-memory-pool-byte-size 1 --cuda-memory-pool-byte-size=0:1 --cuda-memory-pool-byte-size=1:1",
        )
        .unwrap();
        assert_eq!(flags.model_repository, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(
            (flags.model_control_mode, &flags.load_model[..]),
            (ControlMode::Explicit, &["x".into(), "*".into()][..])
        );
        assert!(!flags.strict_readiness && !flags.exit_on_error && !flags.allow_metrics);
        assert_eq!((flags.http_port, flags.grpc_port, flags.auto_complete()), (9000, 8001, None));
        assert_eq!(flags.grpc_address, Some(IpAddr::from([127, 0, 0, 1])));
        assert!(flags.check().is_ok());
        let given: Vec<_> = flags.without_effect.given().into_iter().map(|given| given.flag).collect();
        assert_eq!(given, ["--pinned-memory-pool-byte-size", "--cuda-memory-pool-byte-size"]);
        let flags = read("--backend-config=onnxruntime,default-max-batch-size=16").unwrap();
        assert_eq!(flags.auto_complete(), Some(16));
        assert!(read("--strict-readiness --http-port 1").unwrap().strict_readiness);
    }

    #[test]
    fn a_response_cache_needs_a_size() {
        let bytes = |line: &str| read(line).map(|flags| flags.response_cache_bytes());
        assert_eq!(bytes(""), Ok(None));
        assert_eq!(bytes("--cache-config local,size=1048576"), Ok(Some(1 << 20)));
        assert_eq!(bytes("--response-cache-byte-size=7"), Ok(Some(7)));
        assert_eq!(bytes("--cache-config local,size=0"), Ok(None));
        assert!(bytes("--cache-config redis,host=x").unwrap_err().contains("use local,size=BYTES"));
    }

    #[test]
    fn metrics_of_devices_can_be_left_out_and_read_less_often() {
        let options = |line: &str| read(line).unwrap().metrics_options().unwrap().devices;
        let on = DeviceOptions { gpu: true, cpu: true, interval: Duration::from_secs(2) };
        assert_eq!(options(""), on);
        let off = options("--allow-gpu-metrics=false --allow-cpu-metrics=0 --metrics-interval-ms=0.5");
        assert_eq!(off, DeviceOptions { gpu: false, cpu: false, interval: Duration::from_micros(500) });
        assert!(read("--metrics-interval-ms=-1").unwrap_err().contains("milliseconds"));
    }

    #[test]
    fn suggests_a_similar_name_for_an_unknown_flag() {
        let error = read("--model-repositry /a").unwrap_err();
        assert!(error.contains("--model-repository"), "{error}");
    }

    #[test]
    fn refuses_flags_that_must_not_be_ignored() {
        let refusal = |line: &str| read(line).unwrap().check().unwrap_err().to_string();
        assert!(refusal("").starts_with("--model-repository is missing"));
        assert!(
            refusal("--model-repository /a --model-namespacing=true")
                .starts_with("--model-namespacing is not supported")
        );
        assert!(refusal("--model-repository /a --load-model x").contains("--model-control-mode=explicit"));
        let pattern = refusal("--model-repository /a --http-header-forward-pattern=x-.*");
        assert!(pattern.contains("no backend here reads the headers of a request"), "{pattern}");
        assert!(refusal("--model-repository /a --rate-limit=execution_count").contains("use off"));
        let off = "--model-namespacing=false --rate-limit=off --http-header-forward-pattern=";
        assert!(read(&format!("--model-repository /a {off}")).unwrap().check().is_ok());
        assert!(read("--strict-readiness=maybe").unwrap_err().contains("use true, false, 1 or 0"));
    }
}
