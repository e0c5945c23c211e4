//! What was found, as one page of Markdown.

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
    process::Output,
};

use super::subject::{Lanes, Subject};

/// What was found.
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

/// The server's start without engines and with those of the first start.
pub(super) struct Starts {
    /// Seconds until ready.
    pub(super) cold_s: f64,
    pub(super) warm_s: f64,
    /// Files in the engine cache.
    pub(super) engines: Vec<PathBuf>,
    pub(super) engines_after_restart: Vec<PathBuf>,
}

/// The suite with CUDA graphs.
pub(super) struct Graphs {
    pub(super) lanes: Lanes,
    pub(super) measured: Output,
    /// The server's log.
    pub(super) log: String,
}

impl Starts {
    /// Whether the restart found every engine that it needs.
    fn engines_are_kept(&self, without_gpu: bool) -> bool {
        self.engines == self.engines_after_restart && (without_gpu || !self.engines.is_empty())
    }
}

impl Graphs {
    fn recorded(&self) -> usize {
        self.log.matches("CUDA graph recorded").count()
    }
}

impl Report<'_> {
    /// Whether all lanes run where they should and agree, and everything was measured.
    pub(super) fn passes(&self) -> bool {
        let without = self.subject.without_gpu;
        let measured = [&self.five_lanes, &self.in_process, &self.graphs.measured];
        self.lanes.agree
            && self.graphs.lanes.agree
            && (without || self.graphs.recorded() > 0)
            && self.starts.engines_are_kept(without)
            && measured.iter().all(|output| output.status.success())
    }

    /// The page.
    ///
    /// # Errors
    /// None that a string can have.
    pub(super) fn markdown(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        if self.subject.without_gpu {
            writeln!(
                page,
                "**This is no GPU check.** It was run with `--without-gpu`, which tries the check itself on the CPU.\n"
            )?;
        }
        let (arch, library) = (self.subject.arch, self.subject.library.display());
        writeln!(page, "# GPU check of {arch}\n\nGPU: {}  \nONNX Runtime: {library}\n", self.gpu)?;
        writeln!(page, "## Lanes\n\n{}", self.lanes.table)?;
        self.write_starts(&mut page)?;
        writeln!(page, "\n## Five lanes\n{}", code_block(&self.five_lanes))?;
        writeln!(page, "\n## The server over the run in process\n{}", code_block(&self.in_process))?;
        let graphs = &self.graphs;
        writeln!(page, "\n## CUDA graphs\n\nRecorded: {}.\n\n{}", graphs.recorded(), graphs.lanes.table)?;
        for refusal in graphs.log.lines().filter(|line| line.contains("no CUDA graph")) {
            writeln!(page, "- `{refusal}`")?;
        }
        writeln!(page, "{}", code_block(&graphs.measured))?;
        Ok(page)
    }

    fn write_starts(&self, page: &mut String) -> fmt::Result {
        let starts = &self.starts;
        let (before, after) = (starts.engines.len(), starts.engines_after_restart.len());
        writeln!(page, "## Start\n\n| start | ready after | engine files |\n|---|---|---|")?;
        writeln!(page, "| no engines yet | {:.1} s | {before} |", starts.cold_s)?;
        writeln!(page, "| again | {:.1} s | {after} |\n", starts.warm_s)?;
        let verdict = match (starts.engines.is_empty(), starts.engines_are_kept(self.subject.without_gpu)) {
            (_, false) => "The restart did not find the engines that it needs",
            (true, true) => "There are no engines without TensorRT",
            (false, true) => "The restart found every engine, and built none",
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
