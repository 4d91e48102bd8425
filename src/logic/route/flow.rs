//! Flow: what is on its way to workers, and whether they still read.

use super::Router;
use super::seat::Seat;
use super::terms::{Conn, Pulse};
use super::watchlist::Watchlist;
use super::window::InFlight;
use crate::logic::Worker;
use crate::logic::time::Time;

impl Router {
    /// From now on, so many times as many messages as configured may be in flight to a worker that
    /// has just picked something up; to another one, as many as configured.
    pub fn widen(&mut self, now: Time, times: usize) {
        for seat in self.seats.all_mut() {
            let times = if seat.window.is_quick(now) { times } else { 1 };
            seat.window.set_limit(self.config.in_flight * times);
        }
        self.watchlist = Watchlist::of(self.seats.all());
    }

    /// A message without a connection was sent to a worker.
    pub fn note_sent(&mut self, now: Time, worker: Worker) {
        if let Some(seat) = self.seats.get_mut(worker) {
            seat.window.sent(now, InFlight::Note);
            self.watchlist.sent(worker, seat, now + self.config.stall_timeout);
        }
    }

    /// A look at a worker's channel found this many messages unread.
    pub fn looked(&mut self, now: Time, worker: Worker, unread: usize) -> Pulse {
        let stall = self.config.stall_timeout;
        let Some(seat) = self.seats.get_mut(worker) else { return Pulse::Unchanged };
        let before = seat.window.len();
        seat.window.looked(now, unread);
        let still = seat.window.still_at(stall).is_some_and(|at| at <= now);
        match (seat.still, still) {
            (false, true) => {
                seat.still = true;
                self.watchlist.stopped(worker);
                Pulse::Stopped
            }
            (true, _) if seat.window.len() < before => {
                seat.still = false;
                self.watchlist.resumed(worker, now + stall);
                Pulse::Resumed
            }
            _ => Pulse::Unchanged,
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
        let Some(seat) = self.seats.get_mut(worker) else { return Vec::new() };
        seat.window.looked(now, taken + left);
        let taken = seat.window.take_back(now, taken);
        let connections = taken.iter().filter(|what| **what != InFlight::Note).count();
        seat.account.returned(connections);
        taken
    }

    /// A worker whose channel should be looked at now, since it seems to have stopped reading.
    #[must_use]
    pub fn due(&mut self, now: Time) -> Option<Worker> {
        if self.watchlist.look_at().is_none_or(|at| now < at) {
            return None;
        }
        let stalls = self.seats.all().filter_map(|seat| Some((self.stall_at(seat)?, seat.worker?)));
        let first = stalls.min();
        self.watchlist.looked(first.map(|(at, _)| at));
        first.filter(|(at, _)| *at <= now).map(|(_, worker)| worker)
    }

    /// Whether it matters when this worker picks something up: somebody waits for it, or it has
    /// stopped reading.
    pub fn is_wanted(&self, worker: Worker) -> bool {
        self.seats.get(worker).is_some_and(|seat| {
            let full = !seat.window.has_room();
            seat.still || (full && !(seat.queue.is_empty() && self.lobby.is_empty()))
        })
    }

    /// The workers for which [`Self::is_wanted`] holds.
    pub fn wanted(&self) -> Vec<Worker> {
        self.watchlist.all().filter(|worker| self.is_wanted(*worker)).collect()
    }

    /// The workers that seem to have no room, and may have some since they were last looked at.
    /// Look at them before the next connection is routed, so that it does not pass them over.
    pub fn full(&mut self) -> Vec<Worker> {
        let is_full = |worker| self.seats.get(worker).is_some_and(|seat| !seat.window.has_room());
        self.watchlist.full(is_full)
    }

    /// Whether this worker seems to have no room, and a look at its channel is likely to find some.
    pub fn is_worth_a_look(&self, worker: Worker) -> bool {
        self.seats.get(worker).is_some_and(|seat| seat.window.is_worth_a_look())
    }

    /// Whether this worker has stopped reading.
    pub fn is_still(&self, worker: Worker) -> bool {
        self.seats.get(worker).is_some_and(|seat| seat.still)
    }

    /// How many connections a worker was given and has not finished.
    pub fn open_with(&mut self, worker: Worker) -> Option<u32> {
        self.account(worker).map(|account| account.open())
    }

    /// The owner that a connection waits for which has just been told to wait; none if any worker will do.
    pub fn awaited(&self, conn: Conn) -> Option<Worker> {
        let is_last = |seat: &&Seat| seat.queue.back().is_some_and(|last| last.conn == conn);
        self.seats.all().find(is_last)?.worker
    }

    /// The last one that waits for a worker waits no more.
    pub fn turn_away(&mut self, owner: Worker) {
        if let Some(seat) = self.seats.get_mut(owner) {
            seat.queue.pop_back();
        }
    }

    /// Whether a worker has stopped reading, so that it matters when one picks something up although
    /// nobody waits.
    pub fn has_stopped_worker(&self) -> bool {
        self.watchlist.has_stopped()
    }

    pub(super) fn stall_at(&self, seat: &Seat) -> Option<Time> {
        if seat.still { None } else { seat.window.still_at(self.config.stall_timeout) }
    }
}
