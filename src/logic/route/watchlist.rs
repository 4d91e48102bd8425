//! The workers that something may have to be done about, so that a turn of the loop costs the same
//! however many there are: full ones, stalled ones, and when to look for more.

use std::collections::BTreeSet;

use super::backend::Backend;
use crate::logic::Worker;
use crate::logic::time::Time;

#[derive(Debug, Default)]
pub(super) struct Watchlist {
    /// Those whose windows are full, and some that were.
    full: BTreeSet<Worker>,
    stalled: BTreeSet<Worker>,
    /// No worker counts as stalled before this time; `None` while nothing is in flight.
    check_at: Option<Time>,
}

impl Watchlist {
    /// What is to be watched of these; everything has to be looked at soon.
    pub(super) fn of<'a>(backends: impl Iterator<Item = &'a Backend>) -> Self {
        let mut list = Self::default();
        for backend in backends {
            let Some(worker) = backend.worker else { continue };
            if !backend.window.has_room() {
                list.full.insert(worker);
            }
            if backend.stalled {
                list.stalled.insert(worker);
            }
            if backend.window.len() > 0 {
                list.check_at = Some(Time::default());
            }
        }
        list
    }

    /// Something was sent to a worker, which counts as stalled at `stalls` if it picks nothing
    /// up.
    pub(super) fn sent(&mut self, worker: Worker, backend: &Backend, stalls: Time) {
        self.check_at.get_or_insert(stalls);
        if !backend.window.has_room() {
            self.full.insert(worker);
        }
    }

    pub(super) fn stalled(&mut self, worker: Worker) {
        self.stalled.insert(worker);
    }

    /// A worker reads again, and can stall again at `stalls`.
    pub(super) fn resumed(&mut self, worker: Worker, stalls: Time) {
        self.stalled.remove(&worker);
        self.check_at.get_or_insert(stalls);
    }

    pub(super) fn remove(&mut self, worker: Worker) {
        self.full.remove(&worker);
        self.stalled.remove(&worker);
    }

    /// All were looked at, and this is when the first of them can stall.
    pub(super) fn checked(&mut self, first: Option<Time>) {
        self.check_at = first;
    }

    /// When to look at all.
    pub(super) fn check_at(&self) -> Option<Time> {
        self.check_at
    }

    pub(super) fn has_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Those that are full, as `is_full` says.
    pub(super) fn full(&mut self, is_full: impl Fn(Worker) -> bool) -> Vec<Worker> {
        self.full.retain(|worker| is_full(*worker));
        self.full.iter().copied().collect()
    }

    /// Those that are or were full or stalled, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = Worker> {
        self.full.union(&self.stalled).copied()
    }
}
