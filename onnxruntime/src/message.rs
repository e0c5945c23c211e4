//! Shortens ONNX Runtime's error messages for logs and users.

/// The reason in an error message, as one line of at most 300 characters. ONNX Runtime's messages begin with a source
/// location and may have many lines.
pub fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 300;
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // Drop what precedes the status, e.g. "/onnxruntime_src/.../provider_bridge_ort.cc:1992 onnxruntime::Provider&
    // ...::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load ..."
    let line = line.rsplit_once(" : FAIL : ").map_or(line.as_str(), |(_, reason)| reason);
    // Keep the CUDA error only, e.g. of "... Failed to parse provider option "device_id": CUDA failure 35: CUDA driver
    // version is ... ; GPU=-1 ; hostname=..."
    let cuda_error_start =
        |text: &str| text.rfind(" failure ").and_then(|at| text[..at].rfind(' ')).map_or(0, |space| space + 1);
    let line = line.split_once(" ; GPU=").map_or(line, |(text, _)| &text[cuda_error_start(text)..]);
    line.trim_end_matches('.').chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_reason_only() {
        let message = "/src/provider_bridge.cc:1992 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library\n \
                       libcublasLt.so.13: cannot open shared object file";
        assert_eq!(one_line(message), "Failed to load library libcublasLt.so.13: cannot open shared object file");
        // CUDA's libraries are installed, but the driver is missing or too old.
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
