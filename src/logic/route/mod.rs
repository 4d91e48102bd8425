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
//!
//! A slot has at most one worker that takes new keys, the present one. A worker that was withdrawn
//! (`drain.rs`) still gets the connections of its own keys, until it is gone.

mod account;
mod drain;
mod flow;
pub mod hash;
mod home;
pub mod key;
mod lobby;
pub mod memory;
pub mod mint;
mod placement;
pub mod returns;
mod saved;
mod seat;
mod seats;
mod shelf;
mod terms;
#[cfg(test)]
mod tests;
mod watchlist;
mod window;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use saved::SavedRouter;
use terms::Kind;
pub use terms::{
    Arrival, Balance, Conn, Door, Give, OwnedByAnother, Pulse, Reason, Returned, RouteConfig,
    Verdict, Visitor,
};
pub use window::InFlight;

use serde::Serialize;
/// Shared with workers, which look at the next requests of the connections that they keep.
pub use sticky_worker::head;

use self::account::Account;
use self::head::{Answer, Head};
use self::home::{Home, Homes};
use self::lobby::Lobby;
use self::placement::Placement;
use self::seat::{Rules, Seat};
use self::seats::Seats;
use self::watchlist::Watchlist;
use super::Worker;
use super::room::Queues;
use super::time::Time;

/// Who gets a connection: keys, memories, placement and the queues of those that wait.
#[derive(Debug, Serialize)]
pub struct Router {
    #[serde(skip)]
    config: RouteConfig,
    #[serde(skip)]
    queues: Queues,
    placement: Placement,
    homes: Homes,
    seats: Seats,
    /// The accounts of workers that get nothing any more, until they have ended.
    #[serde(serialize_with = "in_pairs")]
    retired: BTreeMap<Worker, Account>,
    /// Connections that wait for any worker.
    lobby: Lobby,
    /// The length of a key that no worker can announce, if one was presented.
    #[serde(skip)]
    long_key: Option<usize>,
    #[serde(skip)]
    watchlist: Watchlist,
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
            placement: Placement::new(&config, seed),
            homes: Homes::new(&config, secret),
            seats: Seats::new(now, config.workers, Rules::new(&config)),
            retired: BTreeMap::new(),
            lobby: Lobby::default(),
            long_key: None,
            watchlist: Watchlist::default(),
            queues,
            config,
        }
    }

    /// Whether the first bytes of a connection from this client have to be looked at.
    pub fn needs_head(&self, client: Option<IpAddr>) -> bool {
        self.config.keys.needs_head(client)
    }

    /// Whether that is so for any client with an address.
    pub fn may_need_head(&self) -> bool {
        self.config.keys.may_need_head()
    }

    /// Decides about a connection, with what is known of it so far.
    #[must_use]
    pub fn route(&mut self, now: Time, arrival: &Arrival<'_>) -> Verdict {
        let head = Head::new(arrival.bytes, arrival.last);
        let client = match self.config.keys.find(arrival.ip, &head) {
            Answer::NotYet => return Verdict::More,
            Answer::No => None,
            Answer::Yes(found) => {
                self.long_key = found.too_long().or(self.long_key);
                Some(self.homes.client(&found))
            }
        };
        // Where every worker serves every door, they are all one.
        let door = if self.seats.every_door() { Door::default() } else { arrival.door };
        let visitor = Visitor { conn: arrival.conn, door, client, returned: arrival.returned };
        if let Some(client) = client {
            if let Some(returned) = arrival.returned {
                self.homes.unbind(now, client, returned);
            }
            if let Some(owner) = self.homes.announcer(now, &self.seats, &visitor) {
                return self.admit_to(now, owner, visitor);
            }
            // The announcement may lie unread in a channel. That a client presented the key before
            // says nothing: it may have been made up then.
            if client.may_be_announced() {
                return Verdict::LookAgain(visitor);
            }
        }
        self.route_known(now, visitor)
    }

    /// Decides about a connection whose key is known, when everything is known that the channels held:
    /// gives it away or puts it into the right queue.
    #[must_use]
    pub fn route_known(&mut self, now: Time, visitor: Visitor) -> Verdict {
        let home = self.homes.find(now, &self.seats, &visitor);
        if let Some(Home::Owner(owner)) = home {
            return self.admit_to(now, owner, visitor);
        }
        let reason = reason(&visitor, home);
        if self.lobby.is_empty_at(visitor.door)
            && let Some(worker) = self.choose(now, &visitor)
        {
            return Verdict::Give(self.give(now, worker, visitor, reason));
        }
        self.lobby.push_back(visitor);
        Verdict::Wait
    }

    /// The length of a key that was presented since this was asked last, if it is one that no worker
    /// can announce: it lives where it was placed.
    pub fn take_long_key(&mut self) -> Option<usize> {
        self.long_key.take()
    }

    /// The next waiting connection that can go, and where. It counts as sent.
    #[must_use]
    pub fn next(&mut self, now: Time) -> Option<(Conn, Give)> {
        loop {
            let bound = self.first_bound();
            match self.next_anywhere(now, bound.map(|(conn, _)| conn)) {
                Step::Given(conn, give) => return Some((conn, give)),
                Step::Bound => continue,
                Step::Nobody => {}
            }
            let (_, owner) = bound?;
            let visitor = self.seats.get_mut(owner)?.queue.pop_front()?;
            return Some((visitor.conn, self.give(now, owner, visitor, Reason::OwnedKey)));
        }
    }

    /// A connection that [`Self::route`] or [`Self::next`] gave away could not be sent, since the
    /// kernel had no room. It waits in front of all others.
    pub fn not_sent(&mut self, give: Give) {
        if let Some(seat) = self.seats.get_mut(give.worker) {
            seat.account.returned(1);
            seat.window.not_sent();
        }
        self.lobby.push_front(give.visitor);
    }

    /// Connections may go to this worker from now on. Another one that its slot has is withdrawn.
    pub fn ready(&mut self, now: Time, worker: Worker) {
        let other = |seat: &&Seat| seat.worker.is_some_and(|other| other.slot != worker.slot);
        let others = self.seats.present().iter().filter(other);
        // Others may have come just before, with few connections yet: their loads are the measure.
        let loads = others.filter(|seat| seat.takes_anyone()).map(|seat| seat.load(now));
        let floor = loads.min().unwrap_or(0);
        if let Some(seat) = self.seats.seat_for(now, worker) {
            seat.occupy(now, worker, floor);
        }
    }

    /// A ready worker serves a door from now on.
    pub fn serves(&mut self, worker: Worker, door: Door) {
        if let Some(seat) = self.seats.get_mut(worker) {
            seat.doors.insert(door);
        }
    }

    /// A worker serves a door no more. Those that waited there for it find another.
    pub fn leaves(&mut self, worker: Worker, door: Door) {
        let Some(seat) = self.seats.get_mut(worker) else { return };
        seat.doors.remove(&door);
        let (orphans, others) =
            seat.queue.drain(..).partition(|visitor: &Visitor| visitor.door == door);
        seat.queue = others;
        self.lobby.admit(orphans);
    }

    /// A door is closed for good. Returns who waited there, and waits no more.
    pub fn close(&mut self, door: Door) -> Vec<Conn> {
        for seat in self.seats.all_mut() {
            seat.doors.remove(&door);
            let bound = seat.queue.drain(..);
            let (orphans, others) = bound.partition(|visitor: &Visitor| visitor.door == door);
            seat.queue = others;
            self.lobby.admit(orphans);
        }
        self.lobby.close(door)
    }

    /// What a worker that is about to be started mints into its ids; `None` unless ids are minted.
    pub fn incarnate(&mut self, worker: Worker) -> Option<u16> {
        self.homes.incarnate(&self.seats, worker)
    }

    /// No connection goes to this worker any more. Those that waited for it find another.
    pub fn gone(&mut self, now: Time, worker: Worker) {
        self.homes.gone(worker);
        self.watchlist.gone(worker);
        let Some(seat) = self.seats.get_mut(worker) else { return };
        self.retired.insert(worker, seat.account);
        let orphans = seat.vacate(now);
        self.seats.forget(worker);
        self.lobby.admit(orphans);
    }

    /// A worker has ended, and says nothing more.
    pub fn ended(&mut self, now: Time, worker: Worker) {
        self.gone(now, worker);
        self.retired.remove(&worker);
    }

    /// Nothing that a worker was given is left: another process speaks for it.
    pub fn begins_anew(&mut self, worker: Worker) {
        if let Some(account) = self.account(worker) {
            *account = Account::default();
        }
    }

    /// A worker announces a key.
    pub fn session(&mut self, now: Time, worker: Worker, key: &[u8]) -> Result<(), OwnedByAnother> {
        self.homes.announce(now, &self.seats, worker, key)
    }

    /// A worker says that a key is over. It may have been forgotten before.
    pub fn end(&mut self, now: Time, worker: Worker, key: &[u8]) {
        self.homes.end(now, worker, key);
    }

    /// A worker has finished this many connections, or gives them back; returns whether it had as many.
    pub fn closed(&mut self, worker: Worker, count: u32) -> bool {
        self.account(worker).map_or(count == 0, |account| account.finished(count))
    }

    /// The account of a worker; one that was never ready has none.
    fn account(&mut self, worker: Worker) -> Option<&mut Account> {
        match self.seats.get_mut(worker) {
            Some(seat) => Some(&mut seat.account),
            None => self.retired.get_mut(&worker),
        }
    }

    /// When to ask [`Self::due`], [`Self::next`] and [`Self::is_drained`] again, if nothing happens
    /// before.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let patience = self.seats.present().iter().filter(|_| !self.lobby.is_empty());
        let patience = patience.filter_map(Seat::patience_ends);
        let later = patience.chain(self.drain_ends()).filter(|end| *end > now);
        self.watchlist.look_at().into_iter().chain(later).min()
    }

    /// How many connections wait.
    pub fn waiting(&self) -> usize {
        self.lobby.len() + self.seats.all().map(|seat| seat.queue.len()).sum::<usize>()
    }

    /// How many connections were given to workers and are not yet closed.
    pub fn open(&self) -> u64 {
        self.seats.all().map(|seat| u64::from(seat.account.open())).sum()
    }

    /// Gives a connection to its owner or lets it wait for it.
    fn admit_to(&mut self, now: Time, owner: Worker, visitor: Visitor) -> Verdict {
        let seat = self.seats.get_mut(owner).expect("only a live worker owns a key");
        if seat.queue.is_empty() && seat.has_room() {
            return Verdict::Give(self.give(now, owner, visitor, Reason::OwnedKey));
        }
        // Behind an owner that picks up, the wait is short and more may wait, but never so many that
        // there is no room left for the clients of others.
        let Queues { for_still, for_reading } = self.queues;
        let most = if seat.is_picking_up(now) { for_reading } else { for_still };
        if seat.queue.len() >= most {
            return Verdict::Refuse(owner, visitor);
        }
        seat.queue.push_back(visitor);
        Verdict::Wait
    }

    /// The worker for a connection that may go anywhere; not the one it came back from, unless
    /// there is no other.
    fn choose(&mut self, now: Time, visitor: &Visitor) -> Option<Worker> {
        let slot = self.choose_slot(now, visitor)?;
        self.seats.present()[slot].worker
    }

    fn choose_slot(&mut self, now: Time, visitor: &Visitor) -> Option<usize> {
        let seats = self.seats.present();
        let avoid = match visitor.returned {
            Some(Returned::Back(worker) | Returned::Moved(worker)) => Some(worker),
            Some(Returned::Recovered) | None => None,
        };
        let all = |seat: &Seat| seat.takes_anyone() && seat.serves(visitor.door);
        let others = |seat: &Seat| all(seat) && seat.worker != avoid;
        if avoid.is_some() && !seats.iter().any(others) {
            return self.placement.choose(now, seats, all);
        }
        // The one with the fewest connections may have few since it gives them back: going round,
        // every worker is asked.
        if matches!(visitor.returned, Some(Returned::Back(_))) {
            return self.placement.choose_next(seats, others);
        }
        self.placement.choose(now, seats, others)
    }

    /// Counts a connection as sent to a live worker, which its key lives on from now on.
    fn give(&mut self, now: Time, worker: Worker, visitor: Visitor, reason: Reason) -> Give {
        let seat = self.seats.get_mut(worker).expect("only a live worker is chosen");
        let owned = reason == Reason::OwnedKey;
        seat.given(now, if owned { InFlight::Owned } else { InFlight::Movable });
        self.watchlist.sent(worker, seat, now + self.config.stall_timeout);
        if let Some(client) = visitor.client
            && !owned
        {
            self.homes.bind(now, &self.seats, client, worker);
        }
        Give { worker, reason, visitor }
    }

    /// The oldest connection that waits for a worker which has room.
    fn first_bound(&self) -> Option<(Conn, Worker)> {
        let free = self.seats.all().filter(|seat| seat.has_room());
        free.filter_map(|seat| Some((seat.queue.front()?.conn, seat.worker?))).min()
    }

    /// Takes the first connection that waits for anyone and can go; only those that came before
    /// `bound`, which waits for its owner.
    fn next_anywhere(&mut self, now: Time, bound: Option<Conn>) -> Step {
        for (conn, door) in self.lobby.firsts() {
            if bound.is_some_and(|bound| bound < conn) {
                break;
            }
            let visitor = self.lobby.front(door).expect("somebody is first at this door");
            let home = self.homes.find(now, &self.seats, &visitor);
            if let Some(Home::Owner(owner)) = home {
                self.lobby.pop_front(door);
                let seat = self.seats.get_mut(owner).expect("only a live worker owns a key");
                seat.queue.push_back(visitor);
                return Step::Bound;
            }
            if let Some(worker) = self.choose(now, &visitor) {
                self.lobby.pop_front(door);
                let reason = reason(&visitor, home);
                return Step::Given(conn, self.give(now, worker, visitor, reason));
            }
        }
        Step::Nobody
    }
}

/// Some formats have no maps with such keys.
fn in_pairs<S: serde::Serializer>(
    accounts: &BTreeMap<Worker, Account>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(accounts)
}

/// What a look into the lobby came to.
enum Step {
    /// This connection can go.
    Given(Conn, Give),
    /// The key of one has an owner by now, and it waits for that one.
    Bound,
    /// Nobody can go.
    Nobody,
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
