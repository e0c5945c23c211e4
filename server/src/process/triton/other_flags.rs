//! Triton's flags that are accepted without effect, and those that are refused, each with its reason.

use clap::{ArgAction, Args};

/// A flag that was given.
pub(super) struct Given<'a> {
    /// With `--`.
    pub(super) flag: String,
    pub(super) values: &'a [String],
    pub(super) reason: &'static str,
}

/// Declares flags that accept any value or none, each with a reason, and a method that lists the given ones.
macro_rules! flags {
    ($(#[doc = $doc:literal])+ $set:ident: $($name:ident $reason:literal)+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, Args)]
        pub(super) struct $set {
            $(#[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Append)]
            $name: Vec<String>,)+
        }

        impl $set {
            /// The flags with their reasons.
            #[cfg(test)]
            pub(super) const REASONS: &[(&str, &str)] = &[$((stringify!($name), $reason)),+];

            /// The flags given.
            pub(super) fn given(&self) -> Vec<Given<'_>> {
                let all = [$((stringify!($name), &self.$name[..], $reason)),+];
                all.into_iter()
                    .filter(|(_, values, _)| !values.is_empty())
                    .map(|(name, values, reason)| Given { flag: long(name), values, reason })
                    .collect()
            }
        }
    };
}

/// The flag of a field.
pub(super) fn long(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

flags! {
    /// Triton's flags that have no effect here, because there is nothing that they could change.
    WithoutEffect:
    backend_directory "backends are built in"
    repoagent_directory "repository agents are not supported: a model that names some logs a warning"
    cache_directory "the local response cache is built in"
    buffer_manager_thread_count "each instance copies its own batches"
    http_thread_count "connections have one thread for each core"
    grpc_infer_thread_count "connections have one thread for each core"
    grpc_infer_allocation_pool_size "memory of requests is kept by bytes: --buffer-pool-bytes"
    grpc_max_response_pool_size "memory of responses is kept by bytes: --buffer-pool-bytes"
    pinned_memory_pool_byte_size "page-locked memory is a part of --buffer-pool-bytes"
    cuda_memory_pool_byte_size "ONNX Runtime has the memory of the GPUs: gpu_mem_limit in a model's parameters bounds it"
    cuda_virtual_address_size "models with implicit state are refused"
    min_supported_compute_capability "ONNX Runtime decides which GPUs it can use"
    enable_peer_access "no tensor moves from one GPU to another"
    host_policy "the system places threads and memory: start the server with numactl, or in a container with its CPUs"
    rate_limit_resource "only --rate-limit=execution_count uses it"
    grpc_http2_max_pings_without_data "each --grpc-keepalive-time of silence gets one PING"
    grpc_http2_min_recv_ping_interval_without_data "clients may send PINGs as often as docs/limits.md says"
    grpc_http2_max_ping_strikes "clients may send PINGs as often as docs/limits.md says"
    sagemaker_port "only --allow-sagemaker uses it"
    sagemaker_safe_port_range "only --allow-sagemaker uses it"
    sagemaker_thread_count "only --allow-sagemaker uses it"
    vertex_ai_port "only --allow-vertex-ai uses it"
    vertex_ai_thread_count "only --allow-vertex-ai uses it"
    vertex_ai_default_model "only --allow-vertex-ai uses it"
}

flags! {
    /// Triton's flags that must not be ignored, because something would not happen that they ask for.
    Refused:
    model_namespacing "a model's name is unique over all repositories"
    allow_sagemaker "SageMaker's protocol is not served"
    allow_vertex_ai "Vertex AI's protocol is not served"
    http_header_forward_pattern "no backend here reads the headers of a request"
    grpc_header_forward_pattern "no backend here reads the metadata of a request"
    rate_limit "an instance runs a batch as soon as it is idle: use off, or set the count of instances"
    model_load_gpu_limit "loads are not refused by a GPU's memory: set gpu_mem_limit in a model's parameters"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::process::{cli::Cli, page};

    /// The flags that tritonserver's command-line parser has, but for --help.
    const TRITON: &[&str] = &[
        "id",
        "log-verbose",
        "log-info",
        "log-warning",
        "log-error",
        "log-format",
        "log-file",
        "model-store",
        "model-repository",
        "exit-on-error",
        "exit-timeout-secs",
        "disable-auto-complete-config",
        "strict-readiness",
        "model-control-mode",
        "repository-poll-secs",
        "load-model",
        "model-load-thread-count",
        "model-load-retry-count",
        "model-namespacing",
        "enable-peer-access",
        "allow-http",
        "http-address",
        "http-port",
        "reuse-http-port",
        "http-header-forward-pattern",
        "http-thread-count",
        "http-restricted-api",
        "http-max-input-size",
        "allow-grpc",
        "grpc-address",
        "grpc-port",
        "reuse-grpc-port",
        "grpc-header-forward-pattern",
        "grpc-infer-thread-count",
        "grpc-infer-allocation-pool-size",
        "grpc-max-response-pool-size",
        "grpc-use-ssl",
        "grpc-use-ssl-mutual",
        "grpc-server-cert",
        "grpc-server-key",
        "grpc-root-cert",
        "grpc-infer-response-compression-level",
        "grpc-keepalive-time",
        "grpc-keepalive-timeout",
        "grpc-keepalive-permit-without-calls",
        "grpc-http2-max-pings-without-data",
        "grpc-http2-min-recv-ping-interval-without-data",
        "grpc-http2-max-ping-strikes",
        "grpc-max-connection-age",
        "grpc-max-connection-age-grace",
        "grpc-restricted-protocol",
        "allow-sagemaker",
        "sagemaker-port",
        "sagemaker-safe-port-range",
        "sagemaker-thread-count",
        "allow-vertex-ai",
        "vertex-ai-port",
        "vertex-ai-thread-count",
        "vertex-ai-default-model",
        "allow-metrics",
        "allow-gpu-metrics",
        "allow-cpu-metrics",
        "metrics-address",
        "metrics-port",
        "metrics-interval-ms",
        "metrics-config",
        "trace-config",
        "trace-file",
        "trace-level",
        "trace-rate",
        "trace-count",
        "trace-log-frequency",
        "cache-config",
        "cache-directory",
        "response-cache-byte-size",
        "rate-limit",
        "rate-limit-resource",
        "pinned-memory-pool-byte-size",
        "cuda-memory-pool-byte-size",
        "cuda-virtual-address-size",
        "min-supported-compute-capability",
        "buffer-manager-thread-count",
        "host-policy",
        "model-load-gpu-limit",
        "allow-client-shm",
        "backend-directory",
        "backend-config",
        "repoagent-directory",
        "strict-model-config",
    ];

    fn table(heading: &str, reasons: &[(&str, &str)]) -> String {
        let rows = reasons.iter().map(|(name, reason)| format!("| `{}` | {reason} |\n", long(name)));
        format!("| {heading} | reason |\n|---|---|\n{}", rows.collect::<String>())
    }

    #[test]
    fn the_page_has_every_flag_of_triton() {
        let command = Cli::command();
        let known: BTreeSet<_> = command
            .get_arguments()
            .flat_map(|argument| argument.get_long_and_visible_aliases().into_iter().flatten())
            .chain(command.get_arguments().flat_map(|argument| argument.get_all_aliases().into_iter().flatten()))
            .collect();
        let others = [WithoutEffect::REASONS, Refused::REASONS].concat();
        let is_other = |flag: &str| others.iter().any(|(name, _)| long(name)[2..] == *flag);
        let (other, works): (Vec<_>, Vec<_>) = TRITON.iter().copied().partition(|flag| is_other(flag));
        assert_eq!(other.len(), others.len(), "flags that Triton does not have");
        for flag in &works {
            assert!(known.contains(flag), "--{flag} is unknown");
        }
        let works: Vec<_> = works.iter().map(|flag| format!("`--{flag}`")).collect();
        let tables = [
            format!("Honoured: {}.\n", works.join(", ")),
            table("without effect, with a warning", WithoutEffect::REASONS),
            table("refused, unless off", Refused::REASONS),
        ];
        page::check("docs/triton.md", &[("flags", tables.join("\n"))]);
    }
}
