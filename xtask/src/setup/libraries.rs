//! What shared libraries are linked with.

use std::{fs, path::Path, process::Command};

use anyhow::Context as _;

/// Libraries of the driver, which no wheel has.
const OF_THE_DRIVER: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];

/// What the libraries of a folder are linked with and neither it, the system nor the driver has. `is_checked` says by its name
/// whether a library counts.
///
/// # Errors
/// When the folder cannot be read or there is no `ldd`.
pub(super) fn missing(folder: &Path, is_checked: impl Fn(&str) -> bool) -> anyhow::Result<Vec<String>> {
    let mut missing = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains(".so") || !is_checked(&name) {
            continue;
        }
        let output =
            Command::new("ldd").arg(&path).env("LD_LIBRARY_PATH", folder).output().context("cannot run ldd")?;
        missing
            .extend(not_found(&String::from_utf8_lossy(&output.stdout)).map(|library| format!("{library} for {name}")));
    }
    missing.sort();
    Ok(missing)
}

/// The libraries that `ldd` did not find, but for the driver's.
fn not_found(ldd: &str) -> impl Iterator<Item = &str> {
    let names = ldd.lines().filter_map(|line| line.trim().strip_suffix("=> not found")).map(str::trim);
    names.filter(|name| !OF_THE_DRIVER.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drivers_libraries_may_be_missing() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibcuda.so.1 => not found\n\tlibcublas.so.13 => not found\n\
                   \tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n";
        assert_eq!(not_found(ldd).collect::<Vec<_>>(), ["libcublas.so.13"]);
    }
}
