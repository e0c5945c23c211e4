//! The open connections of a listener, and which of them makes room when there are too many.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    observe::metrics::{Closed, ConnectionCounters},
    transport::guard::Guard,
};

/// Connections beyond the limit that may ask for health and metrics while every other connection is busy.
const RESERVE: usize = 16;

/// Connections that may be on their way out at once, if the listener's limit is not larger. Most take a moment.
const MIN_LEAVING: usize = 256;

/// The open connections of a listener.
pub(super) struct Table {
    max: usize,
    open: Mutex<Open>,
    counters: Arc<ConnectionCounters>,
}

#[derive(Default)]
struct Open {
    next_key: u64,
    ordinary: HashMap<u64, Arc<Guard>>,
    reserve: HashMap<u64, Arc<Guard>>,
    /// Those that were told to leave and have not left yet: a client that goes on with its streams may stay for long.
    leaving: HashSet<u64>,
}

/// The place of a connection; dropped, it is free.
pub(super) struct Place {
    table: Arc<Table>,
    key: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.table.open.lock();
        if open.ordinary.remove(&self.key).is_none() && open.reserve.remove(&self.key).is_none() {
            open.leaving.remove(&self.key);
        }
    }
}

impl Table {
    /// A table of at most `max` connections, about as many that are leaving, and a few in reserve.
    pub(super) fn new(max: usize, counters: Arc<ConnectionCounters>) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default(), counters })
    }

    /// Admits a connection. At the limit, the one that has rested the longest is told to leave; if all are busy, the new
    /// one is in reserve. `None` if the reserve is busy too.
    pub(super) fn admit(self: &Arc<Self>, guard: Guard) -> Option<(Arc<Guard>, Place)> {
        let mut open = self.open.lock();
        let Open { next_key, ordinary, reserve, leaving } = &mut *open;
        let now = Instant::now();
        let (connections, guard) = if self.make_room(ordinary, self.max, leaving, now) {
            (ordinary, guard)
        } else if self.make_room(reserve, RESERVE, leaving, now) {
            (reserve, guard.in_reserve())
        } else {
            self.counters.count(Closed::Refused);
            return None;
        };
        let (guard, key) = (Arc::new(guard), *next_key);
        *next_key += 1;
        connections.insert(key, Arc::clone(&guard));
        Some((guard, Place { table: Arc::clone(self), key }))
    }

    /// Tells the connection that has rested the longest to leave; whether there is one.
    pub(super) fn shed(&self) -> bool {
        let Open { ordinary, leaving, .. } = &mut *self.open.lock();
        self.make_room(ordinary, 0, leaving, Instant::now())
    }

    /// Whether there is room for one more, or a connection rests that can make room.
    fn make_room(
        &self,
        connections: &mut HashMap<u64, Arc<Guard>>,
        max: usize,
        leaving: &mut HashSet<u64>,
        now: Instant,
    ) -> bool {
        if connections.len() < max {
            return true;
        }
        if leaving.len() >= self.max.max(MIN_LEAVING) {
            return false;
        }
        let resting = connections.iter().filter_map(|(&key, guard)| Some((guard.rest(now)?, key)));
        let Some((_, key)) = resting.min() else { return false };
        if let Some(guard) = connections.remove(&key) {
            leaving.insert(key);
            guard.leave().cancel();
            self.counters.count(Closed::Shed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::transport::guard::{Phase, Timeouts};

    fn guard() -> Guard {
        Guard::new(Timeouts::default(), CancellationToken::new(), Arc::default())
    }

    /// A guard in a phase, which its task has looked at.
    async fn enter(guard: &Guard, phase: Phase) {
        guard.enter(phase);
        tokio::select! {
            biased;
            _ = guard.watch(std::future::pending::<()>()) => panic!("the guard ended"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_make_room_first_then_partial_heads_then_the_longest_idle() {
        let counters = Arc::<ConnectionCounters>::default();
        let table = Table::new(6, Arc::clone(&counters));
        let phases = [Phase::Answer, Phase::Quiet, Phase::Idle, Phase::Idle, Phase::Head, Phase::FirstByte];
        let mut admitted = Vec::new();
        for phase in phases {
            let (guard, place) = table.admit(guard()).unwrap();
            if phase != Phase::FirstByte {
                enter(&guard, phase).await;
            }
            admitted.push((guard, place));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let mut busy = Vec::new();
        for shed in [5, 4, 2, 3, 1] {
            let (guard, place) = table.admit(guard()).unwrap();
            assert!(!guard.is_reserve());
            enter(&guard, Phase::Body).await;
            busy.push((guard, place));
            let left: Vec<_> = (0..6).filter(|&index| admitted[index].0.leave().is_cancelled()).collect();
            assert!(left.contains(&shed) && left.len() == busy.len(), "{left:?}");
        }
        assert_eq!(counters.get(Closed::Shed), 5);
        // All are busy: the next ones are in reserve, and then refused.
        for _ in 0..RESERVE {
            let (guard, place) = table.admit(guard()).unwrap();
            assert!(guard.is_reserve());
            guard.enter(Phase::Answer);
            busy.push((guard, place));
        }
        assert!(table.admit(guard()).is_none());
        assert_eq!(counters.get(Closed::Refused), 1);
        // A place in reserve that is free or rests is used again.
        busy[RESERVE].0.enter(Phase::Idle);
        busy.push(table.admit(guard()).unwrap());
        // An ordinary place that is free is used first.
        admitted.clear();
        busy.remove(0);
        assert!(!table.admit(guard()).unwrap().0.is_reserve());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_rests_makes_room_below_the_limit_too() {
        let table = Table::new(4, Arc::default());
        let (resting, busy) = (table.admit(guard()).unwrap(), table.admit(guard()).unwrap());
        busy.0.enter(Phase::Answer);
        assert!(table.shed() && resting.0.leave().is_cancelled());
        assert!(!table.shed() && !busy.0.leave().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_do_not_leave_are_bounded() {
        let table = Table::new(1, Arc::default());
        // None of them leaves its place.
        let admitted: Vec<_> = std::iter::from_fn(|| table.admit(guard())).take(1000).collect();
        assert_eq!(admitted.len(), 1 + MIN_LEAVING + RESERVE);
        drop(admitted);
        assert!(!table.admit(guard()).unwrap().0.is_reserve());
    }
}
