//! What each worker serves, as far as it has asked for it, and what the router knows of that.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Listeners;
use crate::logic::Worker;
use crate::logic::servers::Servers;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;

/// So many ports a worker may have opened at once: as many as it may have. Then there are 250 in a second.
const MOST_OPENS: u32 = 1024;
const OPENS: Throttle = Throttle::new(MOST_OPENS, Duration::from_millis(4));

/// What has changed about the listeners that a worker serves.
#[derive(Debug, Default)]
pub(in crate::engine) struct Served {
    /// Those that it serves from now on.
    pub(in crate::engine) serves: Vec<u32>,
    /// Those that it serves no more.
    pub(in crate::engine) leaves: Vec<u32>,
    /// Those that nobody serves any more, and that are to be closed.
    pub(in crate::engine) closes: Vec<u32>,
}

/// What one worker serves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Serving {
    pub(super) servers: Servers,
    /// Whether or not it has asked for them, it takes what comes to listeners that the user named.
    takes_given: bool,
    /// The listeners that the router knows it serves.
    told: BTreeSet<u32>,
    /// It gets no new keys any more.
    pub(super) is_withdrawn: bool,
    /// How often something is opened for it.
    #[serde(skip, default = "opens")]
    pub(super) opens: Throttle,
}

fn opens() -> Throttle {
    OPENS
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            servers: Servers::default(),
            takes_given: false,
            told: BTreeSet::new(),
            is_withdrawn: false,
            opens: OPENS,
        }
    }
}

impl Serving {
    /// The listeners whose connections it takes; `given` are those that the user named, which lead
    /// to a worker that has any server, whether or not it has asked for them.
    pub(super) fn listeners(&self, given: &BTreeSet<u32>) -> BTreeSet<u32> {
        let takes = self.takes_given();
        self.servers.listeners().chain(given.iter().copied().filter(|_| takes)).collect()
    }

    /// Whether a listener is one of those.
    fn takes(&self, listener: u32, given: &BTreeSet<u32>) -> bool {
        let is_given = || given.contains(&listener) && self.takes_given();
        self.servers.of_listener(listener).is_some() || is_given()
    }

    fn takes_given(&self) -> bool {
        self.takes_given || !self.servers.is_empty()
    }

    /// Whether it is a guess which of several servers the `given` listeners lead to: none of
    /// them has asked for one.
    pub(super) fn is_guessing(&self, given: &BTreeSet<u32>) -> bool {
        let asked = || given.iter().any(|listener| self.servers.of_listener(*listener).is_some());
        !given.is_empty() && !self.takes_given && self.servers.len() > 1 && !asked()
    }
}

impl Listeners {
    /// What a worker serves, of which nothing may be known yet.
    pub(super) fn serving(&mut self, worker: Worker) -> &mut Serving {
        self.requested.serving.entry(worker).or_default()
    }

    /// Another process speaks for a worker, and serves nothing yet but perhaps what the user named.
    pub(in crate::engine) fn booted(&mut self, worker: Worker, takes_given: bool) {
        let serving = self.serving(worker);
        (serving.servers, serving.takes_given) = (Servers::default(), takes_given);
    }

    /// A worker takes what comes to any listener that the user named.
    pub(in crate::engine) fn takes_given(&mut self, worker: Worker) {
        self.serving(worker).takes_given = true;
    }

    /// A worker gets no new keys any more.
    pub(in crate::engine) fn withdrawn(&mut self, worker: Worker) {
        if self.workers_ask() {
            self.serving(worker).is_withdrawn = true;
        }
    }

    /// A worker takes connections from now on: what it serves, of which the router knows nothing yet.
    pub(in crate::engine) fn placed(&mut self, now: Time, worker: Worker) -> Served {
        if !self.workers_ask() {
            return Served::default();
        }
        self.serving(worker).told.clear();
        self.spare_unused(now);
        self.served(worker)
    }

    /// Which listeners a ready worker serves, as far as the router does not know it.
    pub(in crate::engine) fn served(&mut self, worker: Worker) -> Served {
        let given = &self.requested.ports.given;
        let Some(serving) = self.requested.serving.get_mut(&worker) else {
            return Served::default();
        };
        let now = serving.listeners(given);
        let serves = now.difference(&serving.told).copied().collect();
        let leaves = serving.told.difference(&now).copied().collect();
        serving.told = now;
        Served { serves, leaves, closes: Vec::new() }
    }

    /// A server has what it asked for. If the worker is ready, the router is told of these listeners
    /// alone, however many the worker has.
    pub(in crate::engine) fn serve(
        &mut self,
        worker: Worker,
        name: &str,
        listeners: Vec<u32>,
        is_ready: bool,
    ) -> Served {
        let given = self.requested.ports.given.clone();
        let serving = self.serving(worker);
        serving.servers.insert(name, listeners.clone());
        let mut served = Served::default();
        if is_ready {
            let all = listeners.into_iter().chain(given);
            served.serves = all.filter(|listener| serving.told.insert(*listener)).collect();
        }
        self.warn_if_guessing(worker);
        served
    }

    /// A server of a worker is closed: which of its listeners, or of those that the user named, the worker
    /// serves no more, and which nobody does.
    pub(in crate::engine) fn stops(&mut self, now: Time, worker: Worker, name: &str) -> Served {
        let mut served = Served::default();
        let given = &self.requested.ports.given;
        let Some(serving) = self.requested.serving.get_mut(&worker) else { return served };
        let Some(closed) = serving.servers.remove(name) else { return served };
        let candidates = closed.into_iter().chain(given.iter().copied());
        let left = candidates
            .filter(|listener| !serving.takes(*listener, given) && serving.told.remove(listener));
        served.leaves = left.collect();
        // That of a withdrawn one closes because it ends: its successor may listen there in a moment.
        if serving.is_withdrawn {
            self.look_for_unused_later(now);
        } else {
            served.closes = self.close_if_unused(name);
        }
        served
    }

    /// A worker is gone.
    pub(in crate::engine) fn worker_gone(&mut self, now: Time, worker: Worker) {
        if self.workers_ask() {
            self.requested.serving.remove(&worker);
            self.look_for_unused_later(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_listener_leads_to_a_worker_that_has_any_server() {
        let mut serving = Serving::default();
        let given = [0, 1].into();
        assert!(serving.listeners(&given).is_empty());
        serving.servers.insert("z", vec![5]);
        serving.servers.insert("a", vec![1]);
        assert_eq!(serving.listeners(&given), [0, 1, 5].into());
        assert!(!serving.is_guessing(&given));
        assert!(serving.is_guessing(&[0].into()));
        assert_eq!(serving.servers.remove("z"), Some(vec![5]));
        assert!(serving.takes(0, &given) && !serving.takes(5, &given));
        assert_eq!(serving.listeners(&given), [0, 1].into());
    }
}
