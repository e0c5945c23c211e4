//! Whether a measured compute time can be true: lower bounds from results that others have published.

use super::run::Compute;

/// A lower bound on the time of ResNet-50 for one image.
struct Bound {
    gpu: &'static str,
    /// The beginning of the provider's name.
    provider: &'static str,
    least_ms: f64,
    source: &'static str,
}

/// Below MLPerf Inference's results for a single stream of ResNet-50 on one RTX 4090, which include the harness: ONNX Runtime with
/// CUDA in FP32 took 0.98 ms (v5.1, open division), TensorRT in INT8, its fastest precision, 0.305 ms on two (closed, edge).
const BOUNDS: [Bound; 3] = [
    Bound { gpu: "RTX 4090", provider: "CUDA", least_ms: 0.9, source: "MLPerf v5.1, open: 0.98 ms in FP32" },
    Bound { gpu: "RTX 4090", provider: "Tensorrt", least_ms: 0.25, source: "MLPerf v5.1, closed: 0.305 ms in INT8" },
    Bound {
        gpu: "RTX 4090",
        provider: "NvTensorRTRTX",
        least_ms: 0.25,
        source: "MLPerf v5.1, closed: 0.305 ms in INT8",
    },
];

/// What is known against a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is not below the bound.
    Plausible { least_ms: f64, source: &'static str },
    /// It is below the bound: something was measured wrong.
    Implausible { least_ms: f64, source: &'static str },
    /// There is no bound for this GPU, provider and model.
    Unknown,
}

/// Judges a time on the GPU with this description.
pub(super) fn judge(gpu: &str, arch: &str, compute: &Compute) -> Verdict {
    let applies = |bound: &&Bound| gpu.contains(bound.gpu) && compute.provider.starts_with(bound.provider);
    match BOUNDS.iter().find(applies).filter(|_| arch == "resnet50") {
        Some(&Bound { least_ms, source, .. }) if compute.ms < least_ms => Verdict::Implausible { least_ms, source },
        Some(&Bound { least_ms, source, .. }) => Verdict::Plausible { least_ms, source },
        None => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(gpu: &str, arch: &str, provider: &str, ms: f64) -> Verdict {
        judge(gpu, arch, &Compute { lane: "onnx-http".into(), provider: provider.into(), precision: None, ms })
    }

    #[test]
    fn a_4090_is_not_faster_than_published() {
        const GPU: &str = "NVIDIA GeForce RTX 4090, compute capability 8.9, 24564 MiB; driver 580.95.05 for CUDA 13.0";
        const CUDA: &str = "CUDAExecutionProvider";
        assert!(matches!(judged(GPU, "resnet50", CUDA, 0.89), Verdict::Implausible { .. }));
        assert!(matches!(judged(GPU, "resnet50", CUDA, 1.1), Verdict::Plausible { .. }));
        assert!(matches!(judged(GPU, "resnet50", "TensorrtExecutionProvider", 0.2), Verdict::Implausible { .. }));
        assert!(matches!(judged(GPU, "resnet50", "NvTensorRTRTXExecutionProvider", 0.4), Verdict::Plausible { .. }));
        assert_eq!(judged(GPU, "resnet18", CUDA, 0.4), Verdict::Unknown);
        assert_eq!(judged("NVIDIA A100-SXM4-80GB", "resnet50", CUDA, 0.4), Verdict::Unknown);
    }
}
