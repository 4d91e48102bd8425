//! The pool: the workers that the router may send connections to.
//!
//! Each slot has a backend for its *current* worker, the one that takes new keys. A *draining* worker
//! has left that place to its successor, or its slot is no more. It keeps a backend of its own for as
//! long as it lives, since it still owns keys.

use std::collections::BTreeMap;
use std::mem;

use serde::{Deserialize, Serialize};

use super::backend::{Backend, Limits};
use crate::logic::Worker;
use crate::logic::time::Time;

/// All backends.
#[derive(Debug, Deserialize, Serialize)]
#[serde(try_from = "Written")]
pub(super) struct Pool {
    limits: Limits,
    /// Those of the slots, in order.
    current: Vec<Backend>,
    /// Those of draining workers; none of them is empty.
    #[serde(serialize_with = "without_keys")]
    draining: BTreeMap<Worker, Backend>,
}

/// A pool as it is written down.
#[derive(Deserialize)]
struct Written {
    limits: Limits,
    current: Vec<Backend>,
    draining: Vec<Backend>,
}

/// Why what was written down is no pool.
#[derive(Debug, thiserror::Error)]
enum WrongPool {
    #[error("{0} is in the wrong place")]
    Misplaced(Worker),
    #[error("a draining worker is missing")]
    Empty,
    #[error("there are more backends than slots can be")]
    TooMany,
}

impl Pool {
    pub(super) fn new(now: Time, slots: u16, limits: Limits) -> Self {
        let current = (0..slots).map(|_| Backend::new(now, limits)).collect();
        Self { limits, current, draining: BTreeMap::new() }
    }

    /// The backends of the slots, for choosing among them.
    pub(super) fn current(&self) -> &[Backend] {
        &self.current
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u16 {
        u16::try_from(self.current.len()).expect("as many as `new`, `resize` or `try_from` allowed")
    }

    /// Whether every worker serves every listener.
    pub(super) fn all_listeners(&self) -> bool {
        self.limits.all_listeners
    }

    /// The backend of a live worker, current or draining.
    pub(super) fn get(&self, worker: Worker) -> Option<&Backend> {
        match self.current.get(usize::from(worker.slot)) {
            Some(backend) if backend.worker == Some(worker) => Some(backend),
            Some(_) | None => self.draining.get(&worker),
        }
    }

    pub(super) fn get_mut(&mut self, worker: Worker) -> Option<&mut Backend> {
        match self.current.get_mut(usize::from(worker.slot)) {
            Some(backend) if backend.worker == Some(worker) => Some(backend),
            Some(_) | None => self.draining.get_mut(&worker),
        }
    }

    /// All backends, empty ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Backend> {
        self.current.iter().chain(self.draining.values())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Backend> {
        self.current.iter_mut().chain(self.draining.values_mut())
    }

    /// Those of draining workers.
    pub(super) fn draining(&self) -> &BTreeMap<Worker, Backend> {
        &self.draining
    }

    /// The backend that a worker which became ready takes, empty or already its own; `None` if it has no
    /// slot. The worker that it had drains from now on.
    pub(super) fn backend_for(&mut self, now: Time, worker: Worker) -> Option<&mut Backend> {
        let before = self.current.get(usize::from(worker.slot))?.worker;
        if let Some(before) = before.filter(|before| *before != worker) {
            self.drain(now, before);
        }
        let backend = &mut self.current[usize::from(worker.slot)];
        if let Some(own) = self.draining.remove(&worker) {
            *backend = own;
        }
        Some(backend)
    }

    /// The worker leaves the place of its slot and gets one of its own.
    pub(super) fn drain(&mut self, now: Time, worker: Worker) {
        if let Some(backend) = self.current.get_mut(usize::from(worker.slot))
            && backend.worker == Some(worker)
        {
            let own = mem::replace(backend, Backend::new(now, self.limits));
            self.draining.insert(worker, own);
        }
    }

    /// A draining worker is gone, and its backend with it.
    pub(super) fn remove(&mut self, worker: Worker) {
        self.draining.remove(&worker);
    }

    /// There are so many slots from now on; the workers of those that are gone drain.
    pub(super) fn resize(&mut self, now: Time, slots: u16) {
        let kept = usize::from(slots).min(self.current.len());
        for backend in self.current.split_off(kept) {
            if let Some(worker) = backend.worker {
                self.draining.insert(worker, backend);
            }
        }
        let limits = self.limits;
        self.current.resize_with(usize::from(slots), || Backend::new(now, limits));
    }

    /// Applies other limits. What listeners workers serve is theirs to say, as before.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = Limits { all_listeners: self.limits.all_listeners, ..limits };
        for backend in self.all_mut() {
            backend.set_limits(limits);
        }
    }
}

impl TryFrom<Written> for Pool {
    type Error = WrongPool;

    fn try_from(written: Written) -> Result<Self, WrongPool> {
        let Written { limits, current, draining } = written;
        let slots = u16::try_from(current.len()).map_err(|_| WrongPool::TooMany)?;
        for (slot, backend) in (0..slots).zip(&current) {
            if let Some(worker) = backend.worker.filter(|worker| worker.slot != slot) {
                return Err(WrongPool::Misplaced(worker));
            }
        }
        let mut pool = Self { limits, current, draining: BTreeMap::new() };
        for backend in draining {
            let worker = backend.worker.ok_or(WrongPool::Empty)?;
            if pool.get(worker).is_some() {
                return Err(WrongPool::Misplaced(worker));
            }
            pool.draining.insert(worker, backend);
        }
        Ok(pool)
    }
}

fn without_keys<S: serde::Serializer>(
    backends: &BTreeMap<Worker, Backend>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(backends.values())
}
