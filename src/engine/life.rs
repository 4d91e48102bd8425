//! Replacing workers: what the fleet wants of the router and of the workers themselves, and what it
//! has to be told of them.

use std::io;
use std::time::Duration;

use nix::unistd::Pid;
use tracing::{debug, info, warn};

use super::{Engine, links};
use crate::logic::fleet::{Event, Exit, Facts, Input, Limit, Replacing};
use crate::logic::time::Time;
use crate::logic::{Worker, wear};
use crate::os::{memory, signals};

/// How often the memory of workers is looked at, if it is limited.
const LOOK_AT_MEMORY: Duration = Duration::from_secs(5);

/// What is remembered about the wear of workers.
#[derive(Debug, Default)]
pub(super) struct Worn {
    /// When to look at their memory again.
    look_at: Option<Time>,
    /// Whether it was said that it cannot be seen.
    is_hidden: bool,
}

impl Worn {
    /// When to call [`Engine::look_after_wear`].
    pub(super) fn due(&self) -> Option<Time> {
        self.look_at
    }
}

impl Engine {
    /// A worker gets no new keys any more.
    pub(super) fn withdraw(&mut self, worker: Worker) {
        self.router.drain(self.now, worker);
        self.tell_withdrawn(worker);
    }

    /// There are so many slots from now on.
    pub(super) fn resized(&mut self, slots: u16) {
        self.workers.slots = slots;
        self.room.resize(self.config.crew(slots));
        self.router.set_queues(self.room.queues());
        self.router.resize(self.now, slots);
    }

    /// Tells everybody what the fleet has to tell.
    pub(super) fn report(&mut self, event: &Event) {
        let facts = event.facts();
        let pid = facts.worker.and_then(|worker| self.workers.pid_of(worker)).map(Pid::as_raw);
        let told = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let advice = if facts.is_trouble { self.advice_on(event) } else { String::new() };
        log(&facts, pid, &format!("{event}{advice}{told}"));
        match event {
            Event::Replacing(Replacing::Restarted { .. }) => self.fallback = None,
            Event::Replacing(Replacing::RestartFailed { .. }) => self.fall_back(),
            // Nothing was proved yet of what workers run since an upgrade.
            Event::FailedStart { .. } | Event::Replacing(Replacing::RecyclingFailed { .. })
                if !self.fleet.is_rolling() =>
            {
                self.fall_back();
            }
            _ => {}
        }
        self.notifier.heard(self.now, event);
    }

    /// What the fleet does not know and somebody who has to do something about an event wants to.
    fn advice_on(&self, event: &Event) -> String {
        match event {
            Event::GaveUp { .. } => {
                format!("; {}", links::traits(&self.config.handoff).how_to_be_ready)
            }
            Event::Replacing(Replacing::RecyclingEarly { limit, .. }) => self.limit_of(*limit),
            _ => String::new(),
        }
    }

    /// What the limit is that may be too low.
    fn limit_of(&self, wear: Limit) -> String {
        let limit = match wear {
            Limit::Connections => self.config.wear.connections,
            Limit::Memory => self.config.wear.memory,
            Limit::Lifetime => None,
        };
        let unit = if wear == Limit::Memory { " bytes" } else { "" };
        limit.map(|limit| format!(" (now {limit}{unit})")).unwrap_or_default()
    }

    /// Tells the fleet which withdrawn workers have nothing left to do.
    pub(super) fn look_after_drains(&mut self) {
        let draining: Vec<_> = self.router.draining().collect();
        for worker in draining {
            self.look_at(worker);
            if self.links.reports_closes(worker) && self.router.is_drained(self.now, worker) {
                self.fleet.handle(self.now, Input::Drained(worker));
            }
        }
    }

    /// A connection was given to a worker.
    pub(super) fn count_given(&mut self, worker: Worker) {
        let Some(limit) = self.config.wear.connections else { return };
        let Some(live) = self.workers.get_mut(worker) else { return };
        live.given += 1;
        if live.given >= wear::connections(limit, worker, self.config.fleet.seed) {
            self.fleet.handle(self.now, Input::Recycle(worker, Limit::Connections));
        }
    }

    /// Looks which workers hold too much memory.
    pub(super) fn look_after_wear(&mut self) {
        let Some(limit) = self.config.wear.memory else {
            self.worn.look_at = None;
            return;
        };
        if self.worn.look_at.is_some_and(|at| self.now < at) {
            return;
        }
        self.worn.look_at = Some(self.now + LOOK_AT_MEMORY);
        for (worker, held) in self.workers.memory() {
            match held {
                Ok(held) if held > limit => {
                    debug!(
                        name: "worker_memory_exceeded", worker = worker.slot, bytes = held,
                        "{worker} holds {held} bytes"
                    );
                    self.fleet.handle(self.now, Input::Recycle(worker, Limit::Memory));
                }
                Ok(_) => {}
                Err(error) if self.worn.is_hidden => debug!(
                    name: "worker_memory_unknown", worker = worker.slot,
                    "{worker}: {error}"
                ),
                // It is not reaped yet, so it has to be there.
                Err(error) => {
                    self.worn.is_hidden = true;
                    warn!(
                        name: "memory_limit_ignored", %error,
                        "--max-memory has no effect: {error}; /proc has to be mounted, and where \
                         it hides the processes of others (hidepid), with gid= of a group that the \
                         supervisor is in"
                    );
                }
            }
        }
    }
}

/// Logs an event with its fields; those that it has not are left out.
fn log(facts: &Facts, pid: Option<i32>, line: &str) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (code, signal) = match facts.exit {
        Some(Exit::Code(code)) => (Some(code), None),
        Some(Exit::Signal(signal)) => (None, Some(signals::name(signal))),
        None => (None, None),
    };
    macro_rules! log {
        ($level:ident) => {
            $level!(
                event = facts.name,
                worker = facts.slot,
                generation = facts.worker.map(|worker| worker.generation),
                pid,
                count = facts.count,
                reason = facts.reason,
                code,
                signal,
                delay_ms = facts.delay.map(millis),
                timeout_ms = facts.timeout.map(millis),
                "{line}"
            )
        };
    }
    if facts.is_trouble { log!(warn) } else { log!(info) }
}

impl super::workers::Workers {
    /// How many bytes of memory each worker holds.
    fn memory(&self) -> Vec<(Worker, io::Result<u64>)> {
        self.all().map(|live| (live.worker, memory::resident(live.pid()))).collect()
    }
}
