//! Describes the client's machine, system, program and command line.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use serde::Deserialize;
use time::OffsetDateTime;

use crate::model::{environment::Environment, words::list};

impl Environment {
    /// Describes this machine and process.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/etc/os-release");
        let os = field(&release, "PRETTY_NAME", '=').map_or(std::env::consts::OS, |name| name.trim_matches('"'));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal", ':')
                .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map(|kib| kib * 1024),
            os: format!("{os} {}", kernel.trim()).trim().to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            load_average: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()),
            governor: governors(Path::new(CPUS)),
            turbo: turbo(Path::new(CPUS)),
            gpus: gpus(),
            gpu_driver: read("/sys/module/nvidia/version").lines().next().map(str::to_owned),
            commit: option_env!("QUINTET_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned),
            libraries: versions(include_str!("../../../Cargo.lock"), &LIBRARIES),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
            command_line: std::env::args().collect(),
        }
    }
}

/// Libraries that a request passes through.
const LIBRARIES: [&str; 7] = ["h2", "hdrhistogram", "http", "hyper", "prost", "tokio", "tonic"];

/// Where Linux describes its CPUs (Documentation/admin-guide/pm/cpufreq.rst).
const CPUS: &str = "/sys/devices/system/cpu";

/// The governors of all CPUs, each once; `None` where clocks cannot be seen, as in most virtual machines.
fn governors(cpus: &Path) -> Option<String> {
    let entries = std::fs::read_dir(cpus).ok()?.flatten();
    let governor =
        |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("cpufreq/scaling_governor")).ok();
    let mut names: Vec<String> = entries.filter_map(governor).map(|text| text.trim().to_owned()).collect();
    names.sort();
    names.dedup();
    (!names.is_empty()).then(|| list(names))
}

/// Whether CPUs may exceed their nominal clock: Intel's driver has the flag reversed.
fn turbo(cpus: &Path) -> Option<bool> {
    let flag = |path: &str| Some(std::fs::read_to_string(cpus.join(path)).ok()?.trim() == "1");
    flag("intel_pstate/no_turbo").map(|no_turbo| !no_turbo).or_else(|| flag("cpufreq/boost"))
}

/// Models of the GPUs that the NVIDIA driver lists.
fn gpus() -> Vec<String> {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut cards: Vec<_> = cards.map(|card| card.path().join("information")).collect();
    cards.sort();
    let texts = cards.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter_map(|text| field(&text, "Model", ':').map(str::to_owned)).collect()
}

/// The packages of a Cargo.lock.
#[derive(Default, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// The versions of some packages in a Cargo.lock.
fn versions(lock: &str, names: &[&str]) -> BTreeMap<String, String> {
    let lock: Lock = toml::from_str(lock).unwrap_or_default();
    let packages = lock.package.into_iter().filter(|package| names.contains(&package.name.as_str()));
    packages.map(|package| (package.name, package.version)).collect()
}

/// The value of the first `key<separator>value` line.
fn field<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(separator)).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}

/// A time in UTC as `YYYYMMDDTHHMMSSZ` (ISO 8601, basic form: fit for a folder's name).
pub fn utc(time: SystemTime) -> String {
    let (date, time) = (OffsetDateTime::from(time).date(), OffsetDateTime::from(time).time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn dates_are_right() {
        // date -u -d @N +%Y%m%dT%H%M%SZ
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_771_630_012, "20260220T232652Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn every_library_has_a_version() {
        let libraries = Environment::here().libraries;
        assert_eq!(libraries.len(), LIBRARIES.len(), "{libraries:?}");
        assert!(libraries["hyper"].starts_with("1."), "{libraries:?}");
    }

    #[test]
    fn clocks_are_read_from_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        let (cpus, write) = (folder.path(), |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        });
        assert_eq!((governors(cpus), turbo(cpus)), (None, None));
        write("cpu0/cpufreq/scaling_governor", "powersave\n");
        write("cpu1/cpufreq/scaling_governor", "performance\n");
        write("cpufreq/boost", "1\n");
        assert_eq!((governors(cpus).as_deref(), turbo(cpus)), (Some("performance, powersave"), Some(true)));
        write("intel_pstate/no_turbo", "1\n");
        assert_eq!(turbo(cpus), Some(false));
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(field("a : 1\nmodel name\t: X Y\n", "model name", ':'), Some("X Y"));
        assert_eq!(field("", "model name", ':'), None);
    }
}
