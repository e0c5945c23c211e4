//! Runs the model without a server: a program (`quintet-models time`) runs it once for each line on stdin and prints the
//! seconds.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::floor::{exchange::Exchange, payload::Payload};

/// Name of its lane.
pub(super) const NAME: &str = "in process";

/// A running program; it ends when its stdin is closed.
pub(super) struct InProcess {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl InProcess {
    /// Starts a command line with `--shape` or `--photo` appended.
    pub(super) fn start(command: &str, payload: &Payload) -> anyhow::Result<Self> {
        let mut words = command.split_whitespace();
        let program = words
            .next()
            .context("--in-process is empty: give a command, e.g. quintet-models time --repository DIR --model NAME")?;
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
        let seconds: f64 = answer
            .trim()
            .parse()
            .with_context(|| format!("the program printed '{}' instead of seconds", answer.trim()))?;
        ensure!(seconds > 0.0, "the program printed a run of 0 seconds");
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

    /// Two answers of a shell script.
    fn answers(script: &str) -> [anyhow::Result<f64>; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, script).unwrap();
        let payload = Payload::new(Size::Images(2), &Input::Rows, None).unwrap();
        let mut program = InProcess::start(&format!("sh {}", path.display()), &payload).unwrap();
        [program.exchange(), program.exchange()]
    }

    #[test]
    fn each_line_is_answered_with_seconds() {
        let answered = answers("[ \"$1\" = --shape=2,150528 ] && while read command; do echo 0.25; done");
        assert_eq!(answered.map(Result::unwrap), [0.25; 2]);
        let errors = |script| answers(script).map(|answer| answer.map_err(|error| error.to_string()));
        assert_eq!(
            errors("read a; echo none; read b"),
            ["the program printed 'none' instead of seconds", "the program ended without an answer"]
                .map(|message| Err(message.into()))
        );
    }
}
