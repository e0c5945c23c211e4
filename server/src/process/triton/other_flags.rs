//! Triton's flags that are accepted without effect, and those that are refused.

use clap::{ArgAction, Args};

/// Declares flags that accept any value or none, and a method that lists the given ones.
macro_rules! flags {
    ($(#[doc = $doc:literal])+ $set:ident: $($name:ident)+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, Args)]
        pub(super) struct $set {
            $(#[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Append)]
            $name: Vec<String>,)+
        }

        impl $set {
            /// The flags given, with their values.
            pub(super) fn given(&self) -> Vec<(String, &[String])> {
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
    /// Triton's flags that have no effect here: its memory pools and threads, and features whose absence a client does
    /// not notice.
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
    /// Triton's flags that must not be ignored: they change the meaning of names, or serve another protocol.
    Refused:
    model_namespacing allow_sagemaker allow_vertex_ai
}
