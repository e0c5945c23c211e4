//! ONNX Runtime's events about its own use, which it sends to its maker from 1.32 on.

use std::env;

/// The variable that keeps ONNX Runtime from sending them. With `EnvironmentBuilder::with_telemetry(false)` alone, 1.32 still
/// looks up the host that they go to.
const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Keeps ONNX Runtime, loaded later by this process, from sending events, unless [`VARIABLE`] is set to something already.
///
/// # Safety
/// The process has no other thread yet, since the environment must not change while another one reads it.
pub unsafe fn disable_telemetry() {
    if env::var_os(VARIABLE).is_none() {
        // SAFETY: the caller guarantees that no other thread runs.
        unsafe { env::set_var(VARIABLE, "1") };
    }
}
