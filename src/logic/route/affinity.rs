//! Affinity: which worker owns a key.
//!
//! The owner of an announced key is the worker that announced it. With `hash` placement, any other
//! key belongs to its slot; else to the worker on which it was first placed. The two memories are
//! apart, so that keys which clients make up never push out announced ones.

use serde::{Deserialize, Serialize};

use super::hash::{Fingerprint, HashPoint};
use super::key::{PresentedKey, text_identity};
use super::memory::Memory;
use super::mint::Mint;
use super::pool::Pool;
use super::terms::{
    Balance, Candidate, ClientKey, KeyKind, ListenerId, OwnedByAnother, Returned, RouteConfig,
};
use crate::logic::Worker;
use crate::logic::time::Time;

/// The only segment of presented keys.
const PRESENTED: u16 = 0;

/// Who owns a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    /// This live worker.
    Live(Worker),
    /// A worker that is gone.
    Gone,
    /// Nobody yet.
    Unknown,
}

/// Which keys have which owners.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Affinity {
    /// The secret under which keys become fingerprints.
    secret: (u64, u64),
    hash_seed: u64,
    /// Whether keys belong to slots.
    by_hash: bool,
    /// Announced keys, a segment for each slot.
    announced: Memory,
    /// Presented keys, in one segment.
    presented: Memory,
    /// Who mints ids, if they are minted.
    mint: Option<Mint>,
}

impl Affinity {
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

    /// Applies another configuration, for so many slots. Keys keep their owners; the secrets are not
    /// part of the configuration.
    pub(super) fn set_rules(&mut self, config: &RouteConfig, slots: u16) {
        self.hash_seed = config.hash_seed;
        self.by_hash = config.balance == Balance::Hash;
        self.announced.set_limits(share(config, slots), config.session_idle);
        self.presented.set_limits(config.max_keys, config.key_idle);
    }

    /// A key in the form in which its owner is looked up.
    pub(super) fn key(&self, found: &PresentedKey<'_>) -> ClientKey {
        let identity = found.identity();
        let kind = match found {
            PresentedKey::Sid(_) => KeyKind::Sid,
            PresentedKey::Text(_) => KeyKind::Text,
            PresentedKey::Ip(_) => KeyKind::Ip,
        };
        // A minted id is the same key wherever it stands: Engine.IO can set it as a cookie, too.
        let minted = match found {
            PresentedKey::Sid(text) | PresentedKey::Text(text) => {
                self.mint.as_ref().and_then(|mint| mint.read(text))
            }
            PresentedKey::Ip(_) => None,
        };
        ClientKey {
            fingerprint: Fingerprint::new(self.secret, &identity),
            point: self.by_hash.then(|| HashPoint::new(self.hash_seed, &identity)),
            minted,
            kind,
        }
    }

    /// Has a worker mint ids that lead to it.
    pub(super) fn incarnate(&mut self, pool: &Pool, worker: Worker) -> Option<u16> {
        self.mint.as_mut()?.incarnate(worker, |minter| is_live(pool, minter))
    }

    /// Whether this worker mints.
    pub(super) fn is_minter(&self, worker: Worker) -> bool {
        self.mint.as_ref().is_some_and(|mint| mint.has(worker))
    }

    /// Whether this worker owns a remembered key.
    pub(super) fn has_keys(&mut self, now: Time, worker: Worker) -> bool {
        self.announced.sweep(now, worker.slot);
        self.presented.sweep(now, PRESENTED);
        self.announced.knows(now, worker) || self.presented.knows(now, worker)
    }

    /// When [`Self::has_keys`] ends if nobody uses a key of this worker before; `None` if none is
    /// remembered.
    pub(super) fn idle_at(&self, worker: Worker) -> Option<Time> {
        self.announced.idle_at(worker).max(self.presented.idle_at(worker))
    }

    /// Keys that a worker minted have no owner any more.
    pub(super) fn remove_minter(&mut self, worker: Worker) {
        if let Some(mint) = &mut self.mint {
            mint.remove(worker);
        }
    }

    /// The live worker that has announced or minted the key of this connection.
    pub(super) fn announcer(
        &mut self,
        now: Time,
        pool: &Pool,
        candidate: &Candidate,
    ) -> Option<Worker> {
        let key = candidate.key.filter(|key| key.kind != KeyKind::Ip)?;
        let owner =
            self.announced.get(now, key.fingerprint).or_else(|| self.minter(key, candidate));
        owner.filter(|owner| serves(pool, *owner, candidate.listener))
    }

    /// The owner of the key of a connection, among the workers that serve its listener.
    pub(super) fn owner(&mut self, now: Time, pool: &Pool, candidate: &Candidate) -> Option<Owner> {
        let key = candidate.key?;
        let announced = self.announced.get(now, key.fingerprint);
        if let Some(owner) = announced.or_else(|| self.minter(key, candidate)) {
            if serves(pool, owner, candidate.listener) {
                return Some(Owner::Live(owner));
            }
            if !is_live(pool, owner) {
                self.announced.forget(key.fingerprint);
            }
        }
        let placed = match key.point {
            Some(point) => own_worker(pool, point, candidate),
            None => self.presented.get(now, key.fingerprint),
        };
        Some(match placed {
            Some(owner) if serves(pool, owner, candidate.listener) => Owner::Live(owner),
            Some(_) => Owner::Gone,
            None if announced.is_some() || key.minted.is_some() => Owner::Gone,
            None => Owner::Unknown,
        })
    }

    /// The live worker that minted a key, unless it gave the connection back.
    fn minter(&self, key: ClientKey, candidate: &Candidate) -> Option<Worker> {
        let minter = self.mint.as_ref()?.worker(key.minted?)?;
        (candidate.returned != Some(Returned::Back(minter))).then_some(minter)
    }

    /// A key was placed on a worker, which owns it from now on, unless its owner lives and only does
    /// not serve the listener where it came in. A key that a live worker minted needs no memory; a
    /// cookie may outlive the worker that minted it, and then it does.
    pub(super) fn bind(&mut self, now: Time, pool: &Pool, key: ClientKey, worker: Worker) {
        let is_minters = |mint: &Mint| key.minted.and_then(|id| mint.worker(id)).is_some();
        if key.point.is_some() || self.mint.as_ref().is_some_and(is_minters) {
            return;
        }
        let owner = self.presented.get(now, key.fingerprint);
        if !owner.is_some_and(|owner| is_live(pool, owner)) {
            self.presented.set(now, key.fingerprint, worker, PRESENTED);
        }
    }

    /// Forgets that the key of a returned connection is owned by the worker that it came from.
    pub(super) fn unbind(&mut self, now: Time, key: ClientKey, returned: Returned) {
        let (Returned::Back(from) | Returned::Moved(from)) = returned else { return };
        if self.presented.get(now, key.fingerprint) == Some(from) {
            self.presented.forget(key.fingerprint);
        }
        let disowned = matches!(returned, Returned::Back(_));
        if disowned && self.announced.get(now, key.fingerprint) == Some(from) {
            self.announced.forget(key.fingerprint);
        }
    }

    /// A worker announces a key. One that it has minted needs no memory.
    pub(super) fn announce(
        &mut self,
        now: Time,
        pool: &Pool,
        worker: Worker,
        key: &[u8],
    ) -> Result<(), OwnedByAnother> {
        if self.mint.as_ref().is_some_and(|mint| mint.is_from(key, worker)) {
            return Ok(());
        }
        let key = Fingerprint::new(self.secret, &text_identity(key));
        match self.announced.get(now, key) {
            Some(owner) if owner != worker && is_live(pool, owner) => Err(OwnedByAnother(owner)),
            _ => {
                self.announced.set(now, key, worker, worker.slot);
                Ok(())
            }
        }
    }

    /// A worker says that a key is over; only its own are.
    pub(super) fn forget(&mut self, now: Time, worker: Worker, key: &[u8]) {
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

fn is_live(pool: &Pool, worker: Worker) -> bool {
    pool.get(worker).is_some()
}

/// Whether this worker lives and serves this listener.
fn serves(pool: &Pool, worker: Worker, listener: ListenerId) -> bool {
    pool.get(worker).is_some_and(|backend| backend.serves(listener))
}

/// The current worker in the key's own slot, among the slots that have one; the one that gave the
/// connection back is not asked again as long as there is another.
fn own_worker(pool: &Pool, point: HashPoint, candidate: &Candidate) -> Option<Worker> {
    let best = |fits: &dyn Fn(Worker) -> bool| {
        let pool = pool.current().iter().filter(|backend| backend.serves(candidate.listener));
        let workers = pool.filter_map(|backend| backend.worker).filter(|worker| fits(*worker));
        workers.max_by_key(|worker| point.score(worker.slot))
    };
    best(&|worker| candidate.returned != Some(Returned::Back(worker))).or_else(|| best(&|_| true))
}
