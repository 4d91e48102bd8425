//! Successors that listen elsewhere than their predecessors: an app that finds its port taken may take
//! another one, and then its clients would find nobody. The restart fails, the workers of before go on.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::warn;

use super::Listeners;
use crate::logic::Worker;
use crate::logic::time::Time;

/// So long after its first server a successor may open the one that is served.
const ALLOWED: Duration = Duration::from_secs(2);

impl Listeners {
    /// A server of a worker listens. Returns whether the worker is ready by that: not a successor that
    /// serves nothing of what is served. It may do so in a moment.
    pub(in crate::engine) fn is_ready(
        &mut self,
        now: Time,
        worker: Worker,
        predecessor: Option<Worker>,
    ) -> bool {
        let before = self.served_by(predecessor);
        if before.is_some_and(|before| before.is_disjoint(&self.listeners_of(worker))) {
            self.requested.elsewhere.entry(worker).or_insert(now + ALLOWED);
            return false;
        }
        self.requested.elsewhere.remove(&worker);
        true
    }

    /// A successor that still serves nothing of what is served, and is to be ended.
    pub(in crate::engine) fn take_elsewhere(
        &mut self,
        now: Time,
        predecessor: impl Fn(Worker) -> Option<Worker>,
    ) -> Option<Worker> {
        loop {
            let mut elsewhere = self.requested.elsewhere.iter();
            let worker = *elsewhere.find(|(_, at)| **at <= now)?.0;
            self.requested.elsewhere.remove(&worker);
            let Some(before) = self.served_by(predecessor(worker)) else { continue };
            warn!(
                name: "worker_elsewhere", worker = worker.slot,
                "the successor of {worker} listens on {} and no longer on {}: sending TERM; stop \
                 and start to change the port; an app that checks whether its port is free must \
                 not take another one",
                self.places(&self.listeners_of(worker)),
                self.places(&before)
            );
            return Some(worker);
        }
    }

    /// What a worker serves, if there is one and it serves anything.
    fn served_by(&self, worker: Option<Worker>) -> Option<BTreeSet<u32>> {
        Some(self.listeners_of(worker?)).filter(|served| !served.is_empty())
    }

    fn listeners_of(&self, worker: Worker) -> BTreeSet<u32> {
        let serving = self.requested.serving.get(&worker);
        serving.map(|its| its.listeners(&self.requested.ports.given)).unwrap_or_default()
    }

    fn places(&self, listeners: &BTreeSet<u32>) -> String {
        let open = listeners.iter().filter_map(|number| self.get(*number));
        open.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
