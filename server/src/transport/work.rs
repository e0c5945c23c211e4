//! Work that uses the CPU for long (decompression, large JSON, many tensors), away from the I/O threads: a few pieces at
//! once, in the order in which they come, and stopped when their request is gone.

use std::sync::{Arc, LazyLock};

use quintet_engine::InferError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The least bytes of text or of small fields that are read or written away from the I/O threads. Less takes about a
/// millisecond.
pub(super) const LARGE_BYTES: usize = 256 << 10;

/// One permit for each piece of work that may run at once: one for each core, for the whole process.
static PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores))
});

/// Whether the request of a piece of work is gone.
pub(super) struct Stop(CancellationToken);

impl Stop {
    /// Call it from time to time.
    ///
    /// # Errors
    /// [`InferError::Cancelled`] if nobody waits for the work any more.
    pub(super) fn check(&self) -> Result<(), InferError> {
        if self.0.is_cancelled() { Err(InferError::Cancelled) } else { Ok(()) }
    }
}

/// Runs `work` on another thread. Dropping the future stops it.
///
/// # Errors
/// Those of `work`, and [`quintet_engine::ErrorKind::Internal`] if it panics.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, InferError> + Send + 'static,
) -> Result<T, InferError> {
    let permit = Arc::clone(&PERMITS).acquire_owned().await.map_err(InferError::internal)?;
    let stop = CancellationToken::new();
    let _stop_when_dropped = stop.clone().drop_guard();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let stop = Stop(stop);
        stop.check()?;
        work(&stop)
    });
    done.await.map_err(InferError::internal)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_stopped_when_nobody_waits_for_it() {
        let (started, has_started) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let waiting = tokio::spawn(run(move |stop| {
            started.send(()).unwrap();
            while stop.check().is_ok() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
            Ok(())
        }));
        tokio::task::spawn_blocking(move || has_started.recv().unwrap()).await.unwrap();
        waiting.abort();
        tokio::task::spawn_blocking(move || has_ended.recv().unwrap()).await.unwrap();
        assert_eq!(run(|_| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_costs_one_request() {
        let error = run(|_| -> Result<(), InferError> { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(error.kind(), quintet_engine::ErrorKind::Internal);
    }
}
