//! Routing: which worker gets a connection.
//!
//! The [`Router`] is told of connections, workers and their messages, and decides which worker gets
//! which connection. It holds no socket: a connection is a number here, and the caller carries out
//! the decisions.
//!
//! A connection whose key has an *owner* goes to that worker and no other; while the owner has no
//! room, it is queued for it. Any other connection goes where the placement says; while no worker has
//! room, it is queued for the first that has. Each queue is first in, first out.
//!
//! After [`Router::ready`], [`Router::note_unread`], [`Router::remove`] and [`Router::closed`], and when the time of
//! [`Router::poll_timeout`] has come, queued connections may have become free to go: ask
//! [`Router::next`] until it has none.
//!
//! A slot has at most one worker that takes new keys, the current one. A draining worker
//! (`drain.rs`) still gets the connections of the keys that it owns, until it is removed.

mod affinity;
mod backend;
mod drain;
mod flow;
pub mod hash;
pub mod key;
pub mod memory;
pub mod mint;
mod open_count;
mod placement;
mod pool;
mod queued;
pub mod returns;
mod saved;
mod segment;
mod terms;
#[cfg(test)]
mod tests;
mod unassigned;
mod watchlist;
mod window;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use saved::SavedRouter;
use terms::KeyKind;
pub use terms::{
    Arrival, Assignment, Balance, Candidate, Conn, Health, ListenerId, OwnedByAnother, Reason,
    Returned, RouteConfig, Verdict,
};
pub use window::InFlight;

use serde::Serialize;
/// Shared with workers, which look at the later requests of the connections that they keep.
pub use sticky_worker::head;

use self::affinity::{Affinity, Owner};
use self::backend::{Backend, Limits};
use self::head::{Head, Lookup};
use self::open_count::OpenCount;
use self::placement::Placement;
use self::pool::Pool;
use self::unassigned::Unassigned;
use self::watchlist::Watchlist;
use super::Worker;
use super::capacity::QueueLimits;
use super::time::Time;

/// Which worker gets a connection: keys, owners, placement and queues.
#[derive(Debug, Serialize)]
pub struct Router {
    #[serde(skip)]
    config: RouteConfig,
    #[serde(skip)]
    queue_limits: QueueLimits,
    placement: Placement,
    affinity: Affinity,
    pool: Pool,
    /// Open connections of workers that were removed, until they have exited.
    #[serde(serialize_with = "in_pairs")]
    removed: BTreeMap<Worker, OpenCount>,
    /// Connections queued for any worker.
    unassigned: Unassigned,
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
        queues: QueueLimits,
        secret: (u64, u64),
        seed: u64,
    ) -> Self {
        Self {
            placement: Placement::new(&config, seed),
            affinity: Affinity::new(&config, secret),
            pool: Pool::new(now, config.workers, Limits::new(&config)),
            removed: BTreeMap::new(),
            unassigned: Unassigned::default(),
            long_key: None,
            watchlist: Watchlist::default(),
            queue_limits: queues,
            config,
        }
    }

    /// Whether the first bytes of a connection from this client have to be looked at.
    pub fn needs_head(&self, client: Option<IpAddr>) -> bool {
        self.config.keys.needs_head(client)
    }

    /// Whether connections may go to this worker.
    pub fn has(&self, worker: Worker) -> bool {
        self.pool.get(worker).is_some()
    }

    /// Whether every worker serves every listener.
    pub fn all_listeners(&self) -> bool {
        self.pool.all_listeners()
    }

    /// Whether that is so for some client with an address.
    pub fn may_need_head(&self) -> bool {
        self.config.keys.may_need_head()
    }

    /// Decides about a connection, with what is known of it so far.
    #[must_use]
    pub fn route(&mut self, now: Time, arrival: &Arrival<'_>) -> Verdict {
        let head = Head::new(arrival.bytes, arrival.last);
        let key = match self.config.keys.find(arrival.ip, &head) {
            Lookup::Incomplete => return Verdict::NeedMore,
            Lookup::Absent => None,
            Lookup::Found(found) => {
                self.long_key = found.too_long().or(self.long_key);
                Some(self.affinity.key(&found))
            }
        };
        // Where every worker serves every listener, they count as one.
        let listener =
            if self.pool.all_listeners() { ListenerId::default() } else { arrival.listener };
        let candidate = Candidate { conn: arrival.conn, listener, key, returned: arrival.returned };
        if let Some(key) = key {
            if let Some(returned) = arrival.returned {
                self.affinity.unbind(now, key, returned);
            }
            if let Some(owner) = self.affinity.announcer(now, &self.pool, &candidate) {
                return self.admit_to(now, owner, candidate);
            }
            // The announcement may lie unread in a channel. That a client presented the key before
            // says nothing: it may have been made up then.
            if key.may_be_announced() {
                return Verdict::LookAgain(candidate);
            }
        }
        self.route_known(now, candidate)
    }

    /// Decides about a connection whose key is known, when everything is known that the channels held:
    /// assigns it to a worker or queues it.
    #[must_use]
    pub fn route_known(&mut self, now: Time, candidate: Candidate) -> Verdict {
        let owner = self.affinity.owner(now, &self.pool, &candidate);
        if let Some(Owner::Live(owner)) = owner {
            return self.admit_to(now, owner, candidate);
        }
        let reason = reason(&candidate, owner);
        if self.unassigned.is_empty_at(candidate.listener)
            && let Some(worker) = self.choose(now, &candidate)
        {
            return Verdict::Send(self.assign(now, worker, candidate, reason));
        }
        self.unassigned.push_back(candidate);
        Verdict::Queued
    }

    /// The length of a key that was presented since the last call, if it is one that no worker
    /// can announce: its owner is the worker on which it was placed.
    pub fn take_long_key(&mut self) -> Option<usize> {
        self.long_key.take()
    }

    /// A connection that [`Self::route`] or [`Self::next`] assigned could not be sent, since the
    /// kernel had no room. It goes to the front of the queue.
    pub fn not_sent(&mut self, give: Assignment) {
        if let Some(backend) = self.pool.get_mut(give.worker) {
            backend.open.taken_back(1);
            backend.window.not_sent();
        }
        self.unassigned.push_front(give.candidate);
    }

    /// Connections may go to this worker from now on. The current worker of its slot, if another, drains.
    pub fn ready(&mut self, now: Time, worker: Worker) {
        let other =
            |backend: &&Backend| backend.worker.is_some_and(|other| other.slot != worker.slot);
        let others = self.pool.current().iter().filter(other);
        // Others may have come just before, with few connections yet: their loads are the measure.
        let loads = others.filter(|backend| backend.accepts_new()).map(|backend| backend.load(now));
        let floor = loads.min().unwrap_or(0);
        if let Some(backend) = self.pool.backend_for(now, worker) {
            backend.attach(now, worker, floor);
        }
    }

    /// A ready worker serves a listener from now on.
    pub fn add_listener(&mut self, worker: Worker, listener: ListenerId) {
        if let Some(backend) = self.pool.get_mut(worker) {
            backend.listeners.insert(listener);
        }
    }

    /// A worker no longer serves a listener. Connections queued there for it may go to others.
    pub fn remove_listener(&mut self, worker: Worker, listener: ListenerId) {
        let Some(backend) = self.pool.get_mut(worker) else { return };
        backend.listeners.remove(&listener);
        let (orphans, others) = backend
            .queue
            .drain(..)
            .partition(|candidate: &Candidate| candidate.listener == listener);
        backend.queue = others;
        self.unassigned.requeue(orphans);
    }

    /// A listener is closed for good. Returns the connections that were queued there; they no longer are.
    pub fn close_listener(&mut self, listener: ListenerId) -> Vec<Conn> {
        for backend in self.pool.all_mut() {
            backend.listeners.remove(&listener);
            let bound = backend.queue.drain(..);
            let (orphans, others) =
                bound.partition(|candidate: &Candidate| candidate.listener == listener);
            backend.queue = others;
            self.unassigned.requeue(orphans);
        }
        self.unassigned.remove_listener(listener)
    }

    /// What a worker that is about to be started mints into its ids; `None` unless ids are minted.
    pub fn incarnate(&mut self, worker: Worker) -> Option<u16> {
        self.affinity.incarnate(&self.pool, worker)
    }

    /// No connection goes to this worker any more. Those queued for it may go to others.
    pub fn remove(&mut self, now: Time, worker: Worker) {
        self.affinity.remove_minter(worker);
        self.watchlist.remove(worker);
        let Some(backend) = self.pool.get_mut(worker) else { return };
        self.removed.insert(worker, backend.open);
        let orphans = backend.detach(now);
        self.pool.remove(worker);
        self.unassigned.requeue(orphans);
    }

    /// A worker has exited, and says nothing more.
    pub fn exited(&mut self, now: Time, worker: Worker) {
        self.remove(now, worker);
        self.removed.remove(&worker);
    }

    /// A worker has no connection open any more: another process has taken its place.
    pub fn reset_open(&mut self, worker: Worker) {
        if let Some(open) = self.open_count(worker) {
            *open = OpenCount::default();
        }
    }

    /// A worker announces a key.
    pub fn announce(
        &mut self,
        now: Time,
        worker: Worker,
        key: &[u8],
    ) -> Result<(), OwnedByAnother> {
        self.affinity.announce(now, &self.pool, worker, key)
    }

    /// A worker says that a key is over. It may be unknown already.
    pub fn forget(&mut self, now: Time, worker: Worker, key: &[u8]) {
        self.affinity.forget(now, worker, key);
    }

    /// A worker has closed this many connections, or gives them back; returns whether it had as many.
    pub fn closed(&mut self, worker: Worker, count: u32) -> bool {
        self.open_count(worker).map_or(count == 0, |open| open.closed(count))
    }

    /// The open connections of a worker; `None` if it was never ready.
    fn open_count(&mut self, worker: Worker) -> Option<&mut OpenCount> {
        match self.pool.get_mut(worker) {
            Some(backend) => Some(&mut backend.open),
            None => self.removed.get_mut(&worker),
        }
    }

    /// When to ask [`Self::poll_stalled`], [`Self::next`] and [`Self::is_drained`] again, if nothing happens
    /// before.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let patience = self.pool.current().iter().filter(|_| !self.unassigned.is_empty());
        let patience = patience.filter_map(Backend::worth_waiting_until);
        let later = patience.chain(self.drain_ends()).filter(|end| *end > now);
        self.watchlist.check_at().into_iter().chain(later).min()
    }

    /// How many connections were sent to workers and are not yet closed.
    pub fn open(&self) -> u64 {
        self.pool.all().map(|backend| u64::from(backend.open.get())).sum()
    }

    /// Assigns a connection to its owner or queues it for it.
    fn admit_to(&mut self, now: Time, owner: Worker, candidate: Candidate) -> Verdict {
        let backend = self.pool.get_mut(owner).expect("only a live worker owns a key");
        if backend.queue.is_empty() && backend.has_room() {
            return Verdict::Send(self.assign(now, owner, candidate, Reason::OwnedKey));
        }
        // The queue of an owner that picks up is short-lived and may be longer, but never so long that
        // no room is left for the clients of others.
        let QueueLimits { stalled, reading } = self.queue_limits;
        let limit = if backend.is_picking_up(now) { reading } else { stalled };
        if backend.queue.len() >= limit {
            return Verdict::Refuse(owner, candidate);
        }
        backend.queue.push_back(candidate);
        Verdict::Queued
    }

    /// The worker for a connection that may go to any; not the one it came back from, unless
    /// there is no other.
    fn choose(&mut self, now: Time, candidate: &Candidate) -> Option<Worker> {
        let slot = self.choose_slot(now, candidate)?;
        self.pool.current()[slot].worker
    }

    fn choose_slot(&mut self, now: Time, candidate: &Candidate) -> Option<usize> {
        let backends = self.pool.current();
        let avoid = match candidate.returned {
            Some(Returned::Back(worker) | Returned::Moved(worker)) => Some(worker),
            Some(Returned::Recovered) | None => None,
        };
        let all = |backend: &Backend| backend.accepts_new() && backend.serves(candidate.listener);
        let others = |backend: &Backend| all(backend) && backend.worker != avoid;
        if avoid.is_some() && !backends.iter().any(others) {
            return self.placement.choose(now, backends, all);
        }
        // The one with the fewest connections may have few since it gives them back: going round,
        // every worker is asked.
        if matches!(candidate.returned, Some(Returned::Back(_))) {
            return self.placement.choose_next(backends, others);
        }
        self.placement.choose(now, backends, others)
    }

    /// Counts a connection as sent to a live worker, which owns its key from now on.
    fn assign(
        &mut self,
        now: Time,
        worker: Worker,
        candidate: Candidate,
        reason: Reason,
    ) -> Assignment {
        let backend = self.pool.get_mut(worker).expect("only a live worker is chosen");
        let owned = reason == Reason::OwnedKey;
        backend.sent(now, if owned { InFlight::Owned } else { InFlight::Movable });
        self.watchlist.sent(worker, backend, now + self.config.stall_timeout);
        if let Some(key) = candidate.key
            && !owned
        {
            self.affinity.bind(now, &self.pool, key, worker);
        }
        Assignment { worker, reason, candidate }
    }
}

/// Some formats have no maps with such keys.
fn in_pairs<S: serde::Serializer>(
    counts: &BTreeMap<Worker, OpenCount>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(counts)
}

/// Why a connection without an owner is placed.
fn reason(candidate: &Candidate, owner: Option<Owner>) -> Reason {
    match (candidate.returned, owner, candidate.key.map(|key| key.kind)) {
        (Some(_), _, _) => Reason::Moved,
        (None, Some(Owner::Gone), _) => Reason::OwnerGone,
        (None, _, Some(KeyKind::Sid)) => Reason::UnknownSid,
        (None, _, Some(KeyKind::Text | KeyKind::Ip)) => Reason::NewKey,
        (None, _, None) => Reason::NoKey,
    }
}
