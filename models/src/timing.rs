//! Runs a model in process whenever it is told to, and tells how long that took: what a server is held against.

use std::{
    io::{BufRead, Write},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use ort::{environment::Environment, session::Session, value::TensorRef};

use crate::{repository::MODEL_FILE, session::open};

/// Most elements of an input: 256 images of 224 by 224.
const MAX_ELEMENTS: usize = 256 * 3 * 224 * 224;

/// A model with an input of ones.
pub(crate) struct Timed {
    session: Session,
    input: String,
    shape: Vec<usize>,
    elements: Vec<f32>,
}

impl Timed {
    /// Loads model `name` of the repository `root`. Its one input gets FP32 of this shape.
    pub(crate) fn load(environment: &Environment, root: &Path, name: &str, shape: Vec<usize>) -> anyhow::Result<Self> {
        let path = root.join(name).join(MODEL_FILE);
        let session = open(environment, &path).with_context(|| path.display().to_string())?;
        let [input] = session.inputs() else {
            anyhow::bail!("{} has {} inputs; it should have one", path.display(), session.inputs().len());
        };
        let count = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let count = count.filter(|count| (1..=MAX_ELEMENTS).contains(count));
        let count = count.with_context(|| format!("a shape has 1 to {MAX_ELEMENTS} elements, not {shape:?}"))?;
        Ok(Self { input: input.name().to_owned(), session, shape, elements: vec![1.0; count] })
    }

    /// Seconds of one run.
    fn run(&mut self) -> anyhow::Result<f64> {
        let began = Instant::now();
        let input = TensorRef::from_array_view((self.shape.as_slice(), self.elements.as_slice()))?;
        let outputs = self.session.run(ort::inputs![self.input.as_str() => input])?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(outputs.len() > 0, "the model has no outputs");
        Ok(seconds)
    }

    /// One run for each line of `commands`; each is answered with its seconds, on a line.
    ///
    /// # Errors
    /// When the model cannot run on its input, or `answers` is closed.
    pub(crate) fn obey(&mut self, commands: impl BufRead, mut answers: impl Write) -> anyhow::Result<()> {
        for command in commands.lines() {
            command.context("stdin")?;
            writeln!(answers, "{:.9}", self.run()?).and_then(|()| answers.flush()).context("stdout")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quintet_onnxruntime::ThreadPool;

    use super::*;
    use crate::passthrough;

    #[test]
    fn each_line_is_answered_with_the_seconds_of_a_run() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let root = tempfile::tempdir().unwrap();
        passthrough::write(root.path()).unwrap();
        let load = |shape| Timed::load(&library.environment, root.path(), "head", shape);
        let mut answers = Vec::new();
        load(vec![2, 1200]).unwrap().obey(&b"run\n\n"[..], &mut answers).unwrap();
        let seconds: Vec<f64> =
            std::str::from_utf8(&answers).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert!(seconds.len() == 2 && seconds.iter().all(|&seconds| seconds > 0.0), "{seconds:?}");
        assert!(load(vec![2, 0]).err().unwrap().to_string().contains("[2, 0]"));
        // A shape that the model refuses is an error of the run, which names the input.
        let refused = load(vec![3]).unwrap().obey(&b"run\n"[..], Vec::new()).unwrap_err().to_string();
        assert!(refused.contains('x'), "{refused}");
    }
}
