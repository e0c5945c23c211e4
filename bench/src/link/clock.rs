//! Wakes tasks on time: tokio's timer has ticks of 1 ms, too coarse for an emulated link.
//!
//! One thread sleeps until the earliest deadline, with the accuracy of the system's timer.

use std::{cmp::Reverse, collections::BinaryHeap, io, sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Wakes tasks; its thread ends with the last handle.
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    stopped: bool,
}

struct Sleeper {
    deadline: Instant,
    waker: oneshot::Sender<()>,
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}

impl Eq for Sleeper {}

impl Clock {
    /// Starts the clock's thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_clock_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("link-clock".into()).spawn(move || of_clock_thread.run())?;
        Ok(Self { shared })
    }

    /// Returns at `deadline`, never before.
    pub async fn sleep_until(&self, deadline: Instant) {
        if deadline <= Instant::now() {
            return;
        }
        let (waker, woken) = oneshot::channel();
        self.shared.state.lock().sleepers.push(Reverse(Sleeper { deadline, waker }));
        self.shared.changed.notify_one();
        let _ = woken.await;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            match state.sleepers.peek().map(|Reverse(sleeper)| sleeper.deadline) {
                None => self.changed.wait(&mut state),
                Some(deadline) if deadline > Instant::now() => {
                    self.changed.wait_until(&mut state, deadline);
                }
                Some(_) => {
                    if let Some(Reverse(sleeper)) = state.sleepers.pop() {
                        let _ = sleeper.waker.send(()); // fails if the task no longer waits
                    }
                }
            }
        }
        state.sleepers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn sleepers_wake_in_order_and_not_early() {
        let clock = Clock::start().unwrap();
        let start = Instant::now();
        let order = Mutex::new(Vec::new());
        let sleep = |ms| {
            let (clock, order) = (&clock, &order);
            async move {
                clock.sleep_until(start + Duration::from_millis(ms)).await;
                assert!(start.elapsed() >= Duration::from_millis(ms));
                order.lock().push(ms);
            }
        };
        tokio::join!(sleep(60), sleep(20), sleep(0), sleep(40));
        assert_eq!(*order.lock(), [0, 20, 40, 60]);
    }
}
