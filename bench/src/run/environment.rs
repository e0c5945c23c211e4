//! Describes the client's machine, system, program and command line.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::model::environment::Environment;

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

/// Libraries on a request's way.
const LIBRARIES: [&str; 7] = ["h2", "hdrhistogram", "http", "hyper", "prost", "tokio", "tonic"];

/// Models of the GPUs that the NVIDIA driver lists.
fn gpus() -> Vec<String> {
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let mut cards: Vec<_> = cards.map(|card| card.path().join("information")).collect();
    cards.sort();
    let texts = cards.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    texts.filter_map(|text| field(&text, "Model", ':').map(str::to_owned)).collect()
}

/// The versions of some packages in a Cargo.lock.
fn versions(lock: &str, names: &[&str]) -> BTreeMap<String, String> {
    let packages = lock.split("[[package]]");
    let package = |text: &str| {
        let value = |key| field(text, key, '=').map(|value| value.trim_matches('"').to_owned());
        Some((value("name")?, value("version")?))
    };
    packages.filter_map(package).filter(|(name, _)| names.contains(&name.as_str())).collect()
}

/// The value of the first `key<separator>value` line.
fn field<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(separator)).find(|(k, _)| k.trim() == key).map(|(_, v)| v.trim())
}

/// A time in UTC as `YYYYMMDDTHHMMSSZ` (ISO 8601, basic form: fit for a folder's name).
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a date in the Gregorian calendar, counted in years that begin with March (era of 400 years).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
    fn fields_are_found() {
        assert_eq!(field("a : 1\nmodel name\t: X Y\n", "model name", ':'), Some("X Y"));
        assert_eq!(field("", "model name", ':'), None);
    }
}
