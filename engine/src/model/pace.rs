//! Estimates whether a model's runs take less time than waking a thread: such runs are faster on the thread that
//! received the request.

use std::time::Duration;

use parking_lot::Mutex;

/// Longest time of a quick run. Waking a thread and being woken by it takes several times 10 µs. The thread that
/// receives requests also serves other connections: a run must not block it for longer than reading or writing a body.
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

    /// Records a run. A slow run on larger inputs than any quick one does not count against smaller inputs.
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
    fn a_run_is_expected_to_be_quick_after_several_quick_runs_on_inputs_as_large() {
        let pace = Pace::default();
        for _ in 0..STREAK {
            assert!(!pace.is_quick(10));
            pace.ran(10, QUICK);
        }
        assert!(pace.is_quick(10) && pace.is_quick(0) && !pace.is_quick(11));
        let slow = QUICK + Duration::from_nanos(1);
        pace.ran(11, slow);
        assert!(pace.is_quick(10), "only larger inputs were slow");
        pace.ran(20, QUICK);
        assert!(pace.is_quick(20));
        pace.ran(5, slow);
        assert!(!pace.is_quick(5) && !pace.is_quick(0), "the model has become slow");
    }
}
