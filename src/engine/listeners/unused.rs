//! Unused ports: one closes when its last server is closed by its app, and some time after the last
//! worker that served it was replaced, unless the user named it.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::links::node::NodeLink;
use crate::logic::Worker;

/// A port is kept for so long after a worker that was replaced: its successor may open a server
/// only some time after the one that made it ready.
const UNUSED: Duration = Duration::from_secs(5);

impl Engine {
    /// A server of a worker is closed. That of a withdrawn one closes because it ends: its
    /// successor may listen there in a moment.
    pub(in crate::engine) fn close_server(&mut self, worker: Worker, key: &str) {
        let Some(link) = self.node_link(worker) else { return };
        let withdrawn = link.withdrawn;
        let Some(closed) = link.primary.close(key) else { return };
        self.leave(worker, closed);
        if withdrawn {
            self.look_for_unused_ports_later();
        } else {
            self.close_port_if_unused(key);
        }
    }

    /// Workers that end serve fewer ports than before.
    pub(in crate::engine) fn look_for_unused_ports_later(&mut self) {
        let at = self.now + UNUSED;
        self.node_mut().ports.look_at = Some(at);
    }

    /// A worker has become ready, which may open further servers a little later.
    pub(in crate::engine) fn spare_unused_ports(&mut self) {
        if self.node().ports.look_at.is_some() {
            self.look_for_unused_ports_later();
        }
    }

    /// Closes the ports that nobody has served since workers that ended did. Not while a slot has no
    /// ready worker: the one that comes may serve them, and clients wait for it.
    pub(in crate::engine) fn close_unused_ports(&mut self) {
        if self.node().ports.look_at.is_none_or(|at| self.now < at) {
            return;
        }
        if self.fleet.is_stopping() {
            // All listeners are closed by that.
            self.node_mut().ports.look_at = None;
            return;
        }
        let present = self.workers.all().filter(|live| self.fleet.is_present(live.worker));
        if present.count() < usize::from(self.workers.slots) {
            return self.look_for_unused_ports_later();
        }
        self.node_mut().ports.look_at = None;
        let keys: Vec<String> = self.node().ports.names();
        for key in keys {
            self.close_port_if_unused(&key);
        }
    }

    fn close_port_if_unused(&mut self, key: &str) {
        let serves = |link: &NodeLink| link.primary.is_serving(key);
        let is_used = self.workers.all().any(|live| live.link.node().is_some_and(serves));
        if is_used {
            return;
        }
        for listener in self.node_mut().ports.remove(key) {
            self.close_listener(listener);
        }
    }
}
