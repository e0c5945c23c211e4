//! Times runs of a model in this process, with or without decoding an image, as the baseline for a server.

use std::{
    io::{BufRead, Write},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, anyhow, ensure};
use ort::{environment::Environment, session::Session, value::TensorRef};
use quintet_onnxruntime::one_line;
use quintet_preprocess::{DEFAULT_MAX_PIXELS, SIDE, to_tensor};

use crate::{
    repository::MODEL_FILE,
    session::{open, open_on_gpu},
};

/// Maximum number of elements of an input: 256 images of 224 by 224.
const MAX_ELEMENTS: usize = 256 * 3 * 224 * 224;

/// A model with its input.
pub(crate) struct Timed {
    session: Session,
    input_name: String,
    shape: Vec<usize>,
    elements: Vec<f32>,
    /// The encoded image from which each run makes the input; without one the input is all ones.
    photo: Option<Vec<u8>>,
}

impl Timed {
    /// Loads model `name` of the repository `root`, on this GPU or else on the CPU. The input is FP32 ones of `shape`.
    ///
    /// # Errors
    /// When the model cannot be loaded or does not have exactly one input, or the shape is empty or too large.
    pub(crate) fn load(
        environment: &Environment,
        (root, name): (&Path, &str),
        gpu: Option<i32>,
        shape: Vec<usize>,
    ) -> anyhow::Result<Self> {
        let path = root.join(name).join(MODEL_FILE);
        let session = match gpu {
            Some(gpu) => open_on_gpu(environment, &path, gpu),
            None => open(environment, &path),
        };
        let session = session.map_err(|error| anyhow!("{}: {}", path.display(), one_line(error.message())))?;
        let [input] = session.inputs() else {
            anyhow::bail!("{} has {} inputs; it must have one", path.display(), session.inputs().len());
        };
        let count = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let count = count.filter(|count| (1..=MAX_ELEMENTS).contains(count));
        let count =
            count.with_context(|| format!("a shape must have 1 to {MAX_ELEMENTS} elements, {shape:?} does not"))?;
        Ok(Self { input_name: input.name().to_owned(), session, shape, elements: vec![1.0; count], photo: None })
    }

    /// As [`Self::load`], with this encoded image as the input: each run decodes and preprocesses it.
    ///
    /// # Errors
    /// As [`Self::load`]; also when the image cannot be read or decoded.
    pub(crate) fn load_for_photo(
        environment: &Environment,
        model: (&Path, &str),
        gpu: Option<i32>,
        photo: &Path,
    ) -> anyhow::Result<Self> {
        let encoded = std::fs::read(photo).with_context(|| photo.display().to_string())?;
        let mut timed = Self::load(environment, model, gpu, vec![1, 3, SIDE, SIDE])?;
        to_tensor(&encoded, DEFAULT_MAX_PIXELS, &mut timed.elements).with_context(|| photo.display().to_string())?;
        timed.photo = Some(encoded);
        Ok(timed)
    }

    /// Runs the model once; returns the seconds.
    fn run(&mut self) -> anyhow::Result<f64> {
        let started = Instant::now();
        if let Some(photo) = &self.photo {
            to_tensor(photo, DEFAULT_MAX_PIXELS, &mut self.elements)?;
        }
        let input = TensorRef::from_array_view((self.shape.as_slice(), self.elements.as_slice()))?;
        let outputs = self.session.run(ort::inputs![self.input_name.as_str() => input])?;
        let seconds = started.elapsed().as_secs_f64();
        ensure!(outputs.len() > 0, "the model has no outputs");
        Ok(seconds)
    }

    /// Runs the model once for each line of `commands`, and writes the seconds of the run to `output` as a line.
    ///
    /// # Errors
    /// When the model cannot run on its input, or `output` is closed.
    pub(crate) fn serve(&mut self, commands: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
        for command in commands.lines() {
            command.context("stdin")?;
            writeln!(output, "{:.9}", self.run()?).and_then(|()| output.flush()).context("stdout")?;
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
    fn each_line_runs_the_model_once() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let root = tempfile::tempdir().unwrap();
        passthrough::write(root.path(), None).unwrap();
        let load = |shape| Timed::load(&library.environment, (root.path(), "head"), None, shape);
        let mut output = Vec::new();
        load(vec![2, 1200]).unwrap().serve(&b"run\n\n"[..], &mut output).unwrap();
        let seconds: Vec<f64> =
            std::str::from_utf8(&output).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert!(seconds.len() == 2 && seconds.iter().all(|&seconds| seconds > 0.0), "{seconds:?}");
        assert!(load(vec![2, 0]).err().unwrap().to_string().contains("[2, 0]"));
        // If the model does not accept the shape, the run fails and the error names the input.
        let error = load(vec![3]).unwrap().serve(&b"run\n"[..], Vec::new()).unwrap_err().to_string();
        assert!(error.contains('x'), "{error}");
    }

    /// A run must not fall back to the CPU silently.
    #[test]
    fn fails_on_a_gpu_without_cuda() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let root = tempfile::tempdir().unwrap();
        passthrough::write(root.path(), None).unwrap();
        let error = Timed::load(&library.environment, (root.path(), "head"), Some(0), vec![2, 1200]).err().unwrap();
        assert!(format!("{error:#}").contains("CUDA"), "{error:#}");
    }

    #[test]
    fn preprocesses_a_photo_as_the_server_does() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let root = tempfile::tempdir().unwrap();
        passthrough::write(root.path(), None).unwrap();
        let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../photos/astronaut.jpg");
        let load = |photo: &Path| Timed::load_for_photo(&library.environment, (root.path(), "identity"), None, photo);
        let mut expected = vec![0.0; 3 * SIDE * SIDE];
        to_tensor(&std::fs::read(&photo).unwrap(), DEFAULT_MAX_PIXELS, &mut expected).unwrap();
        assert!(load(&photo).unwrap().elements == expected);
        let text = root.path().join("text.jpg");
        std::fs::write(&text, "no image").unwrap();
        assert!(format!("{:#}", load(&text).err().unwrap()).contains("text.jpg: not a JPEG, PNG, WebP"));
    }
}
