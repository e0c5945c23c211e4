//! A budget of bytes: what the requests of the process hold of its memory, and the bodies that wait for more of it.
//!
//! A body is charged as it arrives. A body that finds too little waits, first come, first served, and for a limited time.
//! Bodies that are half received never wait for each other: a part of the budget is kept for one body at a time, the one
//! that has waited longest, and it receives all the rest of its bytes from that part. What follows a body (its tensors,
//! images and answers) does not wait, so it is released in any case.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

/// The bounds of a [`Budget`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that all requests may hold together.
    pub bytes: usize,
    /// Bytes of the largest body that is accepted, with the padding that aligns its tensors.
    pub largest_body: usize,
    /// How long a body waits for memory.
    pub wait: Duration,
    /// The flag that sets `bytes`, for error messages.
    pub flag: &'static str,
}

/// Why memory was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// One request alone needs too much, at any time.
    #[error(
        "the request of {bytes} bytes needs more than the {most} bytes that one may take of the memory for requests ({flag})"
    )]
    Alone {
        /// Bytes of the request.
        bytes: usize,
        /// Bytes that one request may have.
        most: usize,
        /// The flag of the budget.
        flag: &'static str,
    },
    /// Too little is free: the same request may succeed later.
    #[error(
        "no memory for {bytes} more bytes of the request: {used} of the {most} bytes for requests are in use ({flag})"
    )]
    Full {
        /// Bytes that were asked for.
        bytes: usize,
        /// Bytes in use.
        used: usize,
        /// Bytes of the budget.
        most: usize,
        /// The flag of the budget.
        flag: &'static str,
    },
}

/// The bytes that requests hold, up to a bound. Clones share it.
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    refusals: AtomicU64,
}

#[derive(Default)]
struct State {
    used: usize,
    /// Bytes that are kept for the one body that has the reserve, and not used yet.
    promised: usize,
    waiting: VecDeque<Waiting>,
}

/// A body that waits.
struct Waiting {
    /// Bytes that it needs now.
    bytes: usize,
    /// Bytes that it needs until it is complete, with those that it needs now.
    left: usize,
    granted: oneshot::Sender<Charge>,
}

impl Shared {
    /// Bytes that are kept for the one body that has waited longest, and thus the most that one body may have.
    fn reserve(&self) -> usize {
        self.bounds.largest_body.min(self.bounds.bytes / 2)
    }

    fn release(self: &Arc<Self>, bytes: usize, promised: usize) {
        let mut state = self.state.lock();
        state.used -= bytes;
        state.promised -= promised;
        let waits = !state.waiting.is_empty();
        drop(state);
        if waits {
            self.serve();
        }
    }

    /// Grants what is free to the bodies that wait, in their order.
    fn serve(self: &Arc<Self>) {
        while let Some((granted, charge)) = self.next() {
            // A body that no longer waits drops its charge, which releases it.
            let _ = granted.send(charge);
        }
    }

    /// The first body that waits, with what it is granted; `None` if it has to wait longer.
    fn next(self: &Arc<Self>) -> Option<(oneshot::Sender<Charge>, Charge)> {
        let mut state = self.state.lock();
        while state.waiting.front().is_some_and(|first| first.granted.is_closed()) {
            state.waiting.pop_front();
        }
        let &Waiting { bytes, left, .. } = state.waiting.front()?;
        let promised = if state.used.saturating_add(bytes) <= self.bounds.bytes - self.reserve() {
            0
        } else if state.promised == 0 && state.used.saturating_add(left) <= self.bounds.bytes {
            left - bytes
        } else {
            return None;
        };
        state.used += bytes;
        state.promised += promised;
        let first = state.waiting.pop_front()?;
        Some((first.granted, Charge { budget: Budget(Arc::clone(self)), bytes, promised }))
    }
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared { bounds, state: Mutex::default(), refusals: AtomicU64::new(0) }))
    }

    /// A budget that refuses nothing.
    pub fn unlimited() -> Self {
        Self::new(Bounds { bytes: usize::MAX, largest_body: usize::MAX, wait: Duration::ZERO, flag: "" })
    }

    /// A charge of no bytes.
    pub fn charge(&self) -> Charge {
        Charge { budget: self.clone(), bytes: 0, promised: 0 }
    }

    /// The most bytes that one body may have.
    pub fn largest(&self) -> usize {
        self.0.reserve()
    }

    /// Checks that a body of `bytes` can ever be received.
    ///
    /// # Errors
    /// [`Exhausted::Alone`].
    pub fn check(&self, bytes: usize) -> Result<(), Exhausted> {
        let most = self.largest();
        if bytes <= most {
            return Ok(());
        }
        self.0.refusals.fetch_add(1, Relaxed);
        Err(Exhausted::Alone { bytes, most, flag: self.0.bounds.flag })
    }

    /// Bytes that are in use.
    pub fn used(&self) -> usize {
        self.0.state.lock().used
    }

    /// Bytes of the budget.
    pub fn bytes(&self) -> usize {
        self.0.bounds.bytes
    }

    /// How often memory was refused.
    pub fn refusals(&self) -> u64 {
        self.0.refusals.load(Relaxed)
    }

    fn full(&self, bytes: usize, used: usize) -> Exhausted {
        self.0.refusals.fetch_add(1, Relaxed);
        Exhausted::Full { bytes, used, most: self.0.bounds.bytes, flag: self.0.bounds.flag }
    }
}

/// Bytes of a [`Budget`] that one holder has; they are released when it is dropped.
pub struct Charge {
    budget: Budget,
    bytes: usize,
    /// Bytes that are kept for this one, and not used yet.
    promised: usize,
}

impl Charge {
    /// Bytes that it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more, even if there is too little: for memory that has to be used in any case, e.g. an answer's.
    pub fn force(&mut self, bytes: usize) {
        self.budget.0.state.lock().used += bytes;
        self.bytes += bytes;
    }

    /// Takes more for what follows a complete body.
    ///
    /// # Errors
    /// [`Exhausted::Full`].
    pub fn try_force(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let bounds = self.budget.0.bounds;
        let mut state = self.budget.0.state.lock();
        if state.used.saturating_add(state.promised).saturating_add(bytes) > bounds.bytes {
            let used = state.used;
            drop(state);
            return Err(self.budget.full(bytes, used));
        }
        state.used += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes `bytes` more for a body, without waiting. Returns whether there was enough.
    fn take(&mut self, bytes: usize) -> bool {
        let shared = &self.budget.0;
        let mut state = shared.state.lock();
        let has_reserve = self.promised >= bytes && bytes > 0;
        if has_reserve {
            state.promised -= bytes;
            self.promised -= bytes;
        } else if !state.waiting.is_empty() || state.used.saturating_add(bytes) > shared.bounds.bytes - shared.reserve()
        {
            return false;
        }
        state.used += bytes;
        self.bytes += bytes;
        true
    }

    /// Takes `bytes` more for a body, without waiting.
    ///
    /// # Errors
    /// [`Exhausted::Full`].
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if self.take(bytes) { Ok(()) } else { Err(self.budget.full(bytes, self.budget.used())) }
    }

    /// Takes `bytes` more for a body that needs at most `left` bytes, with these, until it is complete. Waits if there is
    /// too little.
    ///
    /// # Errors
    /// [`Exhausted::Full`] after the longest wait.
    pub async fn grow(&mut self, bytes: usize, left: usize) -> Result<(), Exhausted> {
        if self.take(bytes) {
            return Ok(());
        }
        let budget = self.budget.clone();
        let (granted, receiver) = oneshot::channel();
        budget.0.state.lock().waiting.push_back(Waiting { bytes, left: left.max(bytes), granted });
        // The bodies behind this one are served when it waits no longer, for any reason.
        let _serve = Serve(&budget.0);
        budget.0.serve();
        match timeout(budget.0.bounds.wait, receiver).await {
            Ok(Ok(mut more)) => {
                self.bytes += std::mem::take(&mut more.bytes);
                self.promised += std::mem::take(&mut more.promised);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(budget.full(bytes, budget.used())),
        }
    }

    /// These bytes, which hold the charge as long as they are used.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        struct Held {
            bytes: Bytes,
            _charge: Charge,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Held { bytes, _charge: self }) }
    }

    /// Releases all bytes, and stays usable.
    pub fn release(&mut self) {
        let (bytes, promised) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.promised));
        if bytes > 0 || promised > 0 {
            self.budget.0.release(bytes, promised);
        }
    }

    /// Gives back what is kept for a body that is complete.
    pub fn complete(&mut self) {
        let promised = std::mem::take(&mut self.promised);
        if promised > 0 {
            self.budget.0.release(0, promised);
        }
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("bytes", &self.bytes).field("promised", &self.promised).finish()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release();
    }
}

struct Serve<'a>(&'a Arc<Shared>);

impl Drop for Serve<'_> {
    fn drop(&mut self) {
        self.0.serve();
    }
}

#[cfg(test)]
mod tests;
