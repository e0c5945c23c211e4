//! What a failed run means for the process, from the text of the backend's error: backends pass CUDA's errors on in their
//! messages only.

use quintet_engine::{ErrorKind, InferError};
use quintet_onnxruntime::one_line;

/// CUDA's errors after which "the process must be terminated and relaunched" to use CUDA again (documentation of
/// `cudaError_t`), and those of failed hardware, as number and as the text of `cudaGetErrorString`.
const STICKY: [(u32, &str); 15] = [
    (214, "uncorrectable ECC error encountered"),
    (220, "uncorrectable NVLink error detected during the execution"),
    (226, "Invalid access of peer GPU memory over nvlink or a hardware error"),
    (700, "an illegal memory access was encountered"),
    (702, "the launch timed out and was terminated"),
    (709, "context is destroyed"),
    (710, "device-side assert triggered"),
    (714, "hardware stack error"),
    (715, "an illegal instruction was encountered"),
    (716, "misaligned address"),
    (717, "operation not supported on global/shared address space"),
    (718, "invalid program counter"),
    (719, "unspecified launch failure"),
    (721, "tensor memory not completely freed"),
    (999, "unknown error"),
];

/// Parts of messages that a device, or the process, has no memory left for a run.
const NO_MEMORY: [&str; 7] = [
    "CUDA failure 2:",
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory for requested buffer",
    "is smaller than requested bytes of",
];

/// The kind of a failed run's error.
fn kind(message: &str) -> ErrorKind {
    // ONNX Runtime has the number, libtorch and TensorRT have the text.
    let is_of = |(number, text): &(u32, &str)| {
        [format!("CUDA failure {number}:"), format!("CUDA error: {text}"), format!("Cuda Runtime ({text})")]
            .iter()
            .any(|part| message.contains(part))
    };
    if STICKY.iter().any(is_of) {
        ErrorKind::DeviceLost
    } else if NO_MEMORY.iter().any(|part| message.contains(part)) {
        ErrorKind::NoMemory
    } else {
        ErrorKind::Internal
    }
}

/// The error of a failed run, for its requests: [`ErrorKind::DeviceLost`] if no later run on the device can succeed in this
/// process, [`ErrorKind::NoMemory`] if another run may, and else [`ErrorKind::Internal`].
pub fn run_error(error: impl std::fmt::Display) -> InferError {
    let message = error.to_string();
    match kind(&message) {
        ErrorKind::DeviceLost => InferError::new(
            ErrorKind::DeviceLost,
            format_args!("the GPU failed, and only a restart of the server helps: {}", one_line(&message)),
        ),
        ErrorKind::NoMemory => InferError::new(
            ErrorKind::NoMemory,
            format_args!("no memory for the run; try a smaller batch or fewer models: {}", one_line(&message)),
        ),
        kind => InferError::new(kind, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ONNX Runtime's `CudaCall` puts it (core/providers/cuda/cuda_call.cc).
    fn cuda(number: u32, text: &str) -> String {
        format!(
            "Non-zero status code returned while running Conv node. Name:'/layer1/conv1' Status Message: \
             /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, \
             onnxruntime::common::Status> onnxruntime::CudaCall(...) [with ERRTYPE = cudaError] CUDA failure {number}: \
             {text} ; GPU=0 ; hostname=vm ; file=/onnxruntime_src/cuda_execution_provider.cc ; line=446 ; \
             expr=cudaStreamSynchronize(stream); "
        )
    }

    #[test]
    fn sticky_errors_of_cuda_lose_the_device() {
        for (number, text) in STICKY {
            assert_eq!(kind(&cuda(number, text)), ErrorKind::DeviceLost, "{number}");
            assert_eq!(kind(&format!("CUDA error: {text}\nCompile with TORCH_USE_CUDA_DSA")), ErrorKind::DeviceLost);
        }
        let enqueue =
            "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access was encountered)";
        assert_eq!(kind(enqueue), ErrorKind::DeviceLost);
    }

    #[test]
    fn too_little_memory_is_the_requests_error() {
        for message in [
            cuda(2, "out of memory"),
            "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* \
             onnxruntime::BFCArena::AllocateRawInternal(...) Failed to allocate memory for requested buffer of size 1073741824"
                .to_owned(),
            "bfc_arena.cc:342 onnxruntime::BFCArena::AllocateRawInternal(...) Available memory of 1048576 is smaller than \
             requested bytes of 16777216"
                .to_owned(),
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=vm".to_owned(),
            "CUDA out of memory. Tried to allocate 20.00 MiB".to_owned(),
        ] {
            assert_eq!(kind(&message), ErrorKind::NoMemory, "{message}");
        }
    }

    #[test]
    fn other_errors_are_those_of_the_run() {
        for message in [
            cuda(35, "CUDA driver version is insufficient for CUDA runtime version"),
            cuda(70, "some error"),
            cuda(209, "no kernel image is available for execution on the device"),
            "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=vm".to_owned(),
            "Got invalid dimensions for input: x for the following indices index: 1 Got: 700 Expected: 999".to_owned(),
            "an unknown error".to_owned(),
        ] {
            assert_eq!(kind(&message), ErrorKind::Internal, "{message}");
        }
    }

    #[test]
    fn messages_name_the_cause_and_the_remedy() {
        insta::assert_snapshot!(
            run_error(cuda(700, "an illegal memory access was encountered")),
            @"the GPU failed, and only a restart of the server helps: CUDA failure 700: an illegal memory access was encountered"
        );
        insta::assert_snapshot!(
            run_error(cuda(2, "out of memory")),
            @"no memory for the run; try a smaller batch or fewer models: CUDA failure 2: out of memory"
        );
        assert_eq!(run_error("any other").to_string(), "any other");
    }
}
