//! What workers say in any handoff: their keys, the ends of their connections, and what makes no sense.

use std::io;
use std::mem;

use sticky_worker::message::MAX_KEY;
use tracing::warn;

use super::Engine;
use crate::logic::Worker;
use crate::logic::route::OwnedByAnother;

/// What was said once about keys that workers announce.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// That one is too long.
    too_long: bool,
    /// That one lives on another worker.
    shared: bool,
}

impl Engine {
    /// A worker announces a key. Two may do so innocently: when ids collide, or when clients present
    /// what is the same for all of them.
    pub(super) fn hear_session(&mut self, worker: Worker, key: &[u8]) {
        if self.fleet.is_outgoing(worker) {
            // Nobody new is sent there, and whoever is there already stays.
        } else if !self.fleet.is_ready(worker) {
            self.tell_off(worker, "SESSION came before READY");
        } else if key.len() > MAX_KEY {
            let length = key.len();
            if !mem::replace(&mut self.workers.said.too_long, true) {
                warn!(
                    name: "announced_key_too_long", worker = worker.slot, bytes = length,
                    "{worker} announces a key of {length} bytes: only {MAX_KEY} are taken, so \
                     clients that present it may reach another worker; use shorter ids (said once)"
                );
            }
        } else if let Err(OwnedByAnother(owner)) = self.router.announce(self.now, worker, key)
            && !mem::replace(&mut self.workers.said.shared, true)
        {
            warn!(
                name: "announced_key_taken", worker = worker.slot, owner = owner.slot,
                "{worker} announces a key that lives on {owner}, where everybody who presents it \
                 goes: several clients seem to share it, such as a cookie with the same value for \
                 all, or ids that collide; have --by name a key that each client has for itself \
                 (said once)"
            );
        }
    }

    /// A worker has finished so many connections.
    pub(super) fn hear_closed(&mut self, worker: Worker, count: u32) {
        if !self.router.closed(worker, count) {
            self.tell_off(worker, "it closed more connections than it was given");
        }
    }

    /// Ends a worker with which nothing can be exchanged any more.
    pub(super) fn end_unusable(&mut self, worker: Worker, error: &io::Error) {
        self.end_for(worker, &format!("it shut its channel down: {error}"));
    }

    /// Ends a worker for what it did, which is said once, whatever was said of it before.
    pub(super) fn end_for(&mut self, worker: Worker, what: &str) {
        let Some(live) = self.workers.get_mut(worker) else { return };
        if mem::replace(&mut live.ended, true) {
            return;
        }
        let pid = live.pid();
        warn!(
            name: "worker_killed", worker = worker.slot, pid = pid.as_raw(), reason = "protocol",
            error = what,
            "{worker} misuses its channel: {what}; it is ended (pid {pid})"
        );
        self.workers.kill(worker);
    }

    /// Says in the log what a worker did wrong, at a limited rate.
    pub(super) fn tell_off(&mut self, worker: Worker, what: &str) {
        let now = self.now;
        if let Some(live) = self.workers.get_mut(worker)
            && let Some(before) = live.told_off.say(now)
        {
            let pid = live.pid();
            warn!(
                name: "protocol_violated", worker = worker.slot, pid = pid.as_raw(), error = what,
                suppressed = before,
                "{worker} misuses its channel: {what} (pid {pid}, {before} earlier ones not shown)"
            );
        }
    }
}
