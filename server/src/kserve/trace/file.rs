//! Writes traces to JSON files that are valid after every trace.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{clock::Clock, json, record::Record, sink::Losses};

/// Closes the JSON array. The next trace overwrites it.
const END: &str = "\n]\n";

/// Writes traces to one file, or to numbered files if a log frequency is set.
pub(super) struct TraceFile {
    writer: Writer,
    losses: Losses,
}

impl TraceFile {
    /// Writes to `path`, or to `path.0`, `path.1` and so on. A file is created with its first trace.
    pub(super) fn new(path: PathBuf, losses: Losses) -> Self {
        Self { writer: Writer::new(path), losses }
    }
}

impl super::sink::Writer for TraceFile {
    fn write(&mut self, record: Record) {
        if let Err(error) = self.writer.write(&json::entries(&record, Clock::now()), record.log_frequency) {
            let path = self.writer.path.display();
            self.losses.add(1, "traces", &format!("cannot write to {path}: {error}"));
        }
    }
}

struct Writer {
    path: PathBuf,
    /// The file of traces without a log frequency.
    single: Option<File>,
    /// The open numbered file and its number of traces.
    numbered: Option<(File, u32)>,
    /// The number of the open, or else the next, numbered file.
    index: u32,
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        Self { path, single: None, numbered: None, index: 0 }
    }

    fn write(&mut self, entry: &str, frequency: u32) -> io::Result<()> {
        if frequency == 0 {
            // A numbered file that is not full is closed for good.
            self.index += u32::from(self.numbered.take().is_some());
            return append(&mut self.single, &self.path, entry);
        }
        let (mut open, count) = self.numbered.take().map_or((None, 0), |(file, count)| (Some(file), count));
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{}", self.index));
        let appended = append(&mut open, Path::new(&path), entry);
        let count = count + u32::from(appended.is_ok());
        match count < frequency {
            true => self.numbered = open.map(|file| (file, count)),
            false => self.index += 1,
        }
        appended
    }
}

/// Appends an entry to the array in a file. Creates the file if it is not open. If that fails, as on a full disk, the file
/// keeps the entries that it has, and is still an array.
fn append(file: &mut Option<File>, path: &Path, entry: &str) -> io::Result<()> {
    let Some(file) = file else {
        let mut new = File::create(path)?;
        new.write_all(format!("[\n{entry}{END}").as_bytes())?;
        *file = Some(new);
        return Ok(());
    };
    let end = file.seek(SeekFrom::End(-(END.len() as i64)))?;
    let written = file.write_all(format!(",\n{entry}{END}").as_bytes());
    if written.is_err() {
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(END.as_bytes())?;
    }
    written
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_valid_json_after_every_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut writer = Writer::new(path.clone());
        let read = |path: PathBuf| serde_json::from_slice::<Vec<u32>>(&fs::read(path).unwrap()).unwrap();
        for number in 1..=3 {
            writer.write(&number.to_string(), 0).unwrap();
            assert_eq!(read(path.clone()), (1..=number).collect::<Vec<_>>());
        }
        for number in 4..=8 {
            writer.write(&number.to_string(), 2).unwrap();
        }
        let part = |index: u32| read(folder.path().join(format!("trace.json.{index}")));
        assert_eq!([part(0), part(1), part(2)], [vec![4, 5], vec![6, 7], vec![8]]);
        writer.write("9", 0).unwrap();
        writer.write("10", 2).unwrap();
        assert_eq!((read(path), part(3)), (vec![1, 2, 3, 9], vec![10]));
    }
}
