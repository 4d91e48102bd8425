//! Drain: workers that are withdrawn, and when nothing of them is left.
//!
//! A withdrawn worker gets no new keys. The connections of those that live on it still come to it, and
//! wait for it when it has no room; keys that are unused for their idle time move to others. With
//! `hash` placement, a key that was not announced lives in its slot, not on a worker, so it moves to
//! the present worker of the slot at once.

use super::Router;
use super::seat::Seat;
use crate::logic::Worker;
use crate::logic::time::Time;

impl Router {
    /// This worker gets no new keys any more. Nothing changes for one that is withdrawn already, or
    /// not there.
    pub fn withdraw(&mut self, now: Time, worker: Worker) {
        self.seats.withdraw(now, worker);
    }

    /// The withdrawn workers that are not gone yet.
    pub fn draining(&self) -> impl Iterator<Item = Worker> {
        self.seats.withdrawn().keys().copied()
    }

    /// A worker that mints says that none of its sessions is left. It says [`Self::busy`] if there
    /// is one again, before the connection that began it is said to be closed.
    pub fn quiet(&mut self, worker: Worker) {
        self.set_quiet(worker, true);
    }

    /// A worker that mints has sessions again.
    pub fn busy(&mut self, worker: Worker) {
        self.set_quiet(worker, false);
    }

    fn set_quiet(&mut self, worker: Worker, quiet: bool) {
        if let Some(seat) = self.seats.get_mut(worker) {
            seat.quiet = quiet;
        }
    }

    /// Whether a withdrawn worker has nothing left to do: no connection is open there, on its way to
    /// it or waiting for it, and no key lives on it. A worker that mints has to have said
    /// [`Self::quiet`], since nobody else knows its keys.
    pub fn is_drained(&mut self, now: Time, worker: Worker) -> bool {
        let Some(seat) = self.seats.withdrawn().get(&worker) else { return false };
        seat.is_clear() && !self.has_secret_keys(worker, seat) && !self.homes.is_home(now, worker)
    }

    /// When each withdrawn worker that has only unused keys left can lose the last one.
    pub(super) fn drain_ends(&self) -> impl Iterator<Item = Time> {
        self.seats.withdrawn().iter().filter_map(|(worker, seat)| {
            let only_keys = seat.is_clear() && !self.has_secret_keys(*worker, seat);
            if only_keys { self.homes.idle_at(*worker) } else { None }
        })
    }

    /// Whether keys may live on this worker that only itself knows.
    fn has_secret_keys(&self, worker: Worker, seat: &Seat) -> bool {
        !seat.quiet && self.homes.is_minter(worker)
    }
}
