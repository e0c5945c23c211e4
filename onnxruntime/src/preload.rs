//! Opens the CUDA libraries that lie beside ONNX Runtime, so that its CUDA provider finds them without `LD_LIBRARY_PATH`.

use std::path::Path;

/// The libraries of CUDA 13 and cuDNN 9 that the CUDA provider uses, each after those that it needs. The provider names
/// them without a folder; the dynamic loader then takes the ones that are open. cuDNN opens its parts from its own folder.
const LIBRARIES: [&str; 7] = [
    "libcudart.so.13",
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudnn.so.9",
];

/// Opens the [`LIBRARIES`] that are in a folder, for as long as the process runs. One that cannot be opened is left out: the
/// provider's own error names it.
pub(crate) fn preload(folder: &Path) {
    for path in LIBRARIES.map(|name| folder.join(name)) {
        if path.is_file() {
            let _ = open(&path);
        }
    }
}

#[cfg(unix)]
fn open(path: &Path) -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY};
    // SAFETY: the initialisers of NVIDIA's libraries have no preconditions. The process owns the library: it is never closed.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

#[cfg(not(unix))]
fn open(_: &Path) -> Result<(), libloading::Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_are_no_libraries_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        preload(folder.path());
        fs::write(folder.path().join(LIBRARIES[0]), "no library").unwrap();
        assert!(open(&folder.path().join(LIBRARIES[0])).is_err());
        preload(folder.path());
    }

    #[test]
    fn a_library_that_is_open_is_found_by_its_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = "libquintet-preload-test.so.7";
        let source = folder.path().join("x.c");
        fs::write(&source, "int quintet_preload_test(void) { return 7; }").unwrap();
        let path = folder.path().join(name);
        let flags = ["-shared", "-fPIC", "-o"];
        let mut compiler = std::process::Command::new("cc");
        compiler.args(flags).arg(&path).arg(&source).arg(format!("-Wl,-soname,{name}"));
        assert!(compiler.status().unwrap().success());
        // SAFETY: the library has no initialisers.
        assert!(unsafe { libloading::Library::new(name) }.is_err(), "it is in no folder of the system");
        open(&path).unwrap();
        // SAFETY: as above.
        unsafe { libloading::Library::new(name) }.unwrap();
    }
}
