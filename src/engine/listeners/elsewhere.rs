//! Successors that listen elsewhere than their predecessors: an app that finds its port taken may take
//! another one, and then its clients would find nobody. The restart fails, the workers of before go on.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::warn;

use crate::engine::Engine;
use crate::logic::Worker;
use crate::logic::fleet::Input;

/// So long after its first server a successor may open the one that is served.
const ALLOWED: Duration = Duration::from_secs(2);

impl Engine {
    /// A server of a worker listens, by which the worker is ready, unless it is a successor that serves
    /// nothing of what is served. It may do so in a moment.
    pub(in crate::engine) fn hear_listening(&mut self, worker: Worker) {
        if self.served_before(worker).is_some_and(|before| before.is_disjoint(&self.serves(worker)))
        {
            let until = self.now + ALLOWED;
            self.node_mut().elsewhere.entry(worker).or_insert(until);
            return;
        }
        self.node_mut().elsewhere.remove(&worker);
        self.fleet.handle(self.now, Input::Ready(worker));
    }

    /// Ends the successors that still serve nothing of what is served.
    pub(in crate::engine) fn end_those_elsewhere(&mut self) {
        let now = self.now;
        while let Some((worker, _)) = self
            .node()
            .elsewhere
            .iter()
            .map(|(worker, at)| (*worker, *at))
            .find(|(_, at)| *at <= now)
        {
            self.node_mut().elsewhere.remove(&worker);
            let Some(before) = self.served_before(worker) else { continue };
            warn!(
                name: "worker_elsewhere", worker = worker.slot,
                "the successor of {worker} listens on {} and no longer on {}: ending it; stop and \
                 start anew to change the port; an app that looks whether its port is free must \
                 not take another one",
                self.places(&self.serves(worker)),
                self.places(&before)
            );
            self.workers.terminate(worker);
        }
    }

    /// What the worker serves whose place this one is to take; `None` if there is no such worker or
    /// it serves nothing.
    fn served_before(&self, worker: Worker) -> Option<BTreeSet<u32>> {
        let predecessor = self.fleet.predecessor(worker)?;
        Some(self.serves(predecessor)).filter(|served| !served.is_empty())
    }

    fn serves(&self, worker: Worker) -> BTreeSet<u32> {
        let link = self.workers.get(worker).and_then(|live| live.link.node());
        link.map(|link| link.primary.listeners(self.node().ports.given())).unwrap_or_default()
    }

    fn places(&self, listeners: &BTreeSet<u32>) -> String {
        let open = listeners.iter().filter_map(|number| self.listeners.get(*number));
        open.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}
