//! The file that traces are written to: valid JSON at any time.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{clock::Clock, json, record::Record, sink::Losses};

/// What closes the JSON array, and is written over by the next trace.
const END: &str = "\n]\n";

/// Writes traces to a file, or to several where they are parted by a log frequency.
pub(super) struct TraceFile {
    writer: Writer,
    losses: Losses,
}

impl TraceFile {
    /// Writes to `path`, or to `path.0` and so on. Files are made when there is something to write.
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
    /// The file of the traces that are not parted.
    whole: Option<File>,
    /// The open one of several files, and how many traces it has.
    part: Option<(File, u32)>,
    /// Number of the next of several files.
    index: u32,
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        Self { path, whole: None, part: None, index: 0 }
    }

    fn write(&mut self, entry: &str, frequency: u32) -> io::Result<()> {
        if frequency == 0 {
            // A file that was begun is not gone on with.
            self.index += u32::from(self.part.take().is_some());
            let known = self.whole.take();
            self.whole = Some(append(known, &self.path, entry)?);
            return Ok(());
        }
        let (known, before) = self.part.take().map_or((None, 0), |(file, count)| (Some(file), count));
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{}", self.index));
        let file = append(known, Path::new(&path), entry)?;
        match before + 1 < frequency {
            true => self.part = Some((file, before + 1)),
            false => self.index += 1,
        }
        Ok(())
    }
}

/// Puts an entry at the end of the array in a file, which is made if it is not open.
fn append(file: Option<File>, path: &Path, entry: &str) -> io::Result<File> {
    let (mut file, before) = match file {
        Some(mut file) => {
            file.seek(SeekFrom::End(-(END.len() as i64)))?;
            (file, ",\n")
        }
        None => (File::create(path)?, "[\n"),
    };
    file.write_all(format!("{before}{entry}{END}").as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_whole_at_any_time() {
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
