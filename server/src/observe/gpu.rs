//! Readings of the GPUs from NVIDIA's management library (NVML); empty without the library.

use std::sync::LazyLock;

use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{Clock, TemperatureSensor},
};

/// The library, opened once. It is part of the driver, so a machine without a GPU does not have it.
static NVML: LazyLock<Option<Nvml>> = LazyLock::new(|| match Nvml::init() {
    Ok(nvml) => Some(nvml),
    Err(error) => {
        tracing::debug!(%error, "NVML is not available: no GPU metrics");
        None
    }
});

/// Energy used by each GPU at its first reading, in millijoules.
static ENERGY_BEFORE: LazyLock<Vec<Option<u64>>> =
    LazyLock::new(|| devices().map(|device| device.total_energy_consumption().ok()).collect());

/// A reading of a GPU; `None` for values that it does not report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// `GPU-...`
    pub uuid: String,
    /// Share of time in which a kernel ran, 0 to 1.
    pub utilization: Option<f64>,
    /// Its total memory.
    pub memory_total_bytes: Option<f64>,
    /// Memory in use by all processes.
    pub memory_used_bytes: Option<f64>,
    /// Power that it uses.
    pub power_usage_watts: Option<f64>,
    /// Power that it may use.
    pub power_limit_watts: Option<f64>,
    /// Energy since the first reading.
    pub energy_joules: Option<f64>,
    /// Clock of the multiprocessors.
    pub sm_clock_mhz: Option<f64>,
    /// Temperature of the die.
    pub temperature_celsius: Option<f64>,
    /// Why the clocks are below their highest, as NVML's bit mask of clock event reasons.
    pub throttle_reasons: Option<f64>,
}

/// The name of a GPU, e.g. `NVIDIA GeForce RTX 4090`; `None` without a GPU of this number or without a driver.
/// CUDA's numbers equal NVML's unless `CUDA_VISIBLE_DEVICES` hides some GPUs.
pub fn name(index: i32) -> Option<String> {
    let index = u32::try_from(index).ok()?;
    NVML.as_ref()?.device_by_index(index).ok()?.name().ok()
}

/// Memory in use by all processes on each GPU, in bytes; empty without a driver.
pub fn memory_used_bytes() -> Vec<u64> {
    devices().map(|device| device.memory_info().map_or(0, |memory| memory.used)).collect()
}

/// The version of the driver, e.g. `570.86.15`; `None` without one.
pub fn driver() -> Option<String> {
    NVML.as_ref()?.sys_driver_version().ok()
}

/// Reads all GPUs. Blocks while the driver answers, about a millisecond for each GPU.
pub fn readings() -> Vec<Reading> {
    devices().zip(ENERGY_BEFORE.iter()).filter_map(|(device, &before)| reading(&device, before)).collect()
}

fn devices() -> impl Iterator<Item = Device<'static>> {
    let nvml = NVML.as_ref();
    let count = nvml.and_then(|nvml| nvml.device_count().ok()).unwrap_or(0);
    (0..count).filter_map(move |index| nvml?.device_by_index(index).ok())
}

fn reading(device: &Device<'_>, energy_before: Option<u64>) -> Option<Reading> {
    let memory = device.memory_info().ok();
    let energy = device.total_energy_consumption().ok();
    let thousandths = |value: u64| value as f64 / 1000.0;
    Some(Reading {
        uuid: device.uuid().ok()?,
        utilization: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total as f64),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used as f64),
        power_usage_watts: device.power_usage().ok().map(|milliwatts| thousandths(milliwatts.into())),
        power_limit_watts: device.enforced_power_limit().ok().map(|milliwatts| thousandths(milliwatts.into())),
        sm_clock_mhz: device.clock_info(Clock::SM).ok().map(f64::from),
        temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        throttle_reasons: device.current_throttle_reasons().ok().map(|reasons| reasons.bits() as f64),
        energy_joules: energy.zip(energy_before).map(|(now, before)| thousandths(now.saturating_sub(before))),
    })
}
