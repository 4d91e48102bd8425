//! Unassigned connections: those queued for any worker, a queue for each listener.
//!
//! A listener that no worker serves just now holds up no other one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::terms::{Candidate, Conn, ListenerId};

/// Connections queued for any worker that serves their listener.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Unassigned {
    /// None of them is empty, but in a state of an earlier program.
    queues: BTreeMap<ListenerId, VecDeque<Candidate>>,
}

impl Unassigned {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(VecDeque::is_empty)
    }

    /// Whether nothing is queued for this listener.
    pub(super) fn is_empty_at(&self, listener: ListenerId) -> bool {
        self.queues.get(&listener).is_none_or(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// All that are queued, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Candidate> {
        self.queues.values().flatten()
    }

    /// The first of each queue, the one that arrived first before the others.
    pub(super) fn fronts(&self) -> Vec<(Conn, ListenerId)> {
        let fronts =
            self.queues.iter().filter_map(|(listener, queue)| Some((queue.front()?, listener)));
        let mut firsts: Vec<_> =
            fronts.map(|(candidate, listener)| (candidate.conn, *listener)).collect();
        firsts.sort_unstable();
        firsts
    }

    pub(super) fn front(&self, listener: ListenerId) -> Option<Candidate> {
        self.queues.get(&listener)?.front().copied()
    }

    pub(super) fn pop_front(&mut self, listener: ListenerId) -> Option<Candidate> {
        let queue = self.queues.get_mut(&listener)?;
        let first = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&listener);
        }
        first
    }

    pub(super) fn push_back(&mut self, candidate: Candidate) {
        self.queues.entry(candidate.listener).or_default().push_back(candidate);
    }

    pub(super) fn push_front(&mut self, candidate: Candidate) {
        self.queues.entry(candidate.listener).or_default().push_front(candidate);
    }

    /// Removes and returns all that are queued for this listener.
    pub(super) fn remove_listener(&mut self, listener: ListenerId) -> Vec<Conn> {
        let queue = self.queues.remove(&listener).unwrap_or_default();
        queue.into_iter().map(|candidate| candidate.conn).collect()
    }

    /// Queues those that were bound to a worker which no longer serves them, in the order of their arrival.
    pub(super) fn requeue(&mut self, orphans: VecDeque<Candidate>) {
        let listeners: BTreeSet<_> = orphans.iter().map(|candidate| candidate.listener).collect();
        for candidate in orphans {
            self.push_back(candidate);
        }
        for listener in listeners {
            let queue = self.queues.entry(listener).or_default();
            queue.make_contiguous().sort_by_key(|candidate| candidate.conn);
        }
    }
}
