//! Triton's command line: each flag is honoured, or said to have no effect, or refused.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{ArgAction, Args, ValueEnum};

use crate::{
    backend::onnx::ProviderPolicy,
    kserve::trace::{Collector, Mode, Target, Traces, Update, Waiting},
    observe::{
        logging::{self, Format},
        metrics::MetricsOptions,
    },
    process::settings::or_cores,
    repository::AUTO_COMPLETE_MAX_BATCH_SIZE,
    transport::kserve_grpc,
};

/// Who says which models are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ControlMode {
    /// All models of the repository, once.
    None,
    /// All models of the repository, which is looked at again and again.
    Poll,
    /// Those of --load-model, and what clients ask for.
    Explicit,
}

/// Triton's spellings of yes and no.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err("use true, false, 1 or 0".into()),
    }
}

/// Triton's names of log formats.
fn log_format(text: &str) -> Result<Format, String> {
    Format::from_name(text).ok_or_else(|| "use default, ISO8601 or json".into())
}

/// The bytes of `local,size=BYTES`.
fn cache_size(text: &str) -> Result<usize, String> {
    text.strip_prefix("local,size=")
        .and_then(|bytes| bytes.parse().ok())
        .ok_or_else(|| "use local,size=BYTES: there is no other cache than the local one".into())
}

/// Triton's flags, and a few of this server's own.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Folder with models in Triton's layout; repeat it for several
    #[arg(long, alias = "model-store", value_name = "DIR")]
    pub model_repository: Vec<PathBuf>,
    /// Who says which models are loaded
    #[arg(long, value_enum, value_name = "MODE", default_value = "none", ignore_case = true)]
    pub model_control_mode: ControlMode,
    /// With explicit control: model to load at the start, or * for all; repeat it for several
    #[arg(long, value_name = "NAME")]
    pub load_model: Vec<String>,
    /// With poll control: seconds from one look at the repository to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pub repository_poll_secs: u64,
    /// Not ready while one model is not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub strict_readiness: bool,
    /// End if a model cannot be loaded at the start; false serves the others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub exit_on_error: bool,
    /// Seconds that accepted requests have to finish after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub exit_timeout_secs: u64,
    /// Do not fill in what a config.pbtxt leaves out from the model file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub disable_auto_complete_config: bool,
    /// Triton's old name for --disable-auto-complete-config
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub strict_model_config: bool,
    /// Models that load at the same time at most [default: one for each core]
    #[arg(long, value_name = "N")]
    pub model_load_thread_count: Option<usize>,
    /// Cache of answers, for models whose configuration enables response_cache: local,size=BYTES [default: none]
    #[arg(long, value_name = "CACHE,KEY=VALUE", value_parser = cache_size)]
    pub cache_config: Option<usize>,
    /// Triton's old name for --cache-config local,size=BYTES
    #[arg(long, hide = true, value_name = "BYTES", conflicts_with = "cache_config")]
    pub response_cache_byte_size: Option<usize>,
    /// Setting of a backend: onnxruntime,default-max-batch-size=N
    #[arg(long, value_name = "BACKEND,KEY=VALUE")]
    pub backend_config: Vec<String>,

    /// KServe over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    pub http_port: u16,
    /// KServe over gRPC
    #[arg(long, value_name = "PORT", default_value_t = 8001)]
    pub grpc_port: u16,
    /// KServe over HTTP on a Unix domain socket too: its file, made at the start and removed at the end
    #[arg(long, value_name = "PATH")]
    pub http_uds: Option<PathBuf>,
    /// KServe over gRPC on a Unix domain socket too
    #[arg(long, value_name = "PATH")]
    pub grpc_uds: Option<PathBuf>,
    /// Prometheus metrics over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 8002)]
    pub metrics_port: u16,
    /// Address of the HTTP listener
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub http_address: IpAddr,
    /// Address of the gRPC listener
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub grpc_address: IpAddr,
    /// Address of the metrics listener [default: that of the HTTP listener]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_address: Option<IpAddr>,
    /// Listen for HTTP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_http: bool,
    /// Listen for gRPC
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_grpc: bool,
    /// Listen for readers of metrics
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_metrics: bool,
    /// What is measured beyond counters, such as summary_latencies=true; repeat it for several settings
    #[arg(long, value_name = "KEY=VALUE")]
    pub metrics_config: Vec<String>,
    /// Bytes of a request body at most, also once decompressed; larger ones get 413
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub http_max_input_size: usize,
    /// Bytes of a gRPC message at most; Triton has no limit here
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub grpc_max_input_size: usize,
    /// Requests of one gRPC stream that are worked on at once; more wait to be read
    #[arg(long, value_name = "N", default_value_t = kserve_grpc::MAX_STREAM_REQUESTS)]
    pub grpc_max_stream_requests: usize,

    /// Let clients on this machine send tensors through shared memory; trust them: they can end the server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub allow_client_shm: bool,
    /// Regions of shared memory that clients may register
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub shared_memory_max_regions: usize,
    /// Bytes of all regions of shared memory together
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 30)]
    pub shared_memory_max_bytes: u64,

    /// 1 and more adds debug lines
    #[arg(long, value_name = "LEVEL", default_value_t = 0)]
    pub log_verbose: u32,
    /// Form of the log lines on stderr: default, ISO8601 or json
    #[arg(long, value_name = "FORMAT", default_value = "default", value_parser = log_format)]
    pub log_format: Format,
    /// Log information
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_info: bool,
    /// Log warnings
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_warning: bool,
    /// Log errors
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = boolean, action = ArgAction::Set)]
    pub log_error: bool,
    /// Traces of requests: level=TIMESTAMPS, level=TENSORS, rate=N, count=N, triton,file=PATH, triton,log-frequency=N,
    /// triton,max-waiting-traces=N (4096), triton,max-waiting-bytes=N (64 MiB of tensors), mode=opentelemetry,
    /// opentelemetry,url=URL, opentelemetry,resource=KEY=VALUE, opentelemetry,bsp_max_queue_size=N
    #[arg(long, value_name = "[MODE,]KEY=VALUE")]
    pub trace_config: Vec<String>,
    /// Triton's old name for --trace-config triton,file=PATH
    #[arg(long, hide = true)]
    trace_file: Option<String>,
    /// Triton's old name for --trace-config level=LEVEL
    #[arg(long, hide = true)]
    trace_level: Vec<String>,
    /// Triton's old name for --trace-config rate=N
    #[arg(long, hide = true)]
    trace_rate: Option<String>,
    /// Triton's old name for --trace-config count=N
    #[arg(long, hide = true, allow_hyphen_values = true)]
    trace_count: Option<String>,
    /// Triton's old name for --trace-config triton,log-frequency=N
    #[arg(long, hide = true)]
    trace_log_frequency: Option<String>,

    /// Connections of one listener at most; more wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_connections: usize,
    /// Bytes of unused buffers that are kept for later requests
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    pub buffer_pool_bytes: usize,
    /// Threads that work on one operator of models that do not say [default: 0, one for each core]
    #[arg(long, env = "QUINTET_INTRA_OP_THREADS", default_value_t = 0, hide_default_value = true)]
    pub intra_op_threads: usize,
    /// Whether a model that asks for a GPU by name may run elsewhere where that does not work
    #[arg(long, env = "QUINTET_PROVIDER_POLICY", value_enum, default_value = "fallback")]
    pub provider_policy: ProviderPolicy,
    /// Folder for TensorRT's engines, unless a model's configuration says where; one inside for each model, GPU and ONNX Runtime
    #[arg(long, env = "QUINTET_ENGINE_CACHE", value_name = "DIR")]
    pub engine_cache: Option<PathBuf>,
    /// The ONNX Runtime library, or a folder that holds it [default: ORT_DYLIB_PATH, beside the program, or .quintet/onnxruntime]
    #[arg(long, env = "QUINTET_ONNXRUNTIME", value_name = "PATH")]
    pub onnxruntime: Option<PathBuf>,
    /// Write the listeners' ports as JSON to this file once ready; for ports given as 0
    #[arg(long, env = "QUINTET_PORTS_FILE", value_name = "FILE")]
    pub ports_file: Option<PathBuf>,

    #[command(flatten)]
    without_effect: WithoutEffect,
    #[command(flatten)]
    refused: Refused,
}

/// Declares flags that take any value or none, and a method that tells those given.
macro_rules! flags {
    ($(#[doc = $doc:literal])+ $set:ident: $($name:ident)+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, Args)]
        struct $set {
            $(#[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Append)]
            $name: Vec<String>,)+
        }

        impl $set {
            /// The flags given, with their values.
            fn given(&self) -> Vec<(String, &[String])> {
                let all = [$((stringify!($name), &self.$name[..])),+];
                all.into_iter()
                    .filter(|(_, values)| !values.is_empty())
                    .map(|(name, values)| (format!("--{}", name.replace('_', "-")), values))
                    .collect()
            }
        }
    };
}

flags! {
    /// Flags of Triton that change nothing here: memory pools and threads of its own making, and features
    /// whose absence a client does not notice.
    WithoutEffect:
    id backend_directory repoagent_directory cache_directory pinned_memory_pool_byte_size
    cuda_memory_pool_byte_size cuda_virtual_address_size
    min_supported_compute_capability buffer_manager_thread_count model_load_retry_count model_load_gpu_limit
    http_thread_count reuse_http_port reuse_grpc_port http_header_forward_pattern grpc_header_forward_pattern
    grpc_infer_allocation_pool_size grpc_infer_thread_count grpc_max_response_pool_size
    grpc_infer_response_compression_level grpc_keepalive_time grpc_keepalive_timeout
    grpc_keepalive_permit_without_calls grpc_http2_max_pings_without_data
    grpc_http2_min_recv_ping_interval_without_data grpc_http2_max_ping_strikes grpc_max_connection_age
    grpc_max_connection_age_grace metrics_interval_ms allow_gpu_metrics allow_cpu_metrics
    log_file rate_limit rate_limit_resource enable_peer_access host_policy
}

flags! {
    /// Flags of Triton that must not be ignored: they close doors, or change what names mean.
    Refused:
    grpc_use_ssl grpc_use_ssl_mutual grpc_server_cert grpc_server_key grpc_root_cert grpc_restricted_protocol
    http_restricted_api model_namespacing allow_sagemaker allow_vertex_ai
}

impl Flags {
    /// Warns of flags without effect.
    ///
    /// # Errors
    /// When a flag asks for what this server does not do, or a needed one is missing.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.model_repository.is_empty(),
            "--model-repository is missing: name the folder with the models, or use a subcommand (see --help)"
        );
        for (flag, values) in self.refused.given() {
            // What is switched off is not asked for.
            let off = values.iter().all(|value| boolean(value) == Ok(false));
            anyhow::ensure!(off, "{flag} is not supported: without it the server would do what you do not expect");
        }
        anyhow::ensure!(
            self.load_model.is_empty() || self.model_control_mode == ControlMode::Explicit,
            "--load-model needs --model-control-mode=explicit"
        );
        for (flag, values) in self.without_effect.given() {
            tracing::warn!(flag, values = values.join(" "), "this flag has no effect here");
        }
        for text in &self.backend_config {
            if default_max_batch_size(text).is_none() {
                tracing::warn!(flag = "--backend-config", values = text, "this setting has no effect here");
            }
        }
        Ok(())
    }

    /// The largest batch of a model that says nothing and can batch; `None` completes nothing.
    pub(super) fn auto_complete(&self) -> Option<i32> {
        let given = self.backend_config.iter().filter_map(|text| default_max_batch_size(text)).next_back();
        let complete = !self.disable_auto_complete_config && !self.strict_model_config;
        complete.then_some(given.unwrap_or(AUTO_COMPLETE_MAX_BATCH_SIZE))
    }

    /// Bytes of the response cache; `None` for none.
    pub(super) fn response_cache_bytes(&self) -> Option<usize> {
        self.cache_config.or(self.response_cache_byte_size).filter(|&bytes| bytes > 0)
    }

    /// What is measured.
    ///
    /// # Errors
    /// When --metrics-config has a setting that there is not.
    pub(super) fn metrics_options(&self) -> anyhow::Result<MetricsOptions> {
        let mut options = MetricsOptions::default();
        for setting in &self.metrics_config {
            options.set(setting).map_err(|error| anyhow::anyhow!("--metrics-config {setting}: {error}"))?;
        }
        Ok(options)
    }

    /// What is logged.
    pub fn logging(&self) -> logging::Settings {
        logging::Settings {
            info: self.log_info,
            warning: self.log_warning,
            error: self.log_error,
            verbose: self.log_verbose,
            format: self.log_format,
        }
    }

    /// What is traced.
    ///
    /// # Errors
    /// When the flags ask for what there is not.
    pub(super) fn traces(&self) -> anyhow::Result<Traces> {
        let (mut file, mut collector, mut mode) = (None, Collector::default(), Mode::default());
        let mut waiting = Waiting::default();
        let mut update = Update::new();
        let old = [
            ("triton,file", &self.trace_file),
            ("rate", &self.trace_rate),
            ("count", &self.trace_count),
            ("triton,log-frequency", &self.trace_log_frequency),
        ];
        let old = old.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        let old = old.chain(self.trace_level.iter().map(|level| format!("level={level}")));
        for text in old.chain(self.trace_config.iter().cloned()) {
            let wrong = |what: &str| anyhow::anyhow!("--trace-config '{text}': {what}");
            let (setting, value) = text.split_once('=').unwrap_or((&text, ""));
            let (of, name) = setting.split_once(',').map_or((None, setting), |(of, name)| (Some(of), name));
            match (of.map(Mode::from_name).transpose()?, name) {
                (None, "mode") => mode = Mode::from_name(value)?,
                (None | Some(Mode::Triton), "level" | "rate" | "count") => {
                    update.entry(format!("trace_{name}")).or_default().push(value.to_owned());
                }
                (None, _) => return Err(wrong("unknown setting; use level, rate, count, mode, or one of a mode")),
                (Some(Mode::Triton), "file") => file = Some(PathBuf::from(value)),
                (Some(Mode::Triton), "log-frequency") => {
                    update.entry("log_frequency".into()).or_default().push(value.to_owned());
                }
                (Some(Mode::Triton), "max-waiting-traces" | "max-waiting-bytes") => {
                    let most = value.parse().ok().filter(|&most| most > 0);
                    let most = most.ok_or_else(|| wrong("it takes a whole number from 1 on"))?;
                    *if name == "max-waiting-bytes" { &mut waiting.bytes } else { &mut waiting.traces } = most;
                }
                (Some(Mode::Triton), _) => {
                    return Err(wrong(
                        "unknown setting; use file, log-frequency, max-waiting-traces or max-waiting-bytes",
                    ));
                }
                (Some(Mode::OpenTelemetry), _) => collector.set(name, value).map_err(|what| wrong(&what))?,
            }
        }
        let target = match mode {
            Mode::Triton => Target::File(file),
            Mode::OpenTelemetry => Target::Collector(collector),
        };
        let traces = Traces::new(target, waiting).context("cannot start a thread for traces")?;
        traces.update(None, &update).context("--trace-config")?;
        Ok(traces)
    }

    pub(super) fn loads_at_once(&self) -> usize {
        or_cores(self.model_load_thread_count.unwrap_or(0))
    }
}

/// `N` of `[onnxruntime],default-max-batch-size=N`: Triton takes it for one backend and for all.
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
    fn tritons_spellings() {
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
        assert_eq!(flags.grpc_address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(flags.check().is_ok());
        let given: Vec<_> = flags.without_effect.given().into_iter().map(|(flag, _)| flag).collect();
        assert_eq!(given, ["--pinned-memory-pool-byte-size", "--cuda-memory-pool-byte-size"]);
        let flags = read("--backend-config=onnxruntime,default-max-batch-size=16").unwrap();
        assert_eq!(flags.auto_complete(), Some(16));
        assert!(read("--strict-readiness --http-port 1").unwrap().strict_readiness);
    }

    #[test]
    fn the_response_cache_has_a_size_or_is_not_there() {
        let bytes = |line: &str| read(line).map(|flags| flags.response_cache_bytes());
        assert_eq!(bytes(""), Ok(None));
        assert_eq!(bytes("--cache-config local,size=1048576"), Ok(Some(1 << 20)));
        assert_eq!(bytes("--response-cache-byte-size=7"), Ok(Some(7)));
        assert_eq!(bytes("--cache-config local,size=0"), Ok(None));
        assert!(bytes("--cache-config redis,host=x").unwrap_err().contains("use local,size=BYTES"));
    }

    #[test]
    fn an_unknown_flag_says_what_it_is_near_to() {
        let error = read("--model-repositry /a").unwrap_err();
        assert!(error.contains("--model-repository"), "{error}");
    }

    #[test]
    fn what_would_be_missed_is_refused() {
        let refusal = |line: &str| read(line).unwrap().check().unwrap_err().to_string();
        assert!(refusal("").starts_with("--model-repository is missing"));
        assert!(refusal("--model-repository /a --grpc-use-ssl=true").starts_with("--grpc-use-ssl is not supported"));
        assert!(refusal("--model-repository /a --load-model x").contains("--model-control-mode=explicit"));
        assert!(read("--model-repository /a --grpc-use-ssl=false").unwrap().check().is_ok());
        assert!(read("--strict-readiness=maybe").unwrap_err().contains("use true, false, 1 or 0"));
    }
}
