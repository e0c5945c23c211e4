//! The state of a server's GPUs by a metrics page: `nv_gpu_*` of Triton and of this server, `quintet_gpu_*`, or
//! `DCGM_FI_DEV_*` of NVIDIA's dcgm-exporter.

use std::collections::BTreeMap;

use super::page::{Sample, samples};
use crate::model::machine::GpuState;

/// DCGM writes values from here on for what is unknown: 2^47 for a floating number, about 2^63 for an integer.
const UNKNOWN: f64 = 140_737_488_355_328.0;

/// Bits of NVML's clock event reasons, which DCGM has too. An idle GPU, and clocks that the user set, are no reasons.
const REASONS: [(u64, &str); 6] = [
    (0x04, "power"),
    (0x08, "hardware"),
    (0x10, "sync-boost"),
    (0x20, "thermal"),
    (0x40, "thermal"),
    (0x80, "power-brake"),
];

/// GPUs as a metrics page names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gpus {
    /// Their state, in the order of their names; none if the page has no metrics of GPUs.
    pub states: Vec<GpuState>,
    /// Their models, e.g. `NVIDIA H200`; only dcgm-exporter gives them.
    pub models: Vec<String>,
    /// The version of the driver; only dcgm-exporter gives it.
    pub driver: Option<String>,
}

impl Gpus {
    /// Reads a page in Prometheus' text format.
    pub fn parse(page: &str) -> Self {
        let mut states: BTreeMap<String, GpuState> = BTreeMap::new();
        let mut models: BTreeMap<String, String> = BTreeMap::new();
        let mut driver = None;
        for Sample { name, labels, value } in samples(page) {
            let label = |names: &[&str]| names.iter().find_map(|name| labels.get(name)).cloned();
            let Some(gpu) = label(&["gpu_uuid", "UUID", "gpu"]) else { continue };
            let Some(set) = setter(name).filter(|_| value < UNKNOWN) else { continue };
            set(
                states.entry(gpu.clone()).or_insert_with(|| GpuState { gpu: gpu.clone(), ..GpuState::default() }),
                value,
            );
            models.extend(label(&["modelName"]).map(|model| (gpu, model)));
            driver = label(&["DCGM_FI_DRIVER_VERSION"]).or(driver);
        }
        Self { states: states.into_values().collect(), models: models.into_values().collect(), driver }
    }
}

/// How to note a metric's value in a state; `None` for other metrics.
fn setter(metric: &str) -> Option<fn(&mut GpuState, f64)> {
    Some(match metric {
        "nv_gpu_utilization" => |gpu, share| gpu.utilization = Some(share),
        "DCGM_FI_DEV_GPU_UTIL" => |gpu, percent| gpu.utilization = Some(percent / 100.0),
        "nv_gpu_memory_used_bytes" => |gpu, bytes| gpu.memory_used_bytes = Some(bytes),
        "DCGM_FI_DEV_FB_USED" => |gpu, mebibytes| gpu.memory_used_bytes = Some(mebibytes * f64::from(1 << 20)),
        "nv_gpu_power_usage" | "DCGM_FI_DEV_POWER_USAGE" => |gpu, watts| gpu.power_watts = Some(watts),
        "quintet_gpu_sm_clock_mhz" | "DCGM_FI_DEV_SM_CLOCK" => |gpu, mhz| gpu.sm_clock_mhz = Some(mhz),
        "quintet_gpu_temperature_celsius" | "DCGM_FI_DEV_GPU_TEMP" => {
            |gpu, degrees| gpu.temperature_celsius = Some(degrees)
        }
        "quintet_gpu_throttle_reasons" | "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS" | "DCGM_FI_DEV_CLOCKS_EVENT_REASONS" => {
            |gpu, mask| gpu.throttled_by = reasons(mask as u64)
        }
        _ => return None,
    })
}

/// The reasons in a bit mask, each once.
fn reasons(mask: u64) -> Vec<String> {
    let mut names: Vec<String> =
        REASONS.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `server/src/observe/device_metrics.rs` writes it.
    const OURS: &str = r#"# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 25000000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1024
nv_gpu_power_usage{gpu_uuid="GPU-1"} 98.5
nv_energy_consumption{gpu_uuid="GPU-1"} 12.25
quintet_gpu_sm_clock_mhz{gpu_uuid="GPU-1"} 1980
quintet_gpu_temperature_celsius{gpu_uuid="GPU-1"} 41
quintet_gpu_throttle_reasons{gpu_uuid="GPU-1"} 68
nv_cpu_utilization 0.25
"#;

    /// As dcgm-exporter's documentation and its label set have it, with a blank value for an unknown temperature.
    const DCGM: &str = r#"# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-604ac76c",device="nvidia0",modelName="NVIDIA A100-SXM4-40GB",Hostname="a",DCGM_FI_DRIVER_VERSION="535.104.05"} 1410
DCGM_FI_DEV_SM_CLOCK{gpu="1",UUID="GPU-704ac76c",device="nvidia1",modelName="NVIDIA A100-SXM4-40GB",Hostname="a",DCGM_FI_DRIVER_VERSION="535.104.05"} 210
DCGM_FI_DEV_MEMORY_TEMP{gpu="0",UUID="GPU-604ac76c"} 9223372036854775794
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-604ac76c"} 55
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-704ac76c"} 9223372036854775794
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-604ac76c"} 251.3
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-604ac76c"} 97
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-604ac76c"} 1024
DCGM_FI_DEV_CLOCKS_EVENT_REASONS{gpu="0",UUID="GPU-604ac76c"} 3
"#;

    #[test]
    fn reads_this_servers_page() {
        let state = GpuState {
            gpu: "GPU-1".into(),
            utilization: Some(0.5),
            memory_used_bytes: Some(1024.0),
            sm_clock_mhz: Some(1980.0),
            power_watts: Some(98.5),
            temperature_celsius: Some(41.0),
            throttled_by: vec!["power".into(), "thermal".into()],
        };
        assert_eq!(Gpus::parse(OURS), Gpus { states: vec![state], ..Gpus::default() });
    }

    #[test]
    fn reads_dcgms_page() {
        let gpus = Gpus::parse(DCGM);
        let [first, second] = &gpus.states[..] else { panic!("two GPUs") };
        assert_eq!((first.utilization, first.power_watts, first.sm_clock_mhz), (Some(0.97), Some(251.3), Some(1410.0)));
        assert_eq!((first.memory_used_bytes, first.temperature_celsius), (Some(1_073_741_824.0), Some(55.0)));
        assert!(first.throttled_by.is_empty(), "idle and the user's clocks are no reasons");
        assert_eq!((second.sm_clock_mhz, second.temperature_celsius), (Some(210.0), None), "a blank is unknown");
        assert_eq!(gpus.models, ["NVIDIA A100-SXM4-40GB"; 2]);
        assert_eq!(gpus.driver.as_deref(), Some("535.104.05"));
    }

    #[test]
    fn without_a_gpu_nothing_is_invented() {
        let page = "nv_inference_count{model=\"m\",gpu_uuid=\"GPU-1\"} 3\nnv_cpu_utilization 0.5\n<html>\n";
        assert_eq!(Gpus::parse(page), Gpus::default());
    }

    #[test]
    fn each_reason_is_named_once() {
        assert_eq!(reasons(0x60), ["thermal"]);
        assert_eq!(reasons(0x1), [""; 0]);
        assert_eq!(reasons(0x9c), ["power", "hardware", "sync-boost", "power-brake"]);
    }

    proptest! {
        #[test]
        fn no_page_causes_a_panic(page: String, value: f64) {
            let _ = Gpus::parse(&page);
            let _ = Gpus::parse(&format!("DCGM_FI_DEV_CLOCKS_EVENT_REASONS{{gpu=\"0\"}} {value}\n{page}"));
        }
    }
}
