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
pub(super) struct Choked {
    since: BTreeMap<Worker, Option<Time>>,
    /// When to look at those that have sent files.
    next_look: Option<Time>,
}

impl Choked {
    /// Whether this worker is not to be heard now.
    pub(super) fn has(&self, worker: Worker) -> bool {
        self.since.contains_key(&worker)
    }

    fn is_ended(&self, worker: Worker) -> bool {
        self.since.get(&worker).is_some_and(Option::is_none)
    }

    /// It is gone.
    pub(super) fn forget(&mut self, worker: Worker) {
        self.since.remove(&worker);
    }

    /// When to look again.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        let look = (!self.since.is_empty()).then(|| now + LOOK);
        look.into_iter().chain(self.next_look).min()
    }
}

impl Engine {
    /// Ends workers that have sent files which do not close: nothing but sockets is ever to be sent.
    pub(super) fn look_after_files(&mut self) {
        let mut next_look = None;
        for (sender, since) in closing::files() {
            let Sender::Worker(worker) = sender else { continue };
            if self.workers.get(worker).is_none() || self.workers.choked.is_ended(worker) {
                continue;
            }
            if self.now < since + PATIENCE {
                next_look = next_look.into_iter().chain([since + PATIENCE]).min();
                continue;
            }
            warn!(
                name: "worker_killed", worker = worker.slot, reason = "open_file",
                "{worker} is ended: it sent a file that does not close"
            );
            self.workers.choked.since.insert(worker, None);
            self.workers.kill(worker);
        }
        self.workers.choked.next_look = next_look;
    }

    /// Whether so much of what a worker sent awaits closing that it is not to be heard until all of
    /// that is closed. It is ended when this takes too long.
    pub(super) fn is_choked(&mut self, worker: Worker) -> bool {
        let most = self.room.queues().stalled;
        let bound = if self.workers.choked.has(worker) { 0 } else { most };
        let is_ended = self.workers.choked.is_ended(worker);
        if !is_ended && closing::awaiting(Sender::Worker(worker)) <= bound {
            self.workers.choked.forget(worker);
            return false;
        }
        let now = self.now;
        let since = self.workers.choked.since.entry(worker).or_insert(Some(now));
        if !closing::has_thread() {
            // It is not to blame.
            *since = since.map(|_| now);
        }
        if since.take_if(|since| *since + PATIENCE <= now).is_some() {
            warn!(
                name: "worker_killed", worker = worker.slot, reason = "open_descriptors",
                "{worker} is ended: it sent more than {most} descriptors, and they do not close"
            );
            self.workers.kill(worker);
        }
        true
    }
}
