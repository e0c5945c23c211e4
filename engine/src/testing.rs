//! A scripted backend for tests: known latency, known faults, and outputs that show their rows.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, ThreadId},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    backend::{Instance, Placement, RunRequest, RunTimings},
    error::InferError,
    tensor::Tensor,
};

/// Lets a test, not a clock, decide when runs end.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicUsize>);

impl Gate {
    /// Lets this many runs end, present or later ones.
    pub fn open_for(&self, runs: usize) {
        self.0.fetch_add(runs, SeqCst);
    }

    fn pass(&self) -> bool {
        self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

/// Answers each output with the first input that is there, after `latency`.
#[derive(Clone, Default)]
pub struct Echo {
    /// How long each run takes.
    pub latency: Duration,
    /// What each run waits for after `latency`.
    pub gate: Option<Gate>,
    /// A batch that holds this byte at the start of any row fails, or panics if `panics` is set.
    pub poison: Option<u8>,
    /// Whether poison panics instead of failing.
    pub panics: bool,
    /// The error of every run, as long as there is one.
    pub fault: Arc<Mutex<Option<InferError>>>,
    /// The GPU that its placement names.
    pub gpu: Option<String>,
    /// Whether it runs on any thread.
    pub runs_on_any_thread: bool,
    /// Threads that it ran on.
    pub threads: Arc<Mutex<HashSet<ThreadId>>>,
    /// Rows of the largest batch so far.
    pub largest: Arc<AtomicUsize>,
    /// Runs so far, stopped ones included.
    pub runs: Arc<AtomicUsize>,
    /// Runs that were cancelled halfway.
    pub stopped: Arc<AtomicUsize>,
}

impl Instance for Echo {
    #[allow(clippy::panic)] // As a backend may.
    fn run(&mut self, request: RunRequest<'_>, timings: &mut RunTimings) -> Result<Vec<Option<Tensor>>, InferError> {
        let input = request.inputs.iter().flatten().next().ok_or_else(|| InferError::internal("no input"))?;
        let rows = input.shape().dims().first().copied().unwrap_or(1);
        self.runs.fetch_add(1, SeqCst);
        self.threads.lock().insert(thread::current().id());
        self.largest.fetch_max(rows, SeqCst);
        let (stop, stopped) = mpsc::channel();
        let guard = request.cancel.on_cancel(move || {
            let _ = stop.send(());
        });
        let mut wait = self.latency;
        loop {
            if stopped.recv_timeout(wait).is_ok() {
                self.stopped.fetch_add(1, SeqCst);
                return Err(InferError::Cancelled);
            }
            if self.gate.as_ref().is_none_or(Gate::pass) {
                break;
            }
            wait = Duration::from_millis(1);
        }
        drop(guard);
        timings.infer = self.latency;
        if let Some(error) = &*self.fault.lock() {
            return Err(error.clone());
        }
        let row_bytes = (input.data().len() / rows.max(1)).max(1);
        let poisoned = |poison| input.data().chunks(row_bytes).any(|row| row.first() == Some(&poison));
        if self.poison.is_some_and(poisoned) {
            if self.panics {
                panic!("poisoned row");
            }
            return Err(InferError::internal("poisoned row"));
        }
        Ok(vec![request.outputs.contains(0).then(|| input.clone())])
    }

    fn placement(&self) -> Placement {
        Placement { provider: "Echo".into(), gpu: self.gpu.clone(), ..Placement::default() }
    }

    fn runs_on_any_thread(&self) -> bool {
        self.runs_on_any_thread
    }
}
