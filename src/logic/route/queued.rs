//! Queued connections: which of them can go, and where.

use super::affinity::Owner;
use super::backend::Backend;
use super::terms::{Assignment, Conn, Reason};
use super::{Router, reason};
use crate::logic::Worker;
use crate::logic::time::Time;

impl Router {
    /// The next queued connection that can go, and its worker. It counts as sent.
    #[must_use]
    pub fn next(&mut self, now: Time) -> Option<(Conn, Assignment)> {
        loop {
            let bound = self.first_queued();
            match self.next_unassigned(now, bound.map(|(conn, _)| conn)) {
                NextUnassigned::Given(conn, give) => return Some((conn, give)),
                NextUnassigned::Bound => continue,
                NextUnassigned::Nobody => {}
            }
            let (_, owner) = bound?;
            let candidate = self.pool.get_mut(owner)?.queue.pop_front()?;
            return Some((candidate.conn, self.assign(now, owner, candidate, Reason::OwnedKey)));
        }
    }

    /// How many connections are queued.
    pub fn queue_len(&self) -> usize {
        self.unassigned.len() + self.pool.all().map(|backend| backend.queue.len()).sum::<usize>()
    }

    /// The queued connections, in no order.
    pub fn queued(&self) -> impl Iterator<Item = Conn> {
        let bound = self.pool.all().flat_map(|backend| &backend.queue);
        bound.chain(self.unassigned.all()).map(|candidate| candidate.conn)
    }

    /// The owner that a connection is queued for which was queued last; `None` if any worker will do.
    pub fn waits_for(&self, conn: Conn) -> Option<Worker> {
        let is_last =
            |backend: &&Backend| backend.queue.back().is_some_and(|last| last.conn == conn);
        self.pool.all().find(is_last)?.worker
    }

    /// Drops a connection that is queued for the owner of its key. Returns that owner.
    pub fn drop_queued(&mut self, conn: Conn) -> Option<Worker> {
        for backend in self.pool.all_mut() {
            let queued = backend.queue.iter().rposition(|candidate| candidate.conn == conn);
            if let Some(at) = queued {
                backend.queue.remove(at);
                return backend.worker;
            }
        }
        None
    }

    /// The oldest connection that is queued for a worker which has room.
    fn first_queued(&self) -> Option<(Conn, Worker)> {
        let free = self.pool.all().filter(|backend| backend.has_room());
        free.filter_map(|backend| Some((backend.queue.front()?.conn, backend.worker?))).min()
    }

    /// Takes the first connection that waits for anyone and can go; only those that came before
    /// Takes the first unassigned connection that can go, of those that came before `bound`, which is
    /// queued for its owner.
    fn next_unassigned(&mut self, now: Time, bound: Option<Conn>) -> NextUnassigned {
        for (conn, listener) in self.unassigned.fronts() {
            if bound.is_some_and(|bound| bound < conn) {
                break;
            }
            let candidate =
                self.unassigned.front(listener).expect("somebody is first at this listener");
            let owner = self.affinity.owner(now, &self.pool, &candidate);
            if let Some(Owner::Live(owner)) = owner {
                self.unassigned.pop_front(listener);
                let backend = self.pool.get_mut(owner).expect("only a live worker owns a key");
                backend.queue.push_back(candidate);
                return NextUnassigned::Bound;
            }
            if let Some(worker) = self.choose(now, &candidate) {
                self.unassigned.pop_front(listener);
                let reason = reason(&candidate, owner);
                return NextUnassigned::Given(conn, self.assign(now, worker, candidate, reason));
            }
        }
        NextUnassigned::Nobody
    }
}

/// What became of the first connections of the unassigned queues.
enum NextUnassigned {
    /// This connection can go.
    Given(Conn, Assignment),
    /// The key of one has an owner by now, and it is queued for that one.
    Bound,
    /// None can go.
    Nobody,
}
