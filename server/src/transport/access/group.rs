//! The groups of the API that Triton restricts, and the group of each path over HTTP and of each gRPC method.

/// A group of the API. The names are Triton's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Health,
    Metadata,
    Inference,
    SharedMemory,
    ModelConfig,
    ModelRepository,
    Statistics,
    Trace,
    Logging,
}

impl Group {
    const ALL: [(&str, Self); 9] = [
        ("health", Self::Health),
        ("metadata", Self::Metadata),
        ("inference", Self::Inference),
        ("shared-memory", Self::SharedMemory),
        ("model-config", Self::ModelConfig),
        ("model-repository", Self::ModelRepository),
        ("statistics", Self::Statistics),
        ("trace", Self::Trace),
        ("logging", Self::Logging),
    ];

    /// The group of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, group)| (known == name).then_some(group))
    }

    /// The names, separated by commas.
    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The group of a request's path; `None` for the paths of metrics and reflection, and for those that do not exist.
    pub(super) fn of(path: &str) -> Option<Self> {
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match segments[..] {
            ["v2"] | ["v2", "models", _] | ["v2", "models", _, "versions", _] if path != "/v2/models/stats" => {
                Some(Self::Metadata)
            }
            ["v2", "models", "stats"] => Some(Self::Statistics),
            ["v2", "health", _] => Some(Self::Health),
            ["v2", "models", _, "trace", "setting"] | ["v2", "trace", "setting"] => Some(Self::Trace),
            ["v2", "models", _, action] | ["v2", "models", _, "versions", _, action] => match action {
                "infer" => Some(Self::Inference),
                "ready" => Some(Self::Health),
                "config" => Some(Self::ModelConfig),
                "stats" => Some(Self::Statistics),
                _ => None,
            },
            ["v2", "logging"] => Some(Self::Logging),
            ["v2", "repository", ..] => Some(Self::ModelRepository),
            ["v2", "systemsharedmemory" | "cudasharedmemory", ..] => Some(Self::SharedMemory),
            ["embed" | "classify", ..] | ["page", "ask"] => Some(Self::Inference),
            ["model-info" | "gpu-info"] => Some(Self::Metadata),
            ["health" | "healthz"] | ["grpc.health.v1.Health", _] => Some(Self::Health),
            ["inference.GRPCInferenceService", method] => Self::of_method(method),
            _ => None,
        }
    }

    /// The group of a method of `inference.GRPCInferenceService`.
    fn of_method(method: &str) -> Option<Self> {
        Some(match method {
            "ServerLive" | "ServerReady" | "ModelReady" => Self::Health,
            "ServerMetadata" | "ModelMetadata" => Self::Metadata,
            "ModelInfer" | "ModelStreamInfer" => Self::Inference,
            "ModelConfig" => Self::ModelConfig,
            "ModelStatistics" => Self::Statistics,
            "RepositoryIndex" | "RepositoryModelLoad" | "RepositoryModelUnload" => Self::ModelRepository,
            "TraceSetting" => Self::Trace,
            "LogSettings" => Self::Logging,
            _ if method.starts_with("SystemSharedMemory") || method.starts_with("CudaSharedMemory") => {
                Self::SharedMemory
            }
            _ => return None,
        })
    }
}

/// Whether a path needs no token: it says only whether the server is alive and ready, which probes ask that have none, or
/// it is a file of the page, which a browser opens without one.
pub(super) fn is_open(path: &str) -> bool {
    is_health(path) || path == "/" || path.starts_with("/page/files/")
}

fn is_health(path: &str) -> bool {
    matches!(
        path,
        "/v2/health/live"
            | "/v2/health/ready"
            | "/health"
            | "/healthz"
            | "/inference.GRPCInferenceService/ServerLive"
            | "/inference.GRPCInferenceService/ServerReady"
            | "/grpc.health.v1.Health/Check"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_group() {
        for (path, group) in [
            ("/v2", Some(Group::Metadata)),
            ("/v2/models/a", Some(Group::Metadata)),
            ("/v2/models/infer", Some(Group::Metadata)),
            ("/v2/models/a/versions/infer", Some(Group::Metadata)),
            ("/v2/models/a/infer", Some(Group::Inference)),
            ("/v2/models/versions/infer", Some(Group::Inference)),
            ("/v2/models/a/versions/1/infer", Some(Group::Inference)),
            ("/v2/models/stats", Some(Group::Statistics)),
            ("/v2/models/a/versions/1/stats", Some(Group::Statistics)),
            ("/v2/models/a/trace/setting", Some(Group::Trace)),
            ("/v2/models/a/versions/1/config", Some(Group::ModelConfig)),
            ("/v2/repository/r/models/m/unload", Some(Group::ModelRepository)),
            ("/v2/cudasharedmemory/status", Some(Group::SharedMemory)),
            ("/embed/batch", Some(Group::Inference)),
            ("/grpc.health.v1.Health/Watch", Some(Group::Health)),
            ("/inference.GRPCInferenceService/ModelStreamInfer", Some(Group::Inference)),
            ("/inference.GRPCInferenceService/CudaSharedMemoryRegister", Some(Group::SharedMemory)),
            ("/metrics", None),
            ("/v2/models/a/other", None),
            ("", None),
        ] {
            assert_eq!(Group::of(path), group, "{path}");
        }
    }

    #[test]
    fn only_health_and_the_files_of_the_page_are_open() {
        assert!(is_open("/") && is_open("/page/files/page.css"));
        assert!(is_open("/v2/health/ready") && is_open("/grpc.health.v1.Health/Check"));
        for path in [
            "/v2/health/ready/",
            "/v2/models/a/ready",
            "/metrics",
            "/grpc.health.v1.Health/Watch",
            "/page/ask",
            "/page/status",
            "/page",
            "/page/files",
        ] {
            assert!(!is_open(path), "{path}");
        }
    }
}
