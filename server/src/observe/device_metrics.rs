//! Metrics of the machine, under Triton's names where it has them: GPUs (from NVML), processors and memory.

use std::{
    fs,
    sync::LazyLock,
    time::{Duration, Instant},
};

use metrics::Label;
use parking_lot::Mutex;

use super::{
    gpu,
    metrics::{
        Format,
        text::{Family, labels},
    },
};

/// Shortest time between two readings of the processors: over less time the utilization is not meaningful.
const INTERVAL: Duration = Duration::from_secs(1);

/// Which devices have metrics, and how old their readings may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Whether GPUs have metrics.
    pub gpu: bool,
    /// Whether processors and memory have metrics.
    pub cpu: bool,
    /// For how long a reading is reported again.
    pub interval: Duration,
}

impl Default for DeviceOptions {
    /// All devices, read each time.
    fn default() -> Self {
        Self { gpu: true, cpu: true, interval: Duration::ZERO }
    }
}

/// The metrics of the machine.
#[derive(Default)]
pub struct DeviceMetrics {
    options: DeviceOptions,
    last: Mutex<Option<(Instant, Reading)>>,
}

/// A reading of the devices.
#[derive(Clone, Default)]
struct Reading {
    gpus: Vec<gpu::Reading>,
    cpu: Cpu,
}

impl DeviceMetrics {
    /// Metrics with these options.
    pub fn new(options: DeviceOptions) -> Self {
        Self { options, last: Mutex::default() }
    }

    /// All metrics in this format, without those that the machine does not report. Blocks while GPUs are read.
    pub fn render(&self, format: Format) -> String {
        let reading = self.reading(Instant::now(), || self.read());
        text(&reading.gpus, &reading.cpu, format)
    }

    fn read(&self) -> Reading {
        Reading {
            gpus: if self.options.gpu { gpu::readings() } else { Vec::new() },
            cpu: if self.options.cpu { cpu() } else { Cpu::default() },
        }
    }

    /// The last reading, or a new one if that is too old.
    fn reading(&self, now: Instant, read: impl FnOnce() -> Reading) -> Reading {
        let mut last = self.last.lock();
        match &*last {
            Some((at, reading)) if now.saturating_duration_since(*at) < self.options.interval => reading.clone(),
            _ => last.insert((now, read())).1.clone(),
        }
    }
}

/// A metric's name, type and help text, and how to get its value from a reading.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> Option<f64>);

const GPU: [Metric<gpu::Reading>; 9] = [
    ("nv_gpu_utilization", "gauge", "GPU utilization rate [0.0 - 1.0)", |gpu| gpu.utilization),
    ("nv_gpu_memory_total_bytes", "gauge", "GPU total memory, in bytes", |gpu| gpu.memory_total_bytes),
    ("nv_gpu_memory_used_bytes", "gauge", "GPU used memory, in bytes", |gpu| gpu.memory_used_bytes),
    ("nv_gpu_power_usage", "gauge", "GPU power usage in watts", |gpu| gpu.power_usage_watts),
    ("nv_gpu_power_limit", "gauge", "GPU power management limit in watts", |gpu| gpu.power_limit_watts),
    ("nv_energy_consumption", "counter", "GPU energy consumption in joules since the server started", |gpu| {
        gpu.energy_joules
    }),
    // Triton has no such metrics.
    ("quintet_gpu_sm_clock_mhz", "gauge", "Clock of the GPU's multiprocessors in MHz", |gpu| gpu.sm_clock_mhz),
    ("quintet_gpu_temperature_celsius", "gauge", "GPU temperature in degrees Celsius", |gpu| gpu.temperature_celsius),
    (
        "quintet_gpu_throttle_reasons",
        "gauge",
        "Why the GPU's clocks are below their highest: NVML's bit mask of clock event reasons",
        |gpu| gpu.throttle_reasons,
    ),
];

const CPU: [Metric<Cpu>; 3] = [
    ("nv_cpu_utilization", "gauge", "CPU utilization rate [0.0 - 1.0]", |cpu| cpu.utilization),
    ("nv_cpu_memory_total_bytes", "gauge", "CPU total memory (RAM), in bytes", |cpu| cpu.memory_total_bytes),
    ("nv_cpu_memory_used_bytes", "gauge", "CPU used memory (RAM), in bytes", |cpu| cpu.memory_used_bytes),
];

/// A reading of the processors and the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cpu {
    utilization: Option<f64>,
    memory_total_bytes: Option<f64>,
    memory_used_bytes: Option<f64>,
}

fn text(gpus: &[gpu::Reading], cpu: &Cpu, format: Format) -> String {
    let of_gpus = GPU.map(|(name, kind, help, value_of)| {
        let mut family = Family::new(format, kind, (name, help));
        for (gpu, value) in gpus.iter().filter_map(|gpu| Some((gpu, value_of(gpu)?))) {
            family.sample(&labels(vec![Label::new("gpu_uuid", gpu.uuid.clone())]), value);
        }
        family
    });
    let of_cpu = CPU.map(|(name, kind, help, value_of)| {
        let mut family = Family::new(format, kind, (name, help));
        value_of(cpu).into_iter().for_each(|value| family.sample(&labels(vec![]), value));
        family
    });
    of_gpus.into_iter().chain(of_cpu).filter_map(Family::into_text).collect()
}

/// Jiffies since the machine started.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Jiffies {
    busy: u64,
    all: u64,
}

/// Time, counters and utilization of the last reading of the processors.
static LAST: LazyLock<Mutex<Option<(Instant, Jiffies, f64)>>> = LazyLock::new(Mutex::default);

fn cpu() -> Cpu {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let (total, available) = (memory_bytes(&memory, "MemTotal"), memory_bytes(&memory, "MemAvailable"));
    Cpu {
        utilization: jiffies(&read("/proc/stat")).map(|now| utilization(&mut LAST.lock(), Instant::now(), now)),
        memory_total_bytes: total,
        memory_used_bytes: total.zip(available).map(|(total, available)| total - available),
    }
}

/// The share of busy time since the last reading, or since the machine started for the first reading.
fn utilization(last: &mut Option<(Instant, Jiffies, f64)>, now: Instant, jiffies: Jiffies) -> f64 {
    let before = match *last {
        Some((read, _, share)) if now - read < INTERVAL => return share,
        Some((_, before, _)) => before,
        None => Jiffies { busy: 0, all: 0 },
    };
    let all = jiffies.all.saturating_sub(before.all).max(1);
    let share = jiffies.busy.saturating_sub(before.busy) as f64 / all as f64;
    *last = Some((now, jiffies, share));
    share
}

/// Parses the line `cpu  user nice system idle iowait irq softirq steal ...`; guest times are included in user and
/// nice.
fn jiffies(stat: &str) -> Option<Jiffies> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let (all, idle) = (times.iter().sum::<u64>(), times.get(3)? + times.get(4)?);
    Some(Jiffies { busy: all - idle, all })
}

/// Parses a line such as `MemTotal:       16384 kB`.
fn memory_bytes(meminfo: &str, name: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_tritons_names_labels_and_units() {
        let gpu = gpu::Reading {
            uuid: "GPU-1".into(),
            utilization: Some(0.5),
            memory_total_bytes: Some(25e9),
            memory_used_bytes: Some(1024.0),
            power_usage_watts: Some(98.5),
            power_limit_watts: None,
            energy_joules: Some(12.25),
            sm_clock_mhz: Some(1980.0),
            temperature_celsius: Some(41.0),
            throttle_reasons: Some(68.0),
        };
        let cpu = Cpu { utilization: Some(0.25), memory_total_bytes: Some(2048.0), memory_used_bytes: Some(1024.0) };
        insta::assert_snapshot!(text(&[gpu], &cpu, Format::Text), @r#"
        # HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
        # TYPE nv_gpu_utilization gauge
        nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
        # HELP nv_gpu_memory_total_bytes GPU total memory, in bytes
        # TYPE nv_gpu_memory_total_bytes gauge
        nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 25000000000
        # HELP nv_gpu_memory_used_bytes GPU used memory, in bytes
        # TYPE nv_gpu_memory_used_bytes gauge
        nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1024
        # HELP nv_gpu_power_usage GPU power usage in watts
        # TYPE nv_gpu_power_usage gauge
        nv_gpu_power_usage{gpu_uuid="GPU-1"} 98.5
        # HELP nv_energy_consumption GPU energy consumption in joules since the server started
        # TYPE nv_energy_consumption counter
        nv_energy_consumption{gpu_uuid="GPU-1"} 12.25
        # HELP quintet_gpu_sm_clock_mhz Clock of the GPU's multiprocessors in MHz
        # TYPE quintet_gpu_sm_clock_mhz gauge
        quintet_gpu_sm_clock_mhz{gpu_uuid="GPU-1"} 1980
        # HELP quintet_gpu_temperature_celsius GPU temperature in degrees Celsius
        # TYPE quintet_gpu_temperature_celsius gauge
        quintet_gpu_temperature_celsius{gpu_uuid="GPU-1"} 41
        # HELP quintet_gpu_throttle_reasons Why the GPU's clocks are below their highest: NVML's bit mask of clock event reasons
        # TYPE quintet_gpu_throttle_reasons gauge
        quintet_gpu_throttle_reasons{gpu_uuid="GPU-1"} 68
        # HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
        # TYPE nv_cpu_utilization gauge
        nv_cpu_utilization 0.25
        # HELP nv_cpu_memory_total_bytes CPU total memory (RAM), in bytes
        # TYPE nv_cpu_memory_total_bytes gauge
        nv_cpu_memory_total_bytes 2048
        # HELP nv_cpu_memory_used_bytes CPU used memory (RAM), in bytes
        # TYPE nv_cpu_memory_used_bytes gauge
        nv_cpu_memory_used_bytes 1024
        "#);
        assert_eq!(text(&[], &Cpu::default(), Format::Text), "");
    }

    #[test]
    fn a_reading_is_reported_again_for_its_interval() {
        let metrics = DeviceMetrics::new(DeviceOptions { interval: INTERVAL, ..DeviceOptions::default() });
        let (start, memory) = (Instant::now(), |bytes| Reading {
            cpu: Cpu { memory_used_bytes: Some(bytes), ..Cpu::default() },
            ..Reading::default()
        });
        let used = |after, bytes| metrics.reading(start + after, || memory(bytes)).cpu.memory_used_bytes;
        assert_eq!(used(Duration::ZERO, 1.0), Some(1.0));
        assert_eq!(used(INTERVAL / 2, 2.0), Some(1.0));
        assert_eq!(used(INTERVAL, 3.0), Some(3.0));
        let metrics = DeviceMetrics::default();
        assert_eq!(metrics.reading(start, || memory(1.0)).cpu.memory_used_bytes, Some(1.0));
        assert_eq!(metrics.reading(start, || memory(2.0)).cpu.memory_used_bytes, Some(2.0), "each time");
    }

    #[test]
    fn devices_can_be_left_out() {
        let none = DeviceOptions { gpu: false, cpu: false, interval: Duration::ZERO };
        assert_eq!(DeviceMetrics::new(none).render(Format::Text), "");
        assert!(
            DeviceMetrics::new(DeviceOptions { cpu: true, ..none })
                .render(Format::Text)
                .contains("nv_cpu_memory_total_bytes ")
        );
    }

    #[test]
    fn utilization_is_the_busy_share_between_two_readings() {
        let mut last = None;
        let start = Instant::now();
        let first = jiffies("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 2 3").unwrap();
        assert_eq!(first, Jiffies { busy: 20, all: 100 });
        assert_eq!(utilization(&mut last, start, first), 0.2);
        let next = Jiffies { busy: 70, all: 200 };
        assert_eq!(utilization(&mut last, start + INTERVAL / 2, next), 0.2);
        assert_eq!(utilization(&mut last, start + INTERVAL, next), 0.5);
        assert_eq!(jiffies("intr 1 2"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let meminfo = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:   4 kB\n";
        assert_eq!(memory_bytes(meminfo, "MemTotal"), Some(16384.0));
        assert_eq!(memory_bytes(meminfo, "MemAvailable"), Some(4096.0));
        assert_eq!(memory_bytes(meminfo, "Swap"), None);
    }
}
