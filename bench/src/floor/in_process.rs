//! The model without a server: a program that runs it once for each line that it is sent, and answers with the
//! seconds (`quintet-models time`).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::floor::{exchange::Exchange, payload::Payload};

/// Name of its lane.
pub(super) const NAME: &str = "in process";

/// A running program; it ends when its stdin does.
pub(super) struct InProcess {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl InProcess {
    /// Starts a command line, whose last argument says what to run on: `--shape` or `--photo`.
    pub(super) fn start(command: &str, payload: &Payload) -> anyhow::Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("--in-process is empty; write a command, e.g. quintet-models time ...")?;
        let mut child = Command::new(program)
            .args(words)
            .arg(payload.in_process_flag())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let answers = BufReader::new(child.stdout.take().context("the program has no stdout")?);
        Ok(Self { commands: child.stdin.take(), child, answers })
    }
}

impl Exchange for InProcess {
    fn exchange(&mut self) -> anyhow::Result<f64> {
        self.commands.as_mut().context("the program has no stdin")?.write_all(b"run\n").context("the program ended")?;
        let mut answer = String::new();
        ensure!(self.answers.read_line(&mut answer)? > 0, "the program ended without an answer");
        let seconds: f64 = answer.trim().parse().with_context(|| format!("it answered '{}'", answer.trim()))?;
        ensure!(seconds > 0.0, "it answered that a run takes no time");
        Ok(seconds)
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::payload::{Input, Size};

    /// Two answers of a program in the shell's language.
    fn answers(script: &str) -> [anyhow::Result<f64>; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, script).unwrap();
        let payload = Payload::new(Size::Images(2), &Input::Rows, None).unwrap();
        let mut program = InProcess::start(&format!("sh {}", path.display()), &payload).unwrap();
        [program.exchange(), program.exchange()]
    }

    #[test]
    fn a_line_there_is_the_seconds_back() {
        let answered = answers("[ \"$1\" = --shape=2,150528 ] && while read command; do echo 0.25; done");
        assert_eq!(answered.map(Result::unwrap), [0.25; 2]);
        let said = |script| answers(script).map(|answer| answer.map_err(|error| error.to_string()));
        assert_eq!(
            said("read a; echo none; read b"),
            ["it answered 'none'", "the program ended without an answer"].map(|it| Err(it.into()))
        );
    }
}
