//! The GPUs, as NVIDIA's management library (NVML) sees them; none where it is not there.

use std::sync::LazyLock;

use nvml_wrapper::Nvml;

/// The library, opened once. That there is none is no error: the driver brings it.
static NVML: LazyLock<Option<Nvml>> = LazyLock::new(|| match Nvml::init() {
    Ok(nvml) => Some(nvml),
    Err(error) => {
        tracing::debug!(%error, "NVML is not there: no GPU metrics");
        None
    }
});

/// The name of a GPU, e.g. `NVIDIA GeForce RTX 4090`; `None` if there is none of this number, or no driver.
/// CUDA's numbers are NVML's unless `CUDA_VISIBLE_DEVICES` hides some.
pub fn name(index: i32) -> Option<String> {
    let index = u32::try_from(index).ok()?;
    NVML.as_ref()?.device_by_index(index).ok()?.name().ok()
}
