//! The work of this process's threads on its GPUs, and the one kind of it that must be alone.
//!
//! While ONNX Runtime records a CUDA graph, CUDA refuses to all threads what might disturb the recording, such as
//! allocating memory or copying synchronously (`cudaStreamCaptureModeGlobal`): it would fail, and so would the recording.

use std::time::Duration;

#[cfg(test)]
use parking_lot::Mutex;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static WORK: RwLock<()> = RwLock::new(());

/// Held by tests that record, and by those that would feel it.
#[cfg(test)]
pub(super) static RECORDING: Mutex<()> = Mutex::new(());

/// Held for work that may go on beside other work. Not to be asked for by a thread that has it.
pub(super) fn shared() -> RwLockReadGuard<'static, ()> {
    WORK.read()
}

/// As [`shared`], if a recording is not under way.
pub(super) fn try_shared() -> Option<RwLockReadGuard<'static, ()>> {
    WORK.try_read()
}

/// Held for a recording: no other work is under way. `None` if that took longer than `patience`, in which no other work
/// begins.
pub(super) fn alone(patience: Duration) -> Option<RwLockWriteGuard<'static, ()>> {
    WORK.try_write_for(patience)
}
