//! The journal, `unfinished.jsonl.gz`: a run's measurements block by block, so that a stopped run can be resumed.
//!
//! Each line is a gzip member, appended as soon as the block is over: `zcat` can read the file at any time, and a crash
//! loses at most the last block. The first line is the report without cells. A complete run deletes the file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    block::{Measured, MeasuredBlock, WarmUp},
    report::Report,
};

/// Name of the file in the run's folder.
pub const FILE: &str = "unfinished.jsonl.gz";
/// Most bytes to read, after decompression.
const MAX_BYTES: u64 = 4 << 30;
/// Values that may differ when a run is resumed.
const MAY_DIFFER: [&str; 2] = ["environment.load_average", "environment.command_line"];

/// The result of one block.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// Warm-up.
    WarmUp(WarmUp),
    /// A block or window.
    Block(Box<MeasuredBlock>),
}

/// A completed block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Index of its stage in the plan.
    pub stage: usize,
    /// Index of the block in the stage.
    #[serde(rename = "turn")]
    pub block: usize,
    /// Its duration, including reading the server's counters.
    pub took: Duration,
    /// Time of the run up to its end.
    pub elapsed: Duration,
    /// Its result.
    pub done: Done,
}

/// Why a run cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The folder has no journal.
    #[error("there is nothing to resume in {}: it has no {FILE}; give the folder of a stopped run", .0.display())]
    Nothing(PathBuf),
    /// The journal cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The first line is not a report.
    #[error("{} is not a run's journal: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The lanes, the settings or the machine have changed.
    #[error(
        "cannot resume the run in {}, because these values have changed:\n  {}\n  restore them, or start a new run",
        path.display(), differences.join("\n  ")
    )]
    Differs {
        /// The run's folder.
        path: PathBuf,
        /// The old and new values.
        differences: Vec<String>,
    },
}

/// A stopped run.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Its folder.
    pub folder: PathBuf,
    /// Its report without cells.
    pub head: Report,
    /// The completed blocks.
    pub entries: Vec<Entry>,
}

impl Unfinished {
    /// Reads a run's journal; a truncated last line is ignored.
    ///
    /// # Errors
    /// [`ResumeError`].
    pub fn read(folder: &Path) -> Result<Self, ResumeError> {
        let path = folder.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ResumeError::Nothing(folder.to_owned()));
            }
            opened => opened.map_err(|source| ResumeError::Read { path: path.clone(), source })?,
        };
        let malformed = |reason: String| ResumeError::Form { path: path.clone(), reason };
        let mut lines = BufReader::new(MultiGzDecoder::new(file).take(MAX_BYTES)).lines().map_while(Result::ok);
        let head = lines.next().ok_or_else(|| malformed("it has no first line".into()))?;
        let head = serde_json::from_str(&head).map_err(|error| malformed(error.to_string()))?;
        let entries = lines.map_while(|line| serde_json::from_str(&line).ok()).collect();
        Ok(Self { folder: folder.to_owned(), head, entries })
    }

    /// Checks that lanes, settings and machine are those of the stopped run.
    ///
    /// # Errors
    /// [`ResumeError::Differs`], with all differences.
    pub fn check(&self, now: &Report) -> Result<(), ResumeError> {
        let parts = |report: &Report| {
            let Report { settings, environment, lanes, photographs, .. } = report;
            serde_json::json!({
                "settings": settings, "environment": environment, "lanes": lanes, "photographs": photographs,
            })
        };
        let mut differences = Vec::new();
        compare("", &parts(&self.head), &parts(now), &mut differences);
        if differences.is_empty() {
            return Ok(());
        }
        Err(ResumeError::Differs { path: self.folder.clone(), differences })
    }

    /// Time of the run so far.
    pub fn elapsed(&self) -> Duration {
        self.entries.last().map_or(Duration::ZERO, |entry| entry.elapsed)
    }

    /// The last result of a block, if it is completed.
    pub fn entry(&self, stage: usize, block: usize) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| (entry.stage, entry.block) == (stage, block))
    }
}

/// Collects the differences of two values.
fn compare(path: &str, was: &Value, is: &Value, differences: &mut Vec<String>) {
    let path_of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (was, is) {
        _ if was == is || MAY_DIFFER.contains(&path) => {}
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let value = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(&path_of(key), &value(a), &value(b), differences);
            }
        }
        // Lanes and photographs are matched by name.
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).any(|item| name(item).is_some()) => {
            for item in a.iter().chain(b).filter(|item| !a.contains(item) || !b.contains(item)) {
                let same = |other: &&Value| name(other) == name(item);
                match (name(item), a.iter().find(same), b.iter().find(same)) {
                    (Some(name), Some(was), Some(is)) if std::ptr::eq(item, was) => {
                        compare(&path_of(name), was, is, differences);
                    }
                    (Some(name), Some(_), None) => differences.push(format!("{path}: {name} is missing")),
                    (Some(name), None, Some(_)) => differences.push(format!("{path}: {name} is new")),
                    _ => {}
                }
            }
        }
        _ => differences.push(format!("{path} was {was}, is {is}")),
    }
}

fn name(item: &Value) -> Option<&str> {
    item["lane"].as_str().or_else(|| item["name"].as_str())
}

/// The journal cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// The journal of a running run.
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins the journal of a run, with the earlier blocks if it is resumed.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn begin(folder: &Path, head: &Report, entries: &[Entry]) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let partial = folder.join(format!("{FILE}.partial"));
        let begin = || {
            fs::write(&partial, member(head)?)?;
            let mut file = OpenOptions::new().append(true).open(&partial)?;
            entries.iter().try_for_each(|entry| file.write_all(&member(entry)?))?;
            fs::rename(&partial, &path)?;
            Ok(file)
        };
        let file = begin().map_err(|source| JournalError { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    /// Appends a block.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub fn add(&mut self, entry: &Entry) -> Result<(), JournalError> {
        let added = member(entry).and_then(|bytes| self.file.write_all(&bytes));
        added.map_err(|source| JournalError { path: self.path.clone(), source })
    }

    /// Deletes the journal: the run is complete, and its report holds everything.
    ///
    /// # Errors
    /// As [`Journal::begin`].
    pub fn finish(self) -> Result<(), JournalError> {
        fs::remove_file(&self.path).map_err(|source| JournalError { path: self.path, source })
    }
}

/// One line as a gzip member.
fn member(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, value)?;
    gzip.write_all(b"\n")?;
    gzip.finish()
}

impl Done {
    /// Adds the result of a block to its cell's measurements.
    pub fn add_to(self, measured: &mut Measured) {
        match self {
            Self::WarmUp(warm_up) => measured.warm_up = warm_up,
            Self::Block(block) => measured.blocks.push(*block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn entry(block: usize) -> Entry {
        let warm_up = WarmUp { sent: block as u64, ..WarmUp::default() };
        let took = Duration::from_millis(3);
        Entry { stage: 0, block, took, elapsed: took * block as u32, done: Done::WarmUp(warm_up) }
    }

    fn head() -> Report {
        Report { cells: Vec::new(), ..fixture::report() }
    }

    #[test]
    fn a_truncated_journal_keeps_the_complete_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(folder.path(), &head(), &[entry(0)]).unwrap();
        journal.add(&entry(1)).unwrap();
        let complete = fs::read(folder.path().join(FILE)).unwrap();
        journal.add(&entry(2)).unwrap();
        let blocks = |unfinished: &Unfinished| unfinished.entries.iter().map(|e| e.block).collect::<Vec<_>>();
        assert_eq!(blocks(&Unfinished::read(folder.path()).unwrap()), [0, 1, 2]);
        let longer = fs::read(folder.path().join(FILE)).unwrap();
        for cut in [complete.len(), complete.len() + 5, longer.len() - 60] {
            fs::write(folder.path().join(FILE), &longer[..cut]).unwrap();
            let unfinished = Unfinished::read(folder.path()).unwrap();
            assert_eq!(blocks(&unfinished), [0, 1], "cut at {cut} of {}", longer.len());
            assert_eq!(unfinished.elapsed(), Duration::from_millis(3));
        }
        fs::write(folder.path().join(FILE), &complete[..3]).unwrap();
        assert!(matches!(Unfinished::read(folder.path()), Err(ResumeError::Form { .. })));
        journal.finish().unwrap();
        assert!(matches!(Unfinished::read(folder.path()), Err(ResumeError::Nothing(_))));
    }

    #[test]
    fn all_differences_are_named() {
        let unfinished = Unfinished { folder: "results/run".into(), head: head(), entries: Vec::new() };
        let mut now = head();
        now.environment.load_average = Some(3.0);
        now.environment.command_line.push("--resume".into());
        unfinished.check(&now).unwrap();
        now.settings.batches = vec![1, 2];
        now.environment.cores += 1;
        now.lanes[0].effective_provider = Some("CUDAExecutionProvider".into());
        insta::assert_snapshot!(unfinished.check(&now).unwrap_err(), @r#"
        cannot resume the run in results/run, because these values have changed:
          environment.cores was 2, is 3
          lanes.jpeg.effective_provider was "CPUExecutionProvider", is "CUDAExecutionProvider"
          settings.batches was [1,8,32], is [1,2]
          restore them, or start a new run
        "#);
    }
}
