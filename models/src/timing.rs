//! Runs a model in process whenever it is told to, alone or with an image's way to it, and tells how long that took:
//! what a server is held against.

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

/// Most elements of an input: 256 images of 224 by 224.
const MAX_ELEMENTS: usize = 256 * 3 * 224 * 224;

/// A model with an input of ones.
pub(crate) struct Timed {
    session: Session,
    input: String,
    shape: Vec<usize>,
    elements: Vec<f32>,
    /// The encoded image that becomes the input in each run.
    photo: Option<Vec<u8>>,
}

impl Timed {
    /// Loads model `name` of the repository `root`, on the GPU of this number if there is one. Its one input gets FP32 of
    /// this shape.
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
            anyhow::bail!("{} has {} inputs; it should have one", path.display(), session.inputs().len());
        };
        let count = shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
        let count = count.filter(|count| (1..=MAX_ELEMENTS).contains(count));
        let count = count.with_context(|| format!("a shape has 1 to {MAX_ELEMENTS} elements, not {shape:?}"))?;
        Ok(Self { input: input.name().to_owned(), session, shape, elements: vec![1.0; count], photo: None })
    }

    /// The same with this encoded image, which each run decodes and prepares.
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

    /// Seconds of one run.
    fn run(&mut self) -> anyhow::Result<f64> {
        let began = Instant::now();
        if let Some(photo) = &self.photo {
            to_tensor(photo, DEFAULT_MAX_PIXELS, &mut self.elements)?;
        }
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
        passthrough::write(root.path(), None).unwrap();
        let load = |shape| Timed::load(&library.environment, (root.path(), "head"), None, shape);
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

    /// It is in no case timed on the CPU in silence.
    #[test]
    fn without_cuda_the_reason_is_told() {
        let library = quintet_onnxruntime::load(None, ThreadPool { intra_op_threads: 1, spin: false }).unwrap();
        let root = tempfile::tempdir().unwrap();
        passthrough::write(root.path(), None).unwrap();
        let refused = Timed::load(&library.environment, (root.path(), "head"), Some(0), vec![2, 1200]).err().unwrap();
        assert!(format!("{refused:#}").contains("CUDA"), "{refused:#}");
    }

    #[test]
    fn a_photograph_is_prepared_as_the_server_prepares_it() {
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
        assert!(format!("{:#}", load(&text).err().unwrap()).contains("text.jpg: not a JPEG, PNG or WebP image"));
    }
}
