//! Assigns the requests of an open loop to clients.

use std::{collections::VecDeque, time::Duration};

/// One scheduled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its index in the schedule.
    pub index: usize,
    /// Intended send time since the start of the run.
    pub at: Duration,
}

/// Idle clients, and tickets that wait for one.
#[derive(Debug)]
pub struct OpenLoop<C> {
    idle: Vec<C>,
    waiting: VecDeque<Ticket>,
    /// Tickets that had to wait.
    pub waited: u64,
    closed: bool,
}

impl<C> OpenLoop<C> {
    /// A loop with all clients; the last ones are used first.
    pub fn new(clients: Vec<C>) -> Self {
        Self { idle: clients, waiting: VecDeque::new(), waited: 0, closed: false }
    }

    /// A ticket is due: returns an idle client to send it, or lets it wait.
    pub fn arrive(&mut self, ticket: Ticket) -> Option<(C, Ticket)> {
        let client = self.idle.pop();
        if client.is_none() {
            self.waiting.push_back(ticket);
            self.waited += 1;
        }
        client.map(|client| (client, ticket))
    }

    /// A client is free: it takes the ticket that has waited longest, or becomes idle.
    pub fn done(&mut self, client: C) -> Option<(C, Ticket)> {
        let next = self.waiting.pop_front();
        if next.is_none() || self.closed {
            self.idle.push(client);
            return None;
        }
        next.map(|ticket| (client, ticket))
    }

    /// Ends the window: returns the waiting tickets, which are never sent.
    pub fn close(&mut self) -> Vec<Ticket> {
        self.closed = true;
        self.waiting.drain(..).collect()
    }

    /// The clients, when all are idle.
    pub fn into_clients(self) -> Vec<C> {
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket(index: usize) -> Ticket {
        Ticket { index, at: Duration::from_millis(index as u64) }
    }

    proptest! {
        /// For any order of arrivals and completions: each ticket is sent once, in order, and no client sends two at a
        /// time; the tickets not sent are returned.
        #[test]
        fn each_ticket_is_sent_once_or_returned(clients in 1_usize..5, events in proptest::collection::vec(any::<bool>(), 0..100)) {
            let mut open_loop = OpenLoop::new((0..clients).collect());
            let (mut next, mut sent, mut busy) = (0, Vec::new(), Vec::new());
            for arrives in events {
                let started = if arrives {
                    next += 1;
                    open_loop.arrive(ticket(next - 1))
                } else {
                    busy.pop().and_then(|client| open_loop.done(client))
                };
                if let Some((client, ticket)) = started {
                    prop_assert!(!busy.contains(&client));
                    busy.push(client);
                    sent.push(ticket.index);
                }
                prop_assert!(busy.len() <= clients);
            }
            let unsent: Vec<usize> = open_loop.close().iter().map(|ticket| ticket.index).collect();
            let all: Vec<usize> = sent.into_iter().chain(unsent).collect();
            prop_assert_eq!(all, (0..next).collect::<Vec<_>>());
            for client in busy {
                prop_assert!(open_loop.done(client).is_none(), "nothing is sent after the end");
            }
            prop_assert_eq!(open_loop.into_clients().len(), clients);
        }
    }
}
