//! Route: who gets a connection.
//!
//! The [`Router`] hears of connections, workers and their messages, and answers with who gets what.
//! It holds no socket. A connection is a number to it, and what was said about it here happens
//! because the engine does it.
//!
//! A connection whose key lives on a worker (its *owner*) goes there and nowhere else; when the
//! owner has no room it waits for it. Any other connection goes where the placement says, and when
//! no worker has room it waits for the first one that has. Nobody overtakes within a queue.
//!
//! After [`Router::ready`], [`Router::looked`], [`Router::gone`] and [`Router::closed`], and when the time of
//! [`Router::poll_timeout`] has come, waiting connections may have become free to go: ask
//! [`Router::next`] until it has none.

pub mod hash;
pub mod head;
mod home;
pub mod key;
pub mod memory;
mod placement;
pub mod returns;
mod seat;
mod shelf;
mod terms;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;

pub use placement::Balance;
pub use terms::{
    Arrival, Conn, Give, Look, OwnedByAnother, Pulse, Reason, Returned, RouteConfig, Verdict,
};
use terms::{Kind, Visitor};
pub use window::InFlight;

use self::head::{Answer, Head};
use self::home::{Home, Homes};
use self::placement::Placement;
use self::seat::Seat;
use super::Worker;
use super::room::Queues;
use super::time::Time;

/// Who gets a connection: keys, memories, placement and the queues of those that wait.
#[derive(Debug)]
pub struct Router {
    config: RouteConfig,
    queues: Queues,
    placement: Placement,
    homes: Homes,
    seats: Vec<Seat>,
    /// Connections that wait for any worker.
    anywhere: VecDeque<Visitor>,
}

impl Router {
    /// A router without workers. `secret` must be unpredictable, `seed` needs only differ.
    pub fn new(
        now: Time,
        config: RouteConfig,
        queues: Queues,
        secret: (u64, u64),
        seed: u64,
    ) -> Self {
        Self {
            placement: Placement::new(config.balance, seed),
            homes: Homes::new(&config, secret),
            seats: (0..config.workers).map(|_| Seat::new(now, config.in_flight)).collect(),
            anywhere: VecDeque::new(),
            queues,
            config,
        }
    }

    /// Whether the first bytes of a connection have to be looked at; `has_ip` tells whether its
    /// client has an address.
    pub fn needs_head(&self, has_ip: bool) -> bool {
        self.config.keys.needs_head(has_ip)
    }

    /// Decides about a connection, with what is known of it so far.
    #[must_use]
    pub fn route(&mut self, now: Time, arrival: &Arrival<'_>, look: Look) -> Verdict {
        let head = Head::new(arrival.bytes, arrival.last);
        let client = match self.config.keys.find(arrival.ip, &head) {
            Answer::NotYet => return Verdict::More,
            Answer::No => None,
            Answer::Yes(found) => Some(self.homes.client(&found)),
        };
        let visitor = Visitor { conn: arrival.conn, client, returned: arrival.returned };
        if let Some(client) = client {
            if let Some(returned) = arrival.returned {
                self.homes.unbind(now, client, returned);
            }
            if let Some(owner) = self.homes.announcer(now, &self.seats, client) {
                return self.admit_to(now, owner, visitor);
            }
            // The announcement may lie unread in a channel. That a client presented the key before
            // says nothing: it may have been made up then.
            if look == Look::First && client.kind != Kind::Ip {
                return Verdict::LookAgain;
            }
        }
        self.admit(now, visitor)
    }

    /// The next waiting connection that can go, and where. It counts as sent.
    #[must_use]
    pub fn next(&mut self, now: Time) -> Option<(Conn, Give)> {
        loop {
            let bound = self.first_bound();
            let first = self.anywhere.front().map(|visitor| visitor.conn);
            let turn = match (first, bound) {
                (Some(first), Some((conn, _))) => first < conn,
                (first, _) => first.is_some(),
            };
            if turn && let Some(step) = self.next_anywhere(now) {
                match step {
                    Some(given) => return Some(given),
                    None => continue,
                }
            }
            let (_, slot) = bound?;
            let visitor = self.seats[slot].queue.pop_front()?;
            return Some((visitor.conn, self.give(now, slot, visitor, Reason::OwnedKey)));
        }
    }

    /// A connection that [`Self::route`] or [`Self::next`] gave away could not be sent, since the
    /// kernel had no room. It waits in front of all others.
    pub fn not_sent(&mut self, give: Give) {
        if let Some(seat) = self.seat_mut(give.worker) {
            seat.open = seat.open.saturating_sub(1);
            seat.window.not_sent();
        }
        self.anywhere.push_front(give.visitor);
    }

    /// Connections may go to this worker from now on.
    pub fn ready(&mut self, now: Time, worker: Worker) {
        let others = self.seats.iter().filter(|seat| seat.takes_anyone());
        let floor = others.map(|seat| seat.open).min().unwrap_or(0);
        if let Some(seat) = self.seats.get_mut(usize::from(worker.slot)) {
            seat.occupy(now, worker, floor);
        }
    }

    /// No connection goes to this worker any more. Those that waited for it find another.
    pub fn gone(&mut self, now: Time, worker: Worker) {
        let Some(orphans) = self.seat_mut(worker).map(|seat| seat.vacate(now)) else { return };
        self.anywhere.extend(orphans);
        self.anywhere.make_contiguous().sort_by_key(|visitor| visitor.conn);
    }

    /// A worker announces a key.
    pub fn session(&mut self, now: Time, worker: Worker, key: &[u8]) -> Result<(), OwnedByAnother> {
        self.homes.announce(now, &self.seats, worker, key)
    }

    /// A worker says that a key is over. It may have been forgotten before.
    pub fn end(&mut self, now: Time, worker: Worker, key: &[u8]) {
        self.homes.end(now, worker, key);
    }

    /// A worker has finished this many connections; returns whether it had as many.
    pub fn closed(&mut self, worker: Worker, count: u32) -> bool {
        let Some(seat) = self.seat_mut(worker) else { return true };
        let plausible = count <= seat.open;
        seat.open = seat.open.saturating_sub(count);
        plausible
    }

    /// A message without a connection was sent to a worker.
    pub fn note_sent(&mut self, now: Time, worker: Worker) {
        if let Some(seat) = self.seat_mut(worker) {
            seat.window.sent(now, InFlight::Note);
        }
    }

    /// A look at a worker's channel found this many messages unread.
    pub fn looked(&mut self, now: Time, worker: Worker, unread: usize) -> Pulse {
        let stall = self.config.stall_timeout;
        let Some(seat) = self.seat_mut(worker) else { return Pulse::Unchanged };
        let before = seat.window.len();
        seat.window.looked(now, unread);
        let still = seat.window.still_at(stall).is_some_and(|at| at <= now);
        match (seat.still, still) {
            (false, true) => {
                seat.still = true;
                Pulse::Stopped
            }
            (true, _) if seat.window.len() < before => {
                seat.still = false;
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
        let Some(seat) = self.seat_mut(worker) else { return Vec::new() };
        seat.window.looked(now, taken + left);
        let taken = seat.window.take_back(now, taken);
        let connections = taken.iter().filter(|what| **what != InFlight::Note).count();
        seat.open = seat.open.saturating_sub(u32::try_from(connections).unwrap_or(u32::MAX));
        taken
    }

    /// A worker whose channel should be looked at now, since it seems to have stopped reading.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<Worker> {
        let due = |seat: &&Seat| self.stall_at(seat).is_some_and(|at| at <= now);
        self.seats.iter().find(due)?.worker
    }

    /// Whether it matters when this worker picks something up: somebody waits for it, or it has
    /// stopped reading.
    pub fn is_wanted(&self, worker: Worker) -> bool {
        self.seat(worker).is_some_and(|seat| {
            let full = !seat.window.has_room();
            seat.still || (full && !(seat.queue.is_empty() && self.anywhere.is_empty()))
        })
    }

    /// The workers that seem to have no room, and may have some since they were last looked at.
    /// Look at them before the next connection is routed, so that it does not pass them over.
    pub fn full(&self) -> Vec<Worker> {
        let full = self.seats.iter().filter(|seat| !seat.window.has_room());
        full.filter_map(|seat| seat.worker).collect()
    }

    /// Whether this worker seems to have no room, and a look at its channel is likely to find some.
    pub fn is_worth_a_look(&self, worker: Worker) -> bool {
        self.seat(worker).is_some_and(|seat| seat.window.is_worth_a_look())
    }

    /// Whether this worker has stopped reading.
    pub fn is_still(&self, worker: Worker) -> bool {
        self.seat(worker).is_some_and(|seat| seat.still)
    }

    /// Whether a worker has stopped reading, so that it matters when one picks something up although
    /// nobody waits.
    pub fn has_stopped_worker(&self) -> bool {
        self.seats.iter().any(|seat| seat.still)
    }

    /// When to ask [`Self::due`] and [`Self::next`] again, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let stalls = self.seats.iter().filter_map(|seat| self.stall_at(seat));
        let patience = self.seats.iter().filter(|_| !self.anywhere.is_empty());
        let patience = patience.filter_map(Seat::patience_ends).filter(|end| *end > now);
        stalls.chain(patience).min()
    }

    /// How many connections wait.
    pub fn waiting(&self) -> usize {
        self.anywhere.len() + self.seats.iter().map(|seat| seat.queue.len()).sum::<usize>()
    }

    /// How many connections were given to workers and are not yet closed.
    pub fn open(&self) -> u64 {
        self.seats.iter().map(|seat| u64::from(seat.open)).sum()
    }

    /// The seat of a live worker.
    fn seat(&self, worker: Worker) -> Option<&Seat> {
        let seat = self.seats.get(usize::from(worker.slot))?;
        (seat.worker == Some(worker)).then_some(seat)
    }

    fn seat_mut(&mut self, worker: Worker) -> Option<&mut Seat> {
        let seat = self.seats.get_mut(usize::from(worker.slot))?;
        (seat.worker == Some(worker)).then_some(seat)
    }

    fn stall_at(&self, seat: &Seat) -> Option<Time> {
        if seat.still { None } else { seat.window.still_at(self.config.stall_timeout) }
    }

    /// Gives a connection away or puts it into the right queue.
    fn admit(&mut self, now: Time, visitor: Visitor) -> Verdict {
        let home = self.homes.find(now, &self.seats, &visitor);
        if let Some(Home::Owner(owner)) = home {
            return self.admit_to(now, owner, visitor);
        }
        let reason = reason(&visitor, home);
        if self.anywhere.is_empty()
            && let Some(slot) = self.choose(now, &visitor)
        {
            return Verdict::Give(self.give(now, slot, visitor, reason));
        }
        self.anywhere.push_back(visitor);
        Verdict::Wait
    }

    /// Gives a connection to its owner or lets it wait for it.
    fn admit_to(&mut self, now: Time, owner: Worker, visitor: Visitor) -> Verdict {
        let slot = usize::from(owner.slot);
        let seat = &mut self.seats[slot];
        if seat.queue.is_empty() && seat.window.has_room() {
            return Verdict::Give(self.give(now, slot, visitor, Reason::OwnedKey));
        }
        // Behind an owner that picks up, the wait is short and more may wait, but never so many that
        // there is no room left for the clients of others.
        let Queues { for_still, for_reading } = self.queues;
        let most = if seat.is_picking_up(now) { for_reading } else { for_still };
        if seat.queue.len() >= most {
            return Verdict::Refuse(owner);
        }
        seat.queue.push_back(visitor);
        Verdict::Wait
    }

    /// The seat for a connection that may go anywhere; not the one it came back from, unless
    /// there is no other.
    fn choose(&mut self, now: Time, visitor: &Visitor) -> Option<usize> {
        let avoid = match visitor.returned {
            Some(Returned::Back(worker) | Returned::Moved(worker)) => Some(worker),
            Some(Returned::Recovered) | None => None,
        };
        let others = |seat: &Seat| seat.takes_anyone() && seat.worker != avoid;
        if avoid.is_some() && !self.seats.iter().any(others) {
            return self.placement.choose(now, &self.seats, Seat::takes_anyone);
        }
        // The one with the fewest connections may have few since it gives them back: going round,
        // every worker is asked.
        if matches!(visitor.returned, Some(Returned::Back(_))) {
            return self.placement.choose_next(&self.seats, others);
        }
        self.placement.choose(now, &self.seats, others)
    }

    /// Counts a connection as sent to the worker in this slot, which its key lives on from now on.
    fn give(&mut self, now: Time, slot: usize, visitor: Visitor, reason: Reason) -> Give {
        let seat = &mut self.seats[slot];
        let worker = seat.worker.expect("only a seat with a worker is chosen");
        let owned = reason == Reason::OwnedKey;
        seat.given(now, if owned { InFlight::Owned } else { InFlight::Movable });
        if let Some(client) = visitor.client
            && !owned
        {
            self.homes.bind(now, client, worker);
        }
        Give { worker, reason, visitor }
    }

    /// The oldest connection that waits for a worker which has room.
    fn first_bound(&self) -> Option<(Conn, usize)> {
        let free = self.seats.iter().enumerate().filter(|(_, seat)| seat.window.has_room());
        free.filter_map(|(slot, seat)| Some((seat.queue.front()?.conn, slot))).min()
    }

    /// Takes the first connection that waits for anyone: `None` when it has to wait on,
    /// `Some(None)` when its key has an owner by now and it waits for that one.
    fn next_anywhere(&mut self, now: Time) -> Option<Option<(Conn, Give)>> {
        let visitor = *self.anywhere.front()?;
        let home = self.homes.find(now, &self.seats, &visitor);
        if let Some(Home::Owner(owner)) = home {
            self.anywhere.pop_front();
            self.seats[usize::from(owner.slot)].queue.push_back(visitor);
            return Some(None);
        }
        let slot = self.choose(now, &visitor)?;
        self.anywhere.pop_front();
        let reason = reason(&visitor, home);
        Some(Some((visitor.conn, self.give(now, slot, visitor, reason))))
    }
}

/// Why a connection without an owner is placed.
fn reason(visitor: &Visitor, home: Option<Home>) -> Reason {
    match (visitor.returned, home, visitor.client.map(|client| client.kind)) {
        (Some(_), _, _) => Reason::Moved,
        (None, Some(Home::OwnerGone), _) => Reason::OwnerGone,
        (None, _, Some(Kind::Sid)) => Reason::UnknownSid,
        (None, _, Some(Kind::Text | Kind::Ip)) => Reason::NewKey,
        (None, _, None) => Reason::NoKey,
    }
}
