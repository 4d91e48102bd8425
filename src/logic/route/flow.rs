//! Flow control: what is in flight to workers, and whether they still read.

use super::Router;
use super::backend::Backend;
use super::terms::Health;
use super::watchlist::Watchlist;
use super::window::InFlight;
use crate::logic::Worker;
use crate::logic::time::Time;

impl Router {
    /// From now on, so many times as many messages as configured may be in flight to a worker that
    /// has just picked something up; to another one, as many as configured.
    pub fn scale_windows(&mut self, now: Time, times: usize) {
        for backend in self.pool.all_mut() {
            let times = if backend.window.is_responsive(now) { times } else { 1 };
            backend.window.set_limit(self.config.in_flight * times);
        }
        self.watchlist = Watchlist::of(self.pool.all());
    }

    /// A message without a connection was sent to a worker.
    pub fn note_sent(&mut self, now: Time, worker: Worker) {
        if let Some(backend) = self.pool.get_mut(worker) {
            backend.window.sent(now, InFlight::Note);
            self.watchlist.sent(worker, backend, now + self.config.stall_timeout);
        }
    }

    /// A worker's channel has this many messages unread.
    pub fn note_unread(&mut self, now: Time, worker: Worker, unread: usize) -> Health {
        let stall = self.config.stall_timeout;
        let Some(backend) = self.pool.get_mut(worker) else { return Health::Unchanged };
        let before = backend.window.len();
        backend.window.note_unread(now, unread);
        let stalled = backend.window.stalls_at(stall).is_some_and(|at| at <= now);
        match (backend.stalled, stalled) {
            (false, true) => {
                backend.stalled = true;
                self.watchlist.stalled(worker);
                Health::Stalled
            }
            (true, _) if backend.window.len() < before => {
                backend.stalled = false;
                self.watchlist.resumed(worker, now + stall);
                Health::Resumed
            }
            _ => Health::Unchanged,
        }
    }

    /// So many messages in flight to a worker were taken back, and so many are left behind them; it
    /// had picked up all before them. Returns what they were, in the order of their sending.
    /// Connections among them no longer count as given.
    pub fn take_back(
        &mut self,
        now: Time,
        worker: Worker,
        taken: usize,
        left: usize,
    ) -> Vec<InFlight> {
        let Some(backend) = self.pool.get_mut(worker) else { return Vec::new() };
        backend.window.note_unread(now, taken + left);
        let taken = backend.window.take_back(now, taken);
        let connections = taken.iter().filter(|what| **what != InFlight::Note).count();
        backend.open.taken_back(connections);
        taken
    }

    /// A worker that seems to have stalled: look at its channel.
    #[must_use]
    pub fn poll_stalled(&mut self, now: Time) -> Option<Worker> {
        if self.watchlist.check_at().is_none_or(|at| now < at) {
            return None;
        }
        let stalls =
            self.pool.all().filter_map(|backend| Some((self.stalls_at(backend)?, backend.worker?)));
        let first = stalls.min();
        self.watchlist.checked(first.map(|(at, _)| at));
        first.filter(|(at, _)| *at <= now).map(|(_, worker)| worker)
    }

    /// Whether it matters when this worker picks something up: something is queued for it, or it has
    /// stalled.
    pub fn is_watched(&self, worker: Worker) -> bool {
        self.pool.get(worker).is_some_and(|backend| {
            let full = !backend.window.has_room();
            backend.stalled || (full && !(backend.queue.is_empty() && self.unassigned.is_empty()))
        })
    }

    /// The workers for which [`Self::is_watched`] holds.
    pub fn watched(&self) -> Vec<Worker> {
        self.watchlist.all().filter(|worker| self.is_watched(*worker)).collect()
    }

    /// The workers that seem to have no room, and may have some since they were last looked at.
    /// Look at them before the next connection is routed, so that it does not pass them over.
    pub fn full(&mut self) -> Vec<Worker> {
        let is_full =
            |worker| self.pool.get(worker).is_some_and(|backend| !backend.window.has_room());
        self.watchlist.full(is_full)
    }

    /// Whether this worker seems to have no room, and a look at its channel is likely to find some.
    pub fn may_have_room(&self, worker: Worker) -> bool {
        self.pool.get(worker).is_some_and(|backend| backend.window.may_have_room())
    }

    /// Whether this worker has stalled.
    pub fn is_stalled(&self, worker: Worker) -> bool {
        self.pool.get(worker).is_some_and(|backend| backend.stalled)
    }

    /// How many connections are open on a worker.
    pub fn open_on(&mut self, worker: Worker) -> Option<u32> {
        self.open_count(worker).map(|open| open.get())
    }

    /// Whether a worker has stalled, so that it matters when one picks something up although nothing is
    /// queued.
    pub fn has_stalled(&self) -> bool {
        self.watchlist.has_stalled()
    }

    pub(super) fn stalls_at(&self, backend: &Backend) -> Option<Time> {
        if backend.stalled { None } else { backend.window.stalls_at(self.config.stall_timeout) }
    }
}
