//! How fast a model runs, as far as it decides where to run it: a run that is over sooner than a thread wakes up is
//! carried out by the thread that brought the request.

use std::time::Duration;

use parking_lot::Mutex;

/// What a run may take to be quick. Waking a thread and being woken by it takes several times 10 µs, and the thread
/// that brings requests serves others, too: it must not be kept for longer than by a body that it reads or writes.
const QUICK: Duration = Duration::from_micros(100);
/// How many runs in a row must have been quick.
const STREAK: u32 = 4;

/// The last runs of a model.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    quick_in_a_row: u32,
    /// The largest inputs that were quick.
    bytes: usize,
}

impl Pace {
    /// Whether a run on inputs of this many bytes is expected to be quick.
    pub(crate) fn is_quick(&self, bytes: usize) -> bool {
        let state = self.0.lock();
        state.quick_in_a_row >= STREAK && bytes <= state.bytes
    }

    /// Notes a run. A slow one on larger inputs than were ever quick says nothing of smaller ones.
    pub(crate) fn ran(&self, bytes: usize, took: Duration) {
        let mut state = self.0.lock();
        if took <= QUICK {
            state.quick_in_a_row = state.quick_in_a_row.saturating_add(1);
            state.bytes = state.bytes.max(bytes);
        } else if bytes <= state.bytes {
            *state = State::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_what_was_so_several_times_and_never_larger() {
        let pace = Pace::default();
        for _ in 0..STREAK {
            assert!(!pace.is_quick(10));
            pace.ran(10, QUICK);
        }
        assert!(pace.is_quick(10) && pace.is_quick(0) && !pace.is_quick(11));
        let slow = QUICK + Duration::from_nanos(1);
        pace.ran(11, slow);
        assert!(pace.is_quick(10), "that was a larger one");
        pace.ran(20, QUICK);
        assert!(pace.is_quick(20));
        pace.ran(5, slow);
        assert!(!pace.is_quick(5) && !pace.is_quick(0), "the model is not what it was");
    }
}
