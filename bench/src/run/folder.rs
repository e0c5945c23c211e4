//! Makes a run's folder and writes the report to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    model::report::Report,
    run::{clock::RunClock, error::RunError},
    study::hypotheses::conclude,
};

/// Makes the run's folder, `<output>/<UTC time>`, with a number appended if it exists already.
pub(super) fn make_folder(output: &Path, name: &str) -> Result<PathBuf, RunError> {
    let write_error = |path: &Path, source| RunError::Write { path: path.to_owned(), source };
    fs::create_dir_all(output).map_err(|e| write_error(output, e))?;
    let mut path = output.join(name);
    for number in 2.. {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = output.join(format!("{name}-{number}"));
            }
            result => {
                result.map_err(|e| write_error(&path, e))?;
                break;
            }
        }
    }
    Ok(path)
}

/// Writes the report so far; each file is replaced atomically.
pub(super) fn save(report: &mut Report, clock: &RunClock, folder: &Path) -> Result<(), RunError> {
    report.elapsed_s = clock.elapsed().as_secs_f64();
    conclude(report);
    for (name, contents) in report.files()? {
        let path = folder.join(name);
        let partial = folder.join(format!("{name}.partial"));
        fs::write(&partial, contents)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| RunError::Write { path, source })?;
    }
    Ok(())
}
