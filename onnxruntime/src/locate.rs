//! Searches for the library.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The folder into which `make setup` puts the library, relative to the project's root.
pub const FOLDER: &str = ".quintet/onnxruntime";

/// The folder into which it puts the library's GPU build on a machine with a GPU, with the CUDA libraries that it needs.
pub const GPU_FOLDER: &str = ".quintet/gpu";

/// The folder beside the library into which it puts TensorRT for RTX, on GPUs that this runs on.
pub const TENSORRT_RTX_FOLDER: &str = "tensorrt-rtx";

/// The plug-in of TensorRT for RTX.
const TENSORRT_RTX: &str = "libonnxruntime_providers_nv_tensorrt_rtx.so";

/// Where ONNX Runtime's wheels have the library, in an environment's folder of packages.
pub(crate) const WHEEL_FOLDER: &str = "onnxruntime/capi";

/// The environment variable that names the library; every program that uses ort has it.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library was not found.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The flag or the variable names a path without a library.
    #[error("{setting} names {path}, but there is no ONNX Runtime library", path = path.display())]
    NotAtPath {
        /// The flag or the variable.
        setting: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// No path was named, and none of the default folders has a library.
    #[error(
        "no ONNX Runtime library found. Run `make setup` in the project, or unpack the Python wheel `onnxruntime` and \
         pass its capi/libonnxruntime.so.* in --onnxruntime or {VARIABLE}. Searched: {}",
        join(searched)
    )]
    NotFound {
        /// The searched folders.
        searched: Vec<PathBuf>,
    },
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The paths from which the search starts.
#[derive(Clone, Debug, Default)]
pub struct SearchPaths {
    /// The value of `--onnxruntime`: the library, or a folder that holds it.
    pub flag: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`.
    pub variable: Option<PathBuf>,
    /// The folder of the running program.
    pub program: Option<PathBuf>,
    /// The current folder.
    pub current: Option<PathBuf>,
}

impl SearchPaths {
    /// The paths of this process; `flag` is the value of `--onnxruntime`.
    pub fn of_process(flag: Option<&Path>) -> Self {
        Self {
            flag: flag.map(Path::to_owned),
            variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            program: env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)),
            current: env::current_dir().ok(),
        }
    }
}

/// Finds the library. The order is: the flag, `ORT_DYLIB_PATH`, the program's folder, its `../lib` and `../lib/quintet`,
/// the wheels in the Python environment whose `bin` is the program's folder, then [`GPU_FOLDER`] and [`FOLDER`] in the current
/// folder, in the program's folder, and in each of their parents.
///
/// # Errors
/// When the flag or the variable names a path without a library, or no folder has one.
pub fn locate(paths: &SearchPaths) -> Result<PathBuf, LocateError> {
    for (setting, path) in [("--onnxruntime", &paths.flag), (VARIABLE, &paths.variable)] {
        if let Some(path) = path {
            return library_at(path).ok_or_else(|| LocateError::NotAtPath { setting, path: path.clone() });
        }
    }
    let mut searched = Vec::new();
    if let Some(program) = &paths.program {
        searched.push(program.clone());
        let lib = program.parent().map(|parent| parent.join("lib"));
        searched.extend(lib.iter().flat_map(|lib| [lib.clone(), lib.join("quintet")]));
        searched.extend(lib.iter().flat_map(|lib| python_packages(lib)).map(|packages| packages.join(WHEEL_FOLDER)));
    }
    for start in [&paths.current, &paths.program].into_iter().flatten() {
        searched.extend(start.ancestors().flat_map(|folder| [GPU_FOLDER, FOLDER].map(|name| folder.join(name))));
    }
    match searched.iter().find_map(|folder| library_in(folder)) {
        Some(library) => Ok(library),
        None => {
            // Leave the parent folders out of the message: they are many, and an unlikely place. So is the GPU build's.
            searched.retain(|folder| {
                let parent = folder.parent().and_then(Path::parent);
                !folder.ends_with(GPU_FOLDER) && (!folder.ends_with(FOLDER) || parent == paths.current.as_deref())
            });
            Err(LocateError::NotFound { searched })
        }
    }
}

/// The plug-in of TensorRT for RTX that is installed with this library, in [`TENSORRT_RTX_FOLDER`] beside it.
pub fn tensorrt_rtx_of(library: &Path) -> Option<PathBuf> {
    let plugin = library.parent()?.join(TENSORRT_RTX_FOLDER).join(TENSORRT_RTX);
    plugin.is_file().then_some(plugin)
}

fn library_at(path: &Path) -> Option<PathBuf> {
    if path.is_file() { Some(path.to_owned()) } else { library_in(path) }
}

/// The folders of packages of the Python environments with this `lib`: one, but for an environment that got another Python.
fn python_packages(lib: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(lib).into_iter().flatten().flatten();
    let is_python = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("python3");
    entries.filter(is_python).map(|entry| entry.path().join("site-packages")).collect()
}

/// The library of the wheel `onnxruntime-gpu`, if a folder has it: installed over the wheel `onnxruntime`, whose version may be
/// higher, it shares that one's folder.
fn library_of_gpu_wheel(folder: &Path) -> Option<PathBuf> {
    let packages = folder.to_str()?.strip_suffix(WHEEL_FOLDER)?;
    let names = fs::read_dir(packages).ok()?.flatten().map(|entry| entry.file_name());
    let version = |name: &str| name.strip_prefix("onnxruntime_gpu-")?.strip_suffix(".dist-info").map(str::to_owned);
    let version = names.into_iter().find_map(|name| version(name.to_str()?))?;
    Some(folder.join(format!("libonnxruntime.so.{version}"))).filter(|library| library.is_file())
}

/// The library with the highest version in a folder. Wheels hold it only under its versioned name.
fn library_in(folder: &Path) -> Option<PathBuf> {
    if let Some(library) = library_of_gpu_wheel(folder) {
        return Some(library);
    }
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    names.filter_map(|path| Some((version_of(&path)?, path))).max().map(|(_, path)| path)
}

/// `[1, 32, 0]` for `libonnxruntime.so.1.32.0`, empty for `libonnxruntime.so`; `None` for other files.
fn version_of(path: &Path) -> Option<Vec<u32>> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix("libonnxruntime.")?;
    let version = match rest.strip_prefix("so") {
        Some(version) => version,
        None => rest.strip_suffix("dylib")?,
    };
    version.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

/// `1.32.0` for `libonnxruntime.so.1.32.0`, `None` for a name without a version.
pub(crate) fn version_text(path: &Path) -> Option<String> {
    let version = version_of(path).filter(|version| !version.is_empty())?;
    Some(version.iter().map(u32::to_string).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create_file(folder: &Path, name: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn the_flag_and_the_variable_come_first_and_must_name_a_library() {
        let root = tempfile::tempdir().unwrap();
        let flag = create_file(&root.path().join("flag"), "libonnxruntime.so.1.32.0");
        let variable = create_file(&root.path().join("variable"), "libonnxruntime.so.1.30.0");
        let both = SearchPaths {
            flag: flag.parent().map(Path::to_owned),
            variable: Some(variable.clone()),
            ..SearchPaths::default()
        };
        assert_eq!(locate(&both).unwrap(), flag);
        assert_eq!(locate(&SearchPaths { flag: None, ..both.clone() }).unwrap(), variable);
        let error = locate(&SearchPaths { flag: Some(root.path().join("nowhere")), ..both }).unwrap_err().to_string();
        assert!(error.starts_with("--onnxruntime names ") && error.contains("nowhere"), "{error}");
    }

    #[test]
    fn finds_the_highest_version_beside_the_program_or_in_a_parent_folder() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("target/debug");
        fs::create_dir_all(&program).unwrap();
        let paths = SearchPaths { program: Some(program.clone()), ..SearchPaths::default() };
        assert!(matches!(locate(&paths), Err(LocateError::NotFound { .. })));
        create_file(&root.path().join(FOLDER), "libonnxruntime.so.1.9.0");
        let in_parent = create_file(&root.path().join(FOLDER), "libonnxruntime.so.1.32.0");
        create_file(&root.path().join(FOLDER), "libonnxruntime_providers_shared.so");
        assert_eq!(locate(&paths).unwrap(), in_parent);
        let for_gpu = create_file(&root.path().join(GPU_FOLDER), "libonnxruntime.so.1.31.1");
        assert_eq!(locate(&paths).unwrap(), for_gpu);
        let beside = create_file(&program, "libonnxruntime.so");
        assert_eq!(locate(&paths).unwrap(), beside);
    }

    #[test]
    fn finds_the_wheel_in_the_programs_python_environment_and_that_for_gpus_first() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("bin");
        let packages = root.path().join("lib/python3.12/site-packages");
        let paths = SearchPaths { program: Some(program), ..SearchPaths::default() };
        let for_cpu = create_file(&packages.join(WHEEL_FOLDER), "libonnxruntime.so.1.32.0");
        assert_eq!(locate(&paths).unwrap(), for_cpu);
        let for_gpu = create_file(&packages.join(WHEEL_FOLDER), "libonnxruntime.so.1.31.1");
        assert_eq!(locate(&paths).unwrap(), for_cpu);
        fs::create_dir(packages.join("onnxruntime_gpu-1.31.1.dist-info")).unwrap();
        assert_eq!(locate(&paths).unwrap(), for_gpu);
        fs::remove_file(&for_gpu).unwrap();
        assert_eq!(locate(&paths).unwrap(), for_cpu);
        let packaged = create_file(&root.path().join("lib/quintet"), "libonnxruntime.so.1.30.0");
        assert_eq!(locate(&paths).unwrap(), packaged);
    }

    #[test]
    fn finds_tensorrt_for_rtx_beside_the_library() {
        let root = tempfile::tempdir().unwrap();
        let library = create_file(root.path(), "libonnxruntime.so.1.31.1");
        assert_eq!(tensorrt_rtx_of(&library), None);
        let plugin = create_file(&root.path().join(TENSORRT_RTX_FOLDER), TENSORRT_RTX);
        assert_eq!(tensorrt_rtx_of(&library), Some(plugin));
    }

    #[test]
    fn reads_the_version_from_the_file_name() {
        assert_eq!(version_text(Path::new("/a/libonnxruntime.so.1.32.0")).as_deref(), Some("1.32.0"));
        assert_eq!(version_text(Path::new("/a/libonnxruntime.so")), None);
    }

    #[test]
    fn the_error_names_the_remedy_and_the_searched_folders() {
        let paths = SearchPaths { current: Some("/no/such/folder".into()), ..SearchPaths::default() };
        let error = locate(&paths).unwrap_err().to_string();
        assert!(
            error.contains("`make setup`") && error.ends_with("Searched: /no/such/folder/.quintet/onnxruntime"),
            "{error}"
        );
    }
}
