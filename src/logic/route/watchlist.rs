//! The workers that something may have to be done about, so that a turn of the loop costs the same
//! however many there are: full ones, those that have stopped reading, and when to look for more.

use std::collections::BTreeSet;

use super::seat::Seat;
use crate::logic::Worker;
use crate::logic::time::Time;

#[derive(Debug, Default)]
pub(super) struct Watchlist {
    /// Those whose windows are full, and some that were.
    full: BTreeSet<Worker>,
    stopped: BTreeSet<Worker>,
    /// Nobody counts as having stopped before this time; none while nothing is in flight.
    look_at: Option<Time>,
}

impl Watchlist {
    /// What is to be watched of these; everything has to be looked at soon.
    pub(super) fn of<'a>(seats: impl Iterator<Item = &'a Seat>) -> Self {
        let mut list = Self::default();
        for seat in seats {
            let Some(worker) = seat.worker else { continue };
            if !seat.window.has_room() {
                list.full.insert(worker);
            }
            if seat.still {
                list.stopped.insert(worker);
            }
            if seat.window.len() > 0 {
                list.look_at = Some(Time::default());
            }
        }
        list
    }

    /// Something was sent to a worker, which counts as having stopped at `stalls` if it picks nothing
    /// up.
    pub(super) fn sent(&mut self, worker: Worker, seat: &Seat, stalls: Time) {
        self.look_at.get_or_insert(stalls);
        if !seat.window.has_room() {
            self.full.insert(worker);
        }
    }

    pub(super) fn stopped(&mut self, worker: Worker) {
        self.stopped.insert(worker);
    }

    /// A worker reads again, and can have stopped again at `stalls`.
    pub(super) fn resumed(&mut self, worker: Worker, stalls: Time) {
        self.stopped.remove(&worker);
        self.look_at.get_or_insert(stalls);
    }

    pub(super) fn gone(&mut self, worker: Worker) {
        self.full.remove(&worker);
        self.stopped.remove(&worker);
    }

    /// All were looked at, and this is when the first of them can have stopped.
    pub(super) fn looked(&mut self, first: Option<Time>) {
        self.look_at = first;
    }

    /// When to look at all.
    pub(super) fn look_at(&self) -> Option<Time> {
        self.look_at
    }

    pub(super) fn has_stopped(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Those that are full, as `is_full` says.
    pub(super) fn full(&mut self, is_full: impl Fn(Worker) -> bool) -> Vec<Worker> {
        self.full.retain(|worker| is_full(*worker));
        self.full.iter().copied().collect()
    }

    /// Those that are or were full or have stopped, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = Worker> {
        self.full.union(&self.stopped).copied()
    }
}
