//! The machine that is checked, as a report of a problem needs it.

use std::{fs, path::Path, process::Command};

use anyhow::ensure;
use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use crate::project::root;

/// The machine and the versions of what runs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// Name, compute capability and memory of each GPU, and the driver.
    pub(super) gpu: String,
    /// Model and number of the processors.
    pub(super) cpu: String,
    /// The kernel.
    pub(super) system: String,
    /// The file of ONNX Runtime.
    pub(super) onnxruntime: String,
    /// The commit of this project.
    pub(super) commit: String,
}

impl Host {
    /// This machine; `gpu` is what [`gpus`] said. What cannot be found out is "unknown".
    pub(super) fn of_this_machine(gpu: String, onnxruntime: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let library = fs::read_dir(onnxruntime).into_iter().flatten().flatten();
        let library = library
            .filter_map(|entry| entry.file_name().into_string().ok())
            .find(|name| name.starts_with("libonnxruntime.so"));
        Self {
            gpu,
            cpu: processors(&cpuinfo),
            system: output("uname", &["-sr"]),
            onnxruntime: library.unwrap_or_else(|| "unknown".into()),
            commit: fs::read_to_string(root().join(super::pack::COMMIT))
                .map_or_else(|_| output("git", &["rev-parse", "--short", "HEAD"]), |text| text.trim().to_owned()),
        }
    }
}

/// The GPUs, by NVIDIA's management library.
///
/// # Errors
/// When there is none, or no driver.
pub(super) fn gpus() -> anyhow::Result<String> {
    let nvml = Nvml::init()?;
    let driver = nvml.sys_driver_version()?;
    let cuda = nvml.sys_cuda_driver_version()?;
    let mut found = Vec::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        let (capability, memory) = (device.cuda_compute_capability()?, device.memory_info()?.total >> 20);
        found.push(format!(
            "{}, compute capability {}.{}, {memory} MiB",
            device.name()?,
            capability.major,
            capability.minor
        ));
    }
    ensure!(!found.is_empty(), "the driver {driver} shows no GPU");
    let (major, minor) = (cuda_driver_version_major(cuda), cuda_driver_version_minor(cuda));
    Ok(format!("{}; driver {driver} for CUDA {major}.{minor}", found.join("; ")))
}

/// `2 × AMD EPYC`, from `/proc/cpuinfo`.
fn processors(cpuinfo: &str) -> String {
    let names: Vec<&str> = cpuinfo
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, name)| name.trim())
        .collect();
    names.first().map_or_else(|| "unknown".into(), |name| format!("{} × {name}", names.len()))
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let text = output.ok().filter(|output| output.status.success()).and_then(|it| String::from_utf8(it.stdout).ok());
    text.map_or_else(|| "unknown".into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_name() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: AMD EPYC\n";
        assert_eq!(processors(cpuinfo), "2 × AMD EPYC");
        assert_eq!(processors(""), "unknown");
    }
}
