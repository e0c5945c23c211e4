//! `--idle-unload-secs`: an instance that closes its model file when no request comes for a time, and opens it again for the
//! next one.

use std::time::{Duration, Instant};

use quintet_engine::{ErrorKind, InferError, Instance, Placement, RunRequest, RunTimings, Tensor};

use super::onnx::release_now;

/// Opens a model file again.
type Open = Box<dyn Fn() -> anyhow::Result<Box<dyn Instance>> + Send>;

/// An instance that rests.
pub struct Resting {
    model: String,
    /// `None` while it rests.
    instance: Option<Box<dyn Instance>>,
    placement: Placement,
    after: Duration,
    open: Open,
}

impl Resting {
    /// An instance of `model` that is closed when no batch comes for as long as `after`, and opened again by `open`.
    pub fn new(model: String, instance: Box<dyn Instance>, after: Duration, open: Open) -> Self {
        Self { model, placement: instance.placement(), instance: Some(instance), after, open }
    }

    fn opened(&self) -> Result<Box<dyn Instance>, InferError> {
        let started = Instant::now();
        let refuse = |reason: String| {
            InferError::new(
                ErrorKind::Unavailable,
                format_args!(
                    "model '{}' was closed while it had no requests (--idle-unload-secs), and cannot be opened again: {reason}",
                    self.model
                ),
            )
        };
        let instance = (self.open)().map_err(|error| refuse(format!("{error:#}")))?;
        let now = instance.placement();
        // Its metadata say where it runs.
        if (&now.provider, &now.gpu) != (&self.placement.provider, &self.placement.gpu) {
            return Err(refuse(format!("it ran on {}, and now would run on {now}", self.placement)));
        }
        let seconds = format!("{:.1}", started.elapsed().as_secs_f64());
        tracing::info!(model = self.model, seconds, "model is open again, for a request");
        Ok(instance)
    }
}

impl Instance for Resting {
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        if self.instance.is_none() {
            self.instance = Some(self.opened()?);
        }
        let closed = || InferError::internal("the instance is closed");
        self.instance.as_mut().ok_or_else(closed)?.run(request, timings)
    }

    fn placement(&self) -> Placement {
        self.placement.clone()
    }

    // Not on any thread: one that serves connections must not wait for a file to be opened.

    fn rests_after(&self) -> Option<Duration> {
        Some(self.after)
    }

    fn rest(&mut self) {
        drop(self.instance.take());
        release_now();
        tracing::info!(model = self.model, after = ?self.after, "model is closed: no request came");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use anyhow::bail;
    use quintet_engine::{Cancel, OutputSet};

    use super::*;

    struct On(&'static str);

    impl Instance for On {
        fn run(&mut self, _: RunRequest<'_>, _: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
            Ok(Vec::new())
        }

        fn placement(&self) -> Placement {
            Placement { provider: self.0.into(), ..Placement::default() }
        }
    }

    fn run(instance: &mut Resting) -> Result<(), String> {
        let request = RunRequest { inputs: &[], outputs: OutputSet::NONE, placements: &[], cancel: &Cancel::new(1) };
        let ran = instance.run(request, &mut RunTimings::default());
        ran.map(|_| ()).map_err(|error| format!("{:?}: {error}", error.kind()))
    }

    #[test]
    fn is_opened_once_for_each_rest_and_only_where_it_ran() {
        let opened = Arc::new(AtomicUsize::new(0));
        let open = {
            let opened = Arc::clone(&opened);
            move || -> anyhow::Result<Box<dyn Instance>> {
                match opened.fetch_add(1, Relaxed) {
                    0 | 1 => Ok(Box::new(On("CUDAExecutionProvider"))),
                    2 => bail!("no such file"),
                    _ => Ok(Box::new(On("CPUExecutionProvider"))),
                }
            }
        };
        let first = Box::new(On("CUDAExecutionProvider"));
        let mut instance = Resting::new("m".into(), first, Duration::from_secs(60), Box::new(open));
        assert_eq!(instance.rests_after(), Some(Duration::from_secs(60)));
        for times in 0..3 {
            assert_eq!((run(&mut instance), run(&mut instance)), (Ok(()), Ok(())));
            assert_eq!(opened.load(Relaxed), times);
            instance.rest();
        }
        let refusals = [run(&mut instance), run(&mut instance)].map(Result::unwrap_err);
        insta::assert_snapshot!(refusals.join("\n"), @r"
        Unavailable: model 'm' was closed while it had no requests (--idle-unload-secs), and cannot be opened again: no such file
        Unavailable: model 'm' was closed while it had no requests (--idle-unload-secs), and cannot be opened again: it ran on CUDAExecutionProvider, and now would run on CPUExecutionProvider
        ");
        assert_eq!(opened.load(Relaxed), 4, "each request tries it");
    }
}
