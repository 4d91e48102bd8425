//! Workers that send descriptors faster than these close: they are heard again when these are closed.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

use super::Engine;
use crate::logic::Worker;
use crate::logic::time::Time;
use crate::os::closing::{self, Sender};

/// How long a worker may be one of them. Descriptors that are slow to close are not of an honest one.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look whether it still is.
const LOOK: Duration = Duration::from_millis(5);

/// Those workers, and since when; `None` for those that are ended for it.
#[derive(Debug, Default)]
pub(super) struct Choked(BTreeMap<Worker, Option<Time>>);

impl Choked {
    /// Whether this worker is not to be heard now.
    pub(super) fn has(&self, worker: Worker) -> bool {
        self.0.contains_key(&worker)
    }

    /// It is gone.
    pub(super) fn forget(&mut self, worker: Worker) {
        self.0.remove(&worker);
    }

    /// When to look again.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        (!self.0.is_empty()).then(|| now + LOOK)
    }
}

impl Engine {
    /// Ends workers that have sent files which do not close: no program can be started meanwhile, since it
    /// would have to wait for that, too.
    pub(super) fn end_senders_of_files(&mut self) {
        for sender in closing::senders_of_files() {
            if let Sender::Worker(worker) = sender
                && self.workers.get(worker).is_some()
            {
                warn!(
                    worker = worker.slot,
                    "{worker} is ended: it sent a file that does not close"
                );
                self.workers.kill(worker);
            }
        }
    }

    /// Whether so much of what a worker sent awaits closing that it is not to be heard until all of
    /// that is closed. It is ended when this takes too long.
    pub(super) fn is_choked(&mut self, worker: Worker) -> bool {
        let most = self.room.queues().for_still;
        let bound = if self.workers.choked.has(worker) { 0 } else { most };
        if closing::awaiting(Sender::Worker(worker)) <= bound {
            self.workers.choked.forget(worker);
            return false;
        }
        let now = self.now;
        let since = self.workers.choked.0.entry(worker).or_insert(Some(now));
        if since.take_if(|since| *since + PATIENCE <= now).is_some() {
            warn!(
                worker = worker.slot,
                "{worker} is ended: it sent more than {most} descriptors, and they do not close"
            );
            self.workers.kill(worker);
        }
        true
    }
}
