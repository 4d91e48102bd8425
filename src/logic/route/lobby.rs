//! The lobby: connections that wait for any worker, a queue for each door.
//!
//! A door that nobody serves just now keeps nobody waiting at another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::terms::{Conn, Door, Visitor};

/// Connections that wait for any worker which serves their door.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Lobby {
    /// None of them is empty, but in a state of an earlier program.
    queues: BTreeMap<Door, VecDeque<Visitor>>,
}

impl Lobby {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(VecDeque::is_empty)
    }

    /// Whether nobody waits at this door.
    pub(super) fn is_empty_at(&self, door: Door) -> bool {
        self.queues.get(&door).is_none_or(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// All that wait, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Visitor> {
        self.queues.values().flatten()
    }

    /// Whoever is first at each door, the longest waiting one first.
    pub(super) fn firsts(&self) -> Vec<(Conn, Door)> {
        let fronts = self.queues.iter().filter_map(|(door, queue)| Some((queue.front()?, door)));
        let mut firsts: Vec<_> = fronts.map(|(visitor, door)| (visitor.conn, *door)).collect();
        firsts.sort_unstable();
        firsts
    }

    pub(super) fn front(&self, door: Door) -> Option<Visitor> {
        self.queues.get(&door)?.front().copied()
    }

    pub(super) fn pop_front(&mut self, door: Door) -> Option<Visitor> {
        let queue = self.queues.get_mut(&door)?;
        let first = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&door);
        }
        first
    }

    pub(super) fn push_back(&mut self, visitor: Visitor) {
        self.queues.entry(visitor.door).or_default().push_back(visitor);
    }

    pub(super) fn push_front(&mut self, visitor: Visitor) {
        self.queues.entry(visitor.door).or_default().push_front(visitor);
    }

    /// Sends everybody away who waits at this door.
    pub(super) fn close(&mut self, door: Door) -> Vec<Conn> {
        let queue = self.queues.remove(&door).unwrap_or_default();
        queue.into_iter().map(|visitor| visitor.conn).collect()
    }

    /// Lets those in who waited for a worker which serves them no more, each in its turn.
    pub(super) fn admit(&mut self, orphans: VecDeque<Visitor>) {
        let doors: BTreeSet<_> = orphans.iter().map(|visitor| visitor.door).collect();
        for visitor in orphans {
            self.push_back(visitor);
        }
        for door in doors {
            let queue = self.queues.entry(door).or_default();
            queue.make_contiguous().sort_by_key(|visitor| visitor.conn);
        }
    }
}
