//! A lock for GPU work: shared by ordinary work, exclusive for recording a CUDA graph.
//!
//! While ONNX Runtime records a CUDA graph, calls of any thread that might disturb the recording, such as allocating
//! memory or copying synchronously, fail and make the recording fail (`cudaStreamCaptureModeGlobal`).

use std::time::Duration;

#[cfg(test)]
use parking_lot::Mutex;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static WORK: RwLock<()> = RwLock::new(());

/// Held by tests that record, and by tests that a recording would disturb.
#[cfg(test)]
pub(super) static RECORDING: Mutex<()> = Mutex::new(());

/// Held for ordinary work, which may overlap with other work. A thread that holds it must not take it again.
pub(super) fn shared() -> RwLockReadGuard<'static, ()> {
    WORK.read()
}

/// As [`shared`]; `None` during a recording.
pub(super) fn try_shared() -> Option<RwLockReadGuard<'static, ()>> {
    WORK.try_read()
}

/// Held for a recording, while no other work runs. `None` if the running work takes longer than `timeout` to end; new
/// work waits meanwhile.
pub(super) fn exclusive(timeout: Duration) -> Option<RwLockWriteGuard<'static, ()>> {
    WORK.try_write_for(timeout)
}
