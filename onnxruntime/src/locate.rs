//! Where the library may be.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The folder that `make setup` puts the library into, below the project's root.
pub const FOLDER: &str = ".quintet/onnxruntime";

/// The environment variable that names the library, as for every program that uses ort.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library is in none of the places.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// A place was named, and it is not there.
    #[error("{asked_by} names {path}, but there is no ONNX Runtime library", path = path.display())]
    Named {
        /// The flag or variable.
        asked_by: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// No place was named, and none of the usual ones has it.
    #[error(
        "no ONNX Runtime library found. Run `make setup` in the project, or unpack the Python wheel `onnxruntime` and \
         name its capi/libonnxruntime.so.* with --onnxruntime or {VARIABLE}. Looked in: {}",
        print(looked_in)
    )]
    NotFound {
        /// The folders looked in.
        looked_in: Vec<PathBuf>,
    },
}

fn print(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What the search depends on, apart from the disk.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The flag's value: the library, or a folder that holds it.
    pub flag: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`.
    pub variable: Option<PathBuf>,
    /// The folder of the running program.
    pub program: Option<PathBuf>,
    /// The current folder.
    pub current: Option<PathBuf>,
}

impl Places {
    /// Those of this process.
    pub fn of_process(flag: Option<&Path>) -> Self {
        Self {
            flag: flag.map(Path::to_owned),
            variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            program: env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned)),
            current: env::current_dir().ok(),
        }
    }
}

/// Finds the library: what the flag names, then `ORT_DYLIB_PATH`, then beside the program and in its
/// `../lib`, then [`FOLDER`] in the current folder, in the program's, and in those above them.
///
/// # Errors
/// When a named place does not have it, or no place does.
pub fn locate(places: &Places) -> Result<PathBuf, LocateError> {
    for (asked_by, place) in [("--onnxruntime", &places.flag), (VARIABLE, &places.variable)] {
        if let Some(path) = place {
            return library_at(path).ok_or_else(|| LocateError::Named { asked_by, path: path.clone() });
        }
    }
    let mut looked_in = Vec::new();
    if let Some(program) = &places.program {
        looked_in.push(program.clone());
        looked_in.extend(program.parent().map(|above| above.join("lib")));
    }
    for start in [&places.current, &places.program].into_iter().flatten() {
        looked_in.extend(start.ancestors().map(|folder| folder.join(FOLDER)));
    }
    match looked_in.iter().find_map(|folder| library_in(folder)) {
        Some(library) => Ok(library),
        None => {
            // The folders above are too many to print, and not where anybody would put it.
            looked_in.retain(|folder| {
                let parent = folder.parent().and_then(Path::parent);
                !folder.ends_with(FOLDER) || parent == places.current.as_deref()
            });
            Err(LocateError::NotFound { looked_in })
        }
    }
}

fn library_at(path: &Path) -> Option<PathBuf> {
    if path.is_file() { Some(path.to_owned()) } else { library_in(path) }
}

/// The library of the highest version in a folder; wheels have no unversioned name for it.
fn library_in(folder: &Path) -> Option<PathBuf> {
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

    fn put(folder: &Path, name: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn named_places_come_first_and_must_have_it() {
        let root = tempfile::tempdir().unwrap();
        let flag = put(&root.path().join("flag"), "libonnxruntime.so.1.32.0");
        let variable = put(&root.path().join("variable"), "libonnxruntime.so.1.30.0");
        let both =
            Places { flag: flag.parent().map(Path::to_owned), variable: Some(variable.clone()), ..Places::default() };
        assert_eq!(locate(&both).unwrap(), flag);
        assert_eq!(locate(&Places { flag: None, ..both.clone() }).unwrap(), variable);
        let error = locate(&Places { flag: Some(root.path().join("nowhere")), ..both }).unwrap_err().to_string();
        assert!(error.starts_with("--onnxruntime names ") && error.contains("nowhere"), "{error}");
    }

    #[test]
    fn the_highest_version_beside_the_program_or_above_it_is_found() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("target/debug");
        fs::create_dir_all(&program).unwrap();
        let places = Places { program: Some(program.clone()), ..Places::default() };
        assert!(matches!(locate(&places), Err(LocateError::NotFound { .. })));
        put(&root.path().join(FOLDER), "libonnxruntime.so.1.9.0");
        let above = put(&root.path().join(FOLDER), "libonnxruntime.so.1.32.0");
        put(&root.path().join(FOLDER), "libonnxruntime_providers_shared.so");
        assert_eq!(locate(&places).unwrap(), above);
        let beside = put(&program, "libonnxruntime.so");
        assert_eq!(locate(&places).unwrap(), beside);
    }

    #[test]
    fn a_file_says_its_version() {
        assert_eq!(version_text(Path::new("/a/libonnxruntime.so.1.32.0")).as_deref(), Some("1.32.0"));
        assert_eq!(version_text(Path::new("/a/libonnxruntime.so")), None);
    }

    #[test]
    fn a_missing_library_is_one_line_with_the_remedy() {
        let places = Places { current: Some("/no/such/folder".into()), ..Places::default() };
        let error = locate(&places).unwrap_err().to_string();
        assert!(
            error.contains("`make setup`") && error.ends_with("Looked in: /no/such/folder/.quintet/onnxruntime"),
            "{error}"
        );
    }
}
