//! The threads that serve connections. Each connection stays on one thread, so only the answer of a model's instance
//! crosses threads.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The largest number of I/O threads, on any number of cores.
const MAX_THREADS: usize = 32;

/// One thread per core, each with its own event loop. They end when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct IoThreads(Arc<Threads>);

#[derive(Debug)]
struct Threads {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _stop: DropGuard,
}

impl IoThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread or its event loop cannot be created.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let stop = CancellationToken::new();
        let handles = (0..count).map(|index| start(index, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Threads { handles, next: AtomicUsize::new(0), _stop: stop.drop_guard() })))
    }

    /// The thread for the next connection, in turn.
    pub(super) fn next(&self) -> &Handle {
        let Threads { handles, next, .. } = &*self.0;
        &handles[next.fetch_add(1, Relaxed) % handles.len()]
    }
}

fn start(index: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(format!("io/{index}")).spawn(move || runtime.block_on(stop.cancelled_owned()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn threads_take_turns_and_end_with_the_last_clone() {
        let threads = IoThreads::start().unwrap();
        let count = threads.0.handles.len();
        let mut names = HashSet::new();
        for _ in 0..count {
            let name = threads.next().spawn(async { thread::current().name().map(str::to_owned) });
            names.insert(name.await.unwrap());
        }
        assert_eq!(names.len(), count);
        let unfinished = threads.next().spawn(std::future::pending::<()>());
        drop(threads);
        assert!(unfinished.await.unwrap_err().is_cancelled());
    }
}
