//! Opens the libraries that lie beside ONNX Runtime or a provider's plug-in and that it needs, so that it finds them without
//! `LD_LIBRARY_PATH`.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::locate::WHEEL_FOLDER;

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

/// The libraries beside the TensorRT-RTX plug-in, which has no run path: the beginnings of their names, each after those that it
/// needs. The wheel has them with their whole version (`libtensorrt_rtx.so.1.7.1`), and by some tools text files under the short
/// names.
const OF_PLUGINS: [&str; 3] = ["libcudart.so", "libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so"];

/// The name by which TensorRT for RTX opens itself: `make setup` writes a library of this name that is linked with the real one.
const ALIAS: &str = "libtensorrt_rtx.so";

/// The folders with [`LIBRARIES`] of NVIDIA's wheels, in an environment's folder of packages.
const WHEEL_FOLDERS: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cudnn/lib"];

/// Opens the [`LIBRARIES`] that are in the library's folder, or in NVIDIA's wheels beside ONNX Runtime's, for as long as the
/// process runs. One that cannot be opened is left out: the provider's own error names it.
pub(crate) fn beside_library(folder: &Path) {
    let packages = folder.to_str().and_then(|folder| folder.strip_suffix(WHEEL_FOLDER)).map(Path::new);
    let in_wheels = packages.into_iter().flat_map(|packages| WHEEL_FOLDERS.map(|name| packages.join(name)));
    let folders: Vec<_> = in_wheels.chain([folder.to_owned()]).collect();
    for name in LIBRARIES {
        if let Some(path) = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
            let _ = open(&path);
        }
    }
}

/// Opens the libraries that a plug-in in this folder may need, as [`beside_library`].
pub(crate) fn beside_plugin(folder: &Path) {
    let libraries = OF_PLUGINS.iter().filter_map(|name| versioned(folder, name));
    for path in libraries.chain([folder.join(ALIAS)].into_iter().filter(|path| is_elf(path))) {
        let _ = open(&path);
    }
}

/// The library of this name with the longest version that is a library, and no text in its place.
fn versioned(folder: &Path, name: &str) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let is_named = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    files.filter(|path| is_named(path) && is_elf(path)).max_by_key(|path| path.as_os_str().len())
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
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
    use super::*;

    #[test]
    fn files_that_are_no_libraries_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        beside_library(folder.path());
        fs::write(folder.path().join(LIBRARIES[0]), "no library").unwrap();
        assert!(open(&folder.path().join(LIBRARIES[0])).is_err());
        beside_library(folder.path());
    }

    /// Compiles a library without a dependency.
    fn compile(path: &Path, soname: &str) {
        let source = path.with_extension("c");
        fs::write(&source, "int quintet_preload_test(void) { return 7; }").unwrap();
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(path).arg(&source).arg(format!("-Wl,-soname,{soname}"));
        assert!(compiler.status().unwrap().success());
        fs::remove_file(source).unwrap();
    }

    fn is_found(name: &str) -> bool {
        // SAFETY: the library has no initialisers.
        unsafe { libloading::Library::new(name) }.is_ok()
    }

    #[test]
    fn a_library_that_is_open_is_found_by_its_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = "libquintet-preload-test.so.7";
        let path = folder.path().join(name);
        compile(&path, name);
        assert!(!is_found(name), "it is in no folder of the system");
        open(&path).unwrap();
        assert!(is_found(name));
    }

    #[test]
    fn the_libraries_of_nvidias_wheels_are_opened_for_onnx_runtimes() {
        let packages = tempfile::tempdir().unwrap();
        let names = ["libcurand.so.10", "libcudnn.so.9"];
        for (name, folder) in names.into_iter().zip(WHEEL_FOLDERS) {
            fs::create_dir_all(packages.path().join(folder)).unwrap();
            compile(&packages.path().join(folder).join(name), name);
            assert!(!is_found(name), "it is in no folder of the system");
        }
        beside_library(&packages.path().join(WHEEL_FOLDER));
        assert!(names.into_iter().all(is_found));
    }

    #[test]
    fn a_plugins_libraries_are_found_under_their_versions_beside_texts_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"];
        for name in names {
            compile(&folder.path().join(format!("{name}.7.1")), name);
            fs::write(folder.path().join(name), format!("{name}.7.1")).unwrap();
            fs::write(folder.path().join(format!("{name}.7.1.text")), "longer, and no library").unwrap();
            assert!(!is_found(name), "it is in no folder of the system");
        }
        compile(&folder.path().join(ALIAS), ALIAS);
        beside_plugin(folder.path());
        assert!(names.into_iter().chain([ALIAS]).all(is_found));
    }
}
