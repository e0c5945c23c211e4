//! The report of the GPU check, as Markdown.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
    process::Output,
};

use super::subject::{Lanes, Subject};

/// The results of the check.
pub(super) struct Report<'a> {
    pub(super) subject: &'a Subject<'a>,
    /// Name, driver and memory of the GPUs.
    pub(super) gpu: String,
    pub(super) lanes: Lanes,
    pub(super) starts: Starts,
    pub(super) five_lanes: Output,
    pub(super) in_process: Output,
    pub(super) graphs: Graphs,
}

/// The server's start without TensorRT engines, and with those of the first start.
pub(super) struct Starts {
    /// Seconds until ready, without engines.
    pub(super) cold_s: f64,
    /// Seconds until ready, with the engines of the first start.
    pub(super) warm_s: f64,
    /// Files in the engine cache after the first start.
    pub(super) engines: Vec<PathBuf>,
    pub(super) engines_after_restart: Vec<PathBuf>,
}

/// The results with CUDA graphs.
pub(super) struct Graphs {
    pub(super) lanes: Lanes,
    pub(super) bench: Output,
    /// The server's log.
    pub(super) log: String,
}

impl Starts {
    /// Whether the restart used the engines of the first start and built none.
    fn engines_reused(&self, without_gpu: bool) -> bool {
        self.engines == self.engines_after_restart && (without_gpu || !self.engines.is_empty())
    }
}

impl Graphs {
    fn recorded(&self) -> usize {
        self.log.matches("CUDA graph recorded").count()
    }
}

impl Report<'_> {
    /// Whether every lane runs on the expected provider and agrees with the CPU, and every benchmark succeeded.
    pub(super) fn passes(&self) -> bool {
        let without_gpu = self.subject.without_gpu;
        let benchmarks = [&self.five_lanes, &self.in_process, &self.graphs.bench];
        self.lanes.pass
            && self.graphs.lanes.pass
            && (without_gpu || self.graphs.recorded() > 0)
            && self.starts.engines_reused(without_gpu)
            && benchmarks.iter().all(|output| output.status.success())
    }

    /// The report as Markdown.
    ///
    /// # Errors
    /// Never: writing to a string cannot fail.
    pub(super) fn markdown(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        if self.subject.without_gpu {
            writeln!(
                page,
                "**This is not a GPU check.** It was run with `--without-gpu`, which tests the check itself on the CPU.\n"
            )?;
        }
        let (arch, library) = (self.subject.arch, self.subject.library.display());
        writeln!(page, "# GPU check of {arch}\n\nGPU: {}  \nONNX Runtime: {library}\n", self.gpu)?;
        writeln!(page, "## Lanes\n\n{}", self.lanes.table)?;
        self.write_starts(&mut page)?;
        writeln!(page, "\n## Five lanes\n{}", code_block(&self.five_lanes))?;
        writeln!(page, "\n## The server compared with in-process runs\n{}", code_block(&self.in_process))?;
        let graphs = &self.graphs;
        writeln!(page, "\n## CUDA graphs\n\nRecorded: {}.\n\n{}", graphs.recorded(), graphs.lanes.table)?;
        for line in graphs.log.lines().filter(|line| line.contains("no CUDA graph")) {
            writeln!(page, "- `{line}`")?;
        }
        writeln!(page, "{}", code_block(&graphs.bench))?;
        Ok(page)
    }

    fn write_starts(&self, page: &mut String) -> fmt::Result {
        let starts = &self.starts;
        let (before, after) = (starts.engines.len(), starts.engines_after_restart.len());
        writeln!(page, "## Start\n\n| start | ready after | engine files |\n|---|---|---|")?;
        writeln!(page, "| first, without engines | {:.1} s | {before} |", starts.cold_s)?;
        writeln!(page, "| second, with engines | {:.1} s | {after} |\n", starts.warm_s)?;
        let verdict = match (starts.engines.is_empty(), starts.engines_reused(self.subject.without_gpu)) {
            (_, false) => "The restart did not reuse the engines of the first start",
            (true, true) => "There are no engines, because TensorRT did not run",
            (false, true) => "The restart reused every engine and built none",
        };
        writeln!(page, "{verdict}.\n")?;
        let folder = self.subject.engines();
        starts
            .engines
            .iter()
            .try_for_each(|file| writeln!(page, "- `{}`", file.strip_prefix(&folder).unwrap_or(file).display()))
    }
}

fn code_block(output: &Output) -> String {
    format!("\n```\n{}```", String::from_utf8_lossy(&output.stdout))
}
