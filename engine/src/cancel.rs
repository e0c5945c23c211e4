//! Cancellation of a run when all of its requests are cancelled.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;

/// The cancellation of one run: it is cancelled when each of its requests has left.
pub struct Cancel {
    requests: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Cancel {
    /// For a run of this many requests.
    pub fn new(requests: usize) -> Self {
        Self { requests: AtomicUsize::new(requests), state: Mutex::default() }
    }

    /// A request leaves; the last one cancels the run. Call it once for each request.
    pub fn leave(&self) {
        if self.requests.fetch_sub(1, SeqCst) == 1 {
            let mut state = self.state.lock();
            state.cancelled = true;
            if let Some(stop) = state.stop.take() {
                stop();
            }
        }
    }

    /// Whether all requests have left.
    pub fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    /// Calls `stop` once if the run is cancelled while the guard lives, at once if it is cancelled already.
    /// After the guard is dropped, `stop` has either returned or is never called. `stop` must be short, and
    /// there is one at a time.
    #[must_use = "dropping the guard forgets `stop`"]
    pub fn on_cancel(&self, stop: impl FnOnce() + Send + 'static) -> StopGuard<'_> {
        let mut state = self.state.lock();
        if state.cancelled {
            stop();
        } else {
            state.stop = Some(Box::new(stop));
        }
        StopGuard(self)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// Keeps the function of [`Cancel::on_cancel`].
pub struct StopGuard<'a>(&'a Cancel);

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().stop = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    #[test]
    fn the_last_to_leave_stops_the_run_once() {
        let calls = Arc::new(AtomicUsize::new(0));
        let stop = |calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            move || {
                calls.fetch_add(1, SeqCst);
            }
        };
        let cancel = Cancel::new(2);
        let guard = cancel.on_cancel(stop(&calls));
        cancel.leave();
        assert!(!cancel.is_cancelled() && calls.load(SeqCst) == 0, "one request is left");
        cancel.leave();
        assert!(cancel.is_cancelled() && calls.load(SeqCst) == 1);
        drop(guard);
        let _late = cancel.on_cancel(stop(&calls));
        assert_eq!(calls.load(SeqCst), 2, "too late to wait: called at once");
    }

    #[test]
    fn a_run_that_ended_is_not_stopped() {
        let cancel = Cancel::new(1);
        drop(cancel.on_cancel(|| panic!("called after the run")));
        cancel.leave();
        assert!(cancel.is_cancelled());
    }
}
