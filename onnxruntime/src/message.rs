//! What ONNX Runtime says, for people.

/// ONNX Runtime's messages begin with a source location and may run over many lines; the end of the
/// first sentence that names the missing library is what a person needs.
pub fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 300;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // e.g. "/onnxruntime_src/.../provider_bridge_ort.cc:1992 onnxruntime::Provider& ...::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load ..."
    let line = line.rsplit_once(" : FAIL : ").map_or(line.as_str(), |(_, reason)| reason);
    // e.g. "... Failed to parse provider option "device_id": CUDA failure 35: CUDA driver version is ... ; GPU=-1 ; hostname=..."
    let failure =
        |told: &str| told.rfind(" failure ").and_then(|at| told[..at].rfind(' ')).map_or(0, |space| space + 1);
    let line = line.split_once(" ; GPU=").map_or(line, |(told, _)| &told[failure(told)..]);
    line.trim_end_matches('.').chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_in_a_line() {
        let message = "/src/provider_bridge.cc:1992 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library\n \
                       libcublasLt.so.13: cannot open shared object file";
        assert_eq!(one_line(message), "Failed to load library libcublasLt.so.13: cannot open shared object file");
        // With CUDA's libraries, but a driver that is too old, or none.
        let message = "/src/core/common/provider_options_utils.h:187 Parse Failed to parse provider option \"device_id\": \
                       CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=vm ; \
                       file=/src/cuda_execution_provider_info.cc ; line=70 ; expr=cudaGetDeviceCount(&num_devices); ";
        assert_eq!(one_line(message), "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version");
        assert_eq!(one_line("failure ; GPU=-1"), "failure");
        assert_eq!(
            one_line("CUDA execution provider is not enabled in this build."),
            "CUDA execution provider is not enabled in this build"
        );
    }
}
