//! Draining: workers that get no new keys, and when nothing of them is left.
//!
//! A draining worker still gets the connections of the keys that it owns, and they are queued for it
//! when it has no room; keys that are unused for their idle time are forgotten. With `hash` placement,
//! a key that was not announced belongs to its slot, so it moves to the current worker of the slot at
//! once.

use super::Router;
use super::backend::Backend;
use crate::logic::Worker;
use crate::logic::time::Time;

impl Router {
    /// This worker gets no new keys any more. Nothing changes for one that drains already, or is
    /// not there.
    pub fn drain(&mut self, now: Time, worker: Worker) {
        self.pool.drain(now, worker);
    }

    /// The draining workers.
    pub fn draining(&self) -> impl Iterator<Item = Worker> {
        self.pool.draining().keys().copied()
    }

    /// A worker that mints says that none of its sessions is left. It says [`Self::sessions_resumed`] if there
    /// is one again, before the connection that began it is said to be closed.
    pub fn sessions_over(&mut self, worker: Worker) {
        self.set_sessions_over(worker, true);
    }

    /// A worker that mints has sessions again.
    pub fn sessions_resumed(&mut self, worker: Worker) {
        self.set_sessions_over(worker, false);
    }

    fn set_sessions_over(&mut self, worker: Worker, quiet: bool) {
        if let Some(backend) = self.pool.get_mut(worker) {
            backend.sessions_over = quiet;
        }
    }

    /// Whether a draining worker has nothing left to do: no connection is open there, on its way to
    /// it or queued for it, and it owns no key. A worker that mints has to have said
    /// [`Self::sessions_over`], since nobody else knows its keys.
    pub fn is_drained(&mut self, now: Time, worker: Worker) -> bool {
        let Some(backend) = self.pool.draining().get(&worker) else { return false };
        backend.is_idle()
            && !self.may_have_minted_keys(worker, backend)
            && !self.affinity.has_keys(now, worker)
    }

    /// When each draining worker that has only unused keys left can lose the last one.
    pub(super) fn drain_ends(&self) -> impl Iterator<Item = Time> {
        self.pool.draining().iter().filter_map(|(worker, backend)| {
            let only_keys = backend.is_idle() && !self.may_have_minted_keys(*worker, backend);
            if only_keys { self.affinity.idle_at(*worker) } else { None }
        })
    }

    /// Whether this worker may own keys that only itself knows.
    fn may_have_minted_keys(&self, worker: Worker, backend: &Backend) -> bool {
        !backend.sessions_over && self.affinity.is_minter(worker)
    }
}
