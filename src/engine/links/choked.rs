//! Workers that send descriptors faster than these close: they are heard again when these are closed.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

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

/// Whether a worker is to be heard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadState {
    /// Nothing is in the way.
    Open,
    /// Not until what it sent is closed.
    Choked,
    /// That takes too long: it is to be ended.
    TooLong,
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

    /// The workers that are to be ended since they have sent files which do not close: nothing but
    /// sockets is ever to be sent.
    pub(super) fn look_at_files(
        &mut self,
        now: Time,
        is_live: impl Fn(Worker) -> bool,
    ) -> Vec<Worker> {
        let mut next_look = None;
        let mut ended = Vec::new();
        for (sender, since) in closing::files() {
            let Sender::Worker(worker) = sender else { continue };
            if !is_live(worker) || self.is_ended(worker) {
                continue;
            }
            if now < since + PATIENCE {
                next_look = next_look.into_iter().chain([since + PATIENCE]).min();
                continue;
            }
            warn!(
                name: "worker_killed", worker = worker.slot, reason = "open_file",
                "{worker} sent a file that does not close: sending KILL"
            );
            self.since.insert(worker, None);
            ended.push(worker);
        }
        self.next_look = next_look;
        ended
    }

    /// Whether so much of what a worker sent awaits closing, more than `most`, that it is not to be
    /// heard until all of that is closed.
    pub(super) fn judge(&mut self, now: Time, worker: Worker, most: usize) -> ReadState {
        let bound = if self.has(worker) { 0 } else { most };
        if !self.is_ended(worker) && closing::awaiting(Sender::Worker(worker)) <= bound {
            self.forget(worker);
            return ReadState::Open;
        }
        let since = self.since.entry(worker).or_insert(Some(now));
        if !closing::has_thread() {
            // It is not to blame.
            *since = since.map(|_| now);
        }
        if since.take_if(|since| *since + PATIENCE <= now).is_none() {
            return ReadState::Choked;
        }
        warn!(
            name: "worker_killed", worker = worker.slot, reason = "open_descriptors",
            "{worker} sent more than {most} descriptors that do not close: sending KILL"
        );
        ReadState::TooLong
    }
}
