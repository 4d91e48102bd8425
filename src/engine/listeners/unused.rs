//! Unused ports: one closes when its last server is closed by its app, and some time after the last
//! worker that served it was replaced, unless the user named it.

use std::time::Duration;

use super::Listeners;
use crate::logic::time::Time;

/// A port is kept for so long after a worker that was replaced: its successor may open a server
/// only some time after the one that made it ready.
const UNUSED: Duration = Duration::from_secs(5);

impl Listeners {
    /// Workers that end serve fewer ports than before.
    pub(super) fn look_for_unused_later(&mut self, now: Time) {
        self.requested.look_at = Some(now + UNUSED);
    }

    /// A worker has become ready, which may open further servers a little later.
    pub(super) fn spare_unused(&mut self, now: Time) {
        if self.requested.look_at.is_some() {
            self.look_for_unused_later(now);
        }
    }

    /// The listeners that nobody has served since workers that ended did, and that are to be closed. Not
    /// while a slot has no ready worker (`has_gap`): the one that comes may serve them, and clients wait
    /// for it.
    pub(in crate::engine) fn take_unused(
        &mut self,
        now: Time,
        is_stopping: bool,
        has_gap: impl FnOnce() -> bool,
    ) -> Vec<u32> {
        if self.requested.look_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.requested.look_at = None;
        if is_stopping {
            // All listeners are closed by that.
            return Vec::new();
        }
        if has_gap() {
            self.look_for_unused_later(now);
            return Vec::new();
        }
        let names = self.requested.ports.names();
        names.iter().flat_map(|name| self.close_if_unused(name)).collect()
    }

    /// Forgets a port if nobody serves it; returns the listeners that lead nowhere from now on.
    pub(super) fn close_if_unused(&mut self, name: &str) -> Vec<u32> {
        let mut serving = self.requested.serving.values();
        if serving.any(|serving| serving.servers.contains(name)) {
            return Vec::new();
        }
        self.requested.ports.remove(name)
    }
}
