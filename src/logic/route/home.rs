//! Homes: on which worker a key lives.
//!
//! A key that a worker has announced lives there. Any other key lives in its own slot with `hash`
//! placement, and else where it was first placed. The two memories are apart, so that keys which
//! clients make up never push out announced ones.

use serde::{Deserialize, Serialize};

use super::hash::{Fingerprint, HashPoint};
use super::key::{Found, text_identity};
use super::memory::Memory;
use super::mint::Mint;
use super::seats::Seats;
use super::terms::{Balance, Client, Door, Kind, OwnedByAnother, Returned, RouteConfig, Visitor};
use crate::logic::Worker;
use crate::logic::time::Time;

/// The only shelf of presented keys.
const PRESENTED: u16 = 0;

/// Where a key lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Home {
    /// On this live worker.
    Owner(Worker),
    /// On a worker that is gone.
    OwnerGone,
    /// Nowhere yet.
    Nowhere,
}

/// What is known of where keys live.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Homes {
    /// The secret under which keys become fingerprints.
    secret: (u64, u64),
    hash_seed: u64,
    /// Whether keys live in their own slots.
    by_hash: bool,
    /// Announced keys, a shelf for each slot.
    announced: Memory,
    /// Presented keys, on one shelf.
    presented: Memory,
    /// Who mints ids, if they are minted.
    mint: Option<Mint>,
}

impl Homes {
    pub(super) fn new(config: &RouteConfig, secret: (u64, u64)) -> Self {
        Self {
            secret,
            hash_seed: config.hash_seed,
            by_hash: config.balance == Balance::Hash,
            announced: Memory::new(share(config, config.workers), config.session_idle),
            presented: Memory::new(config.max_keys, config.key_idle),
            mint: config.mint.clone().map(Mint::new),
        }
    }

    /// Other rules hold from now on, for so many slots. Keys are where they are; the secrets are not
    /// part of the rules.
    pub(super) fn set_rules(&mut self, config: &RouteConfig, slots: u16) {
        self.hash_seed = config.hash_seed;
        self.by_hash = config.balance == Balance::Hash;
        self.announced.set_limits(share(config, slots), config.session_idle);
        self.presented.set_limits(config.max_keys, config.key_idle);
    }

    /// A key in the form in which homes are looked up.
    pub(super) fn client(&self, found: &Found<'_>) -> Client {
        let identity = found.identity();
        let kind = match found {
            Found::Sid(_) => Kind::Sid,
            Found::Text(_) => Kind::Text,
            Found::Ip(_) => Kind::Ip,
        };
        // A minted id is the same key wherever it stands: Engine.IO can set it as a cookie, too.
        let minted = match found {
            Found::Sid(text) | Found::Text(text) => {
                self.mint.as_ref().and_then(|mint| mint.read(text))
            }
            Found::Ip(_) => None,
        };
        Client {
            key: Fingerprint::new(self.secret, &identity),
            point: self.by_hash.then(|| HashPoint::new(self.hash_seed, &identity)),
            minted,
            kind,
        }
    }

    /// Has a worker mint ids that lead to it.
    pub(super) fn incarnate(&mut self, seats: &Seats, worker: Worker) -> Option<u16> {
        self.mint.as_mut()?.incarnate(worker, |minter| is_live(seats, minter))
    }

    /// Whether this worker mints.
    pub(super) fn is_minter(&self, worker: Worker) -> bool {
        self.mint.as_ref().is_some_and(|mint| mint.has(worker))
    }

    /// Whether a remembered key lives on this worker.
    pub(super) fn is_home(&mut self, now: Time, worker: Worker) -> bool {
        self.announced.sweep(now, worker.slot);
        self.presented.sweep(now, PRESENTED);
        self.announced.knows(now, worker) || self.presented.knows(now, worker)
    }

    /// When [`Self::is_home`] ends if nobody uses a key of this worker before; `None` if none is
    /// remembered.
    pub(super) fn idle_at(&self, worker: Worker) -> Option<Time> {
        self.announced.idle_at(worker).max(self.presented.idle_at(worker))
    }

    /// What a worker minted leads nowhere any more.
    pub(super) fn gone(&mut self, worker: Worker) {
        if let Some(mint) = &mut self.mint {
            mint.gone(worker);
        }
    }

    /// The live worker that has announced or minted the key of this connection.
    pub(super) fn announcer(
        &mut self,
        now: Time,
        seats: &Seats,
        visitor: &Visitor,
    ) -> Option<Worker> {
        let client = visitor.client.filter(|client| client.kind != Kind::Ip)?;
        let owner = self.announced.get(now, client.key).or_else(|| self.minter(client, visitor));
        owner.filter(|owner| is_at(seats, *owner, visitor.door))
    }

    /// Where the key of a connection lives, among the workers that serve its door.
    pub(super) fn find(&mut self, now: Time, seats: &Seats, visitor: &Visitor) -> Option<Home> {
        let client = visitor.client?;
        let announced = self.announced.get(now, client.key);
        if let Some(owner) = announced.or_else(|| self.minter(client, visitor)) {
            if is_at(seats, owner, visitor.door) {
                return Some(Home::Owner(owner));
            }
            if !is_live(seats, owner) {
                self.announced.forget(client.key);
            }
        }
        let placed = match client.point {
            Some(point) => own_worker(seats, point, visitor),
            None => self.presented.get(now, client.key),
        };
        Some(match placed {
            Some(owner) if is_at(seats, owner, visitor.door) => Home::Owner(owner),
            Some(_) => Home::OwnerGone,
            None if announced.is_some() || client.minted.is_some() => Home::OwnerGone,
            None => Home::Nowhere,
        })
    }

    /// The live worker that minted a key, unless it gave the connection back.
    fn minter(&self, client: Client, visitor: &Visitor) -> Option<Worker> {
        let minter = self.mint.as_ref()?.worker(client.minted?)?;
        (visitor.returned != Some(Returned::Back(minter))).then_some(minter)
    }

    /// A key was placed on a worker and lives there from now on, unless it lives on another one that
    /// only does not serve the door where it came in. One that leads to a live worker by itself needs
    /// no memory; a cookie may outlive the worker that minted it, and then it does.
    pub(super) fn bind(&mut self, now: Time, seats: &Seats, client: Client, worker: Worker) {
        let is_minters = |mint: &Mint| client.minted.and_then(|id| mint.worker(id)).is_some();
        if client.point.is_some() || self.mint.as_ref().is_some_and(is_minters) {
            return;
        }
        let home = self.presented.get(now, client.key);
        if !home.is_some_and(|home| is_live(seats, home)) {
            self.presented.set(now, client.key, worker, PRESENTED);
        }
    }

    /// Forgets that the key of a returned connection lives where it came from.
    pub(super) fn unbind(&mut self, now: Time, client: Client, returned: Returned) {
        let (Returned::Back(from) | Returned::Moved(from)) = returned else { return };
        if self.presented.get(now, client.key) == Some(from) {
            self.presented.forget(client.key);
        }
        let disowned = matches!(returned, Returned::Back(_));
        if disowned && self.announced.get(now, client.key) == Some(from) {
            self.announced.forget(client.key);
        }
    }

    /// A worker announces a key. One that it has minted needs no memory.
    pub(super) fn announce(
        &mut self,
        now: Time,
        seats: &Seats,
        worker: Worker,
        key: &[u8],
    ) -> Result<(), OwnedByAnother> {
        if self.mint.as_ref().is_some_and(|mint| mint.is_from(key, worker)) {
            return Ok(());
        }
        let key = Fingerprint::new(self.secret, &text_identity(key));
        match self.announced.get(now, key) {
            Some(owner) if owner != worker && is_live(seats, owner) => Err(OwnedByAnother(owner)),
            _ => {
                self.announced.set(now, key, worker, worker.slot);
                Ok(())
            }
        }
    }

    /// A worker says that a key is over; only its own are.
    pub(super) fn end(&mut self, now: Time, worker: Worker, key: &[u8]) {
        let key = Fingerprint::new(self.secret, &text_identity(key));
        if self.announced.get(now, key) == Some(worker) {
            self.announced.forget(key);
        }
    }
}

/// How many announced keys each of so many slots may have.
fn share(config: &RouteConfig, slots: u16) -> usize {
    config.max_sessions / usize::from(slots.max(1))
}

fn is_live(seats: &Seats, worker: Worker) -> bool {
    seats.get(worker).is_some()
}

/// Whether this worker lives and serves this door.
fn is_at(seats: &Seats, worker: Worker, door: Door) -> bool {
    seats.get(worker).is_some_and(|seat| seat.serves(door))
}

/// The present worker in the key's own slot, among the slots that have one; the one that gave the
/// connection back is not asked again as long as there is another.
fn own_worker(seats: &Seats, point: HashPoint, visitor: &Visitor) -> Option<Worker> {
    let best = |fits: &dyn Fn(Worker) -> bool| {
        let seats = seats.present().iter().filter(|seat| seat.serves(visitor.door));
        let workers = seats.filter_map(|seat| seat.worker).filter(|worker| fits(*worker));
        workers.max_by_key(|worker| point.score(worker.slot))
    };
    best(&|worker| visitor.returned != Some(Returned::Back(worker))).or_else(|| best(&|_| true))
}
