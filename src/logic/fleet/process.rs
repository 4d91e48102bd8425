//! The state of one worker, and how events change it.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::heartbeat::Heartbeat;
use super::input::{Exit, Limit};
use super::transition::{Expiry, ProcessEvent, Stage, Transition};
use crate::logic::Worker;
use crate::logic::time::Time;

/// A worker that was ready for this long is stable.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// One worker, from its `Spawn` to its exit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Process {
    /// Who it is.
    pub(super) worker: Worker,
    /// When it was asked for.
    pub(super) since: Time,
    /// Its state.
    state: State,
    /// It is no backend any more.
    removed: bool,
    /// It has said that it leaves.
    leaves: bool,
    /// It drains or has drained.
    #[serde(default)]
    pub(super) drains: bool,
    /// It was started by the rolling restart.
    #[serde(default)]
    pub(super) by_restart: bool,
    /// It is to be replaced.
    #[serde(default)]
    pub(super) limit_reached: Option<Limit>,
    /// When it is as old as it may be.
    #[serde(default)]
    pub(super) lifetime_ends: Option<Time>,
    /// Its pings, with a watchdog.
    #[serde(default)]
    pub(super) heartbeat: Option<Heartbeat>,
}

/// The state of a worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum State {
    /// A process was asked for.
    Spawning,
    /// The process exists, its `READY` is awaited.
    Booting {
        /// When it is late.
        until: Time,
    },
    /// It gets connections.
    Ready {
        /// When it said so.
        since: Time,
    },
    /// It gets connections of its own keys only.
    Draining {
        /// When it gets TERM at the latest.
        until: Option<Time>,
    },
    /// It was asked to exit by itself.
    ExitRequested {
        /// When it gets TERM.
        until: Time,
        /// When it gets KILL, if it has a time of its own.
        kill_at: Option<Time>,
    },
    /// It wants no more connections and is about to exit.
    Leaving {
        /// When it gets TERM.
        until: Time,
    },
    /// TERM or ABRT was sent.
    Terminating {
        /// When it gets KILL, if it has a time of its own.
        kill_at: Option<Time>,
    },
    /// KILL was sent.
    Killed,
    /// There is no process and will be none.
    Gone,
}

impl Process {
    /// A worker that is asked for now.
    pub(super) fn new(worker: Worker, now: Time) -> Self {
        Self {
            worker,
            since: now,
            state: State::Spawning,
            removed: false,
            leaves: false,
            drains: false,
            by_restart: false,
            limit_reached: None,
            lifetime_ends: None,
            heartbeat: None,
        }
    }

    /// Its state, as far as the fleet needs it.
    pub(super) fn stage(&self) -> Stage {
        match self.state {
            State::Spawning => Stage::Spawning,
            State::Booting { .. } => Stage::Booting,
            State::Ready { .. } => Stage::Ready,
            State::Draining { .. } => Stage::Draining,
            State::ExitRequested { .. }
            | State::Leaving { .. }
            | State::Terminating { .. }
            | State::Killed
            | State::Gone => Stage::Exiting,
        }
    }

    /// Whether it gets connections, if only those of its own keys.
    pub(super) fn gets_connections(&self) -> bool {
        matches!(self.stage(), Stage::Ready | Stage::Draining)
    }

    /// Whether it may still become ready.
    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage(), Stage::Spawning | Stage::Booting)
    }

    /// Whether there is no process and will be none.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether its successor is there and it has not had KILL yet.
    pub(super) fn is_draining(&self) -> bool {
        self.drains && !matches!(self.state, State::Killed | State::Gone)
    }

    /// Whether it has been ready for long and has reached no limit.
    pub(super) fn is_stable(&self, now: Time) -> bool {
        let is_stable = matches!(self.state, State::Ready { since } if now - since >= STABLE_AFTER);
        is_stable && self.limit_reached.is_none()
    }

    /// Applies an event. One that leaves by itself has `leaving` to exit.
    pub(super) fn apply(
        &mut self,
        now: Time,
        event: ProcessEvent,
        boot_timeout: Duration,
        leaving: Duration,
    ) -> Transition {
        let (state, change) = match (self.state, event) {
            (State::Spawning, ProcessEvent::Spawned) => {
                (State::Booting { until: now + boot_timeout }, Transition::Started)
            }
            (State::Spawning, ProcessEvent::SpawnFailed) => (State::Gone, Transition::SpawnFailed),
            // A worker that speaks exists, whoever tells first.
            (State::Spawning | State::Booting { .. }, ProcessEvent::Ready) => {
                (State::Ready { since: now }, Transition::BecameReady)
            }
            (State::Spawning | State::Booting { .. }, ProcessEvent::Exited(exit)) => {
                (State::Gone, Transition::ExitedBooting(exit))
            }
            (State::Ready { .. } | State::Draining { .. }, ProcessEvent::Exited(exit)) => {
                (State::Gone, Transition::ExitedReady(exit))
            }
            (State::Ready { .. } | State::Draining { .. }, ProcessEvent::Leaving) => {
                self.leaves = true;
                self.heartbeat = None;
                (State::Leaving { until: now + leaving }, Transition::Leaving)
            }
            (
                State::ExitRequested { .. }
                | State::Leaving { .. }
                | State::Terminating { .. }
                | State::Killed,
                ProcessEvent::Exited(exit),
            ) => (State::Gone, self.exited(exit)),
            (
                State::Gone,
                ProcessEvent::Spawned
                | ProcessEvent::SpawnFailed
                | ProcessEvent::Ready
                | ProcessEvent::Leaving
                | ProcessEvent::Exited(_),
            )
            // One that leaves before it was ready still has its boot timeout to go.
            | (State::Spawning, ProcessEvent::Leaving)
            | (State::Booting { .. }, ProcessEvent::Spawned | ProcessEvent::SpawnFailed | ProcessEvent::Leaving)
            | (
                State::Ready { .. } | State::Draining { .. },
                ProcessEvent::Spawned | ProcessEvent::SpawnFailed | ProcessEvent::Ready,
            )
            | (
                State::ExitRequested { .. }
                | State::Leaving { .. }
                | State::Terminating { .. }
                | State::Killed,
                ProcessEvent::Spawned | ProcessEvent::SpawnFailed | ProcessEvent::Ready | ProcessEvent::Leaving,
            ) => (self.state, Transition::Ignored),
        };
        self.state = state;
        change
    }

    /// What its exit means after it was stopped.
    fn exited(&self, exit: Exit) -> Transition {
        match (self.leaves, self.drains) {
            (true, _) => Transition::Left(exit),
            (false, true) => Transition::Drained(exit),
            (false, false) => Transition::Terminated,
        }
    }

    /// The timeout that has expired by now. It stays so until it is handled.
    pub(super) fn expired(&self, now: Time) -> Option<Expiry> {
        let (at, due) = match self.state {
            State::Booting { until } => (Some(until), Expiry::BootTimeout),
            State::Ready { .. } => (self.lifetime_ends, Expiry::Lifetime),
            State::Draining { until } => (until, Expiry::DrainTimeout),
            State::ExitRequested { until, kill_at } => (Some(until), Expiry::ExitTimeout(kill_at)),
            State::Leaving { until } => (Some(until), Expiry::LeaveTimeout),
            State::Terminating { kill_at } => (kill_at, Expiry::Kill),
            State::Spawning | State::Killed | State::Gone => return None,
        };
        at.filter(|at| *at <= now).map(|_| due)
    }

    /// When its next timeout is.
    pub(super) fn timeout(&self) -> Option<Time> {
        let own = match self.state {
            State::Booting { until }
            | State::ExitRequested { until, .. }
            | State::Leaving { until } => Some(until),
            State::Ready { .. } => self.lifetime_ends,
            State::Draining { until } => until,
            State::Terminating { kill_at } => kill_at,
            State::Spawning | State::Killed | State::Gone => None,
        };
        own.into_iter().chain(self.heartbeat.as_ref().map(Heartbeat::timeout)).min()
    }

    /// Lets a ready one drain.
    pub(super) fn drain(&mut self, until: Option<Time>) {
        self.state = State::Draining { until };
        self.drains = true;
        self.limit_reached = None;
        self.lifetime_ends = None;
    }

    /// Cancels the timeouts that do not count in a stop.
    pub(super) fn clear_timers(&mut self) {
        self.heartbeat = None;
        self.lifetime_ends = None;
        if let State::Draining { until } = &mut self.state {
            *until = None;
        }
    }

    /// Notes that it is no backend any more. Returns whether it was one.
    pub(super) fn remove(&mut self) -> bool {
        !std::mem::replace(&mut self.removed, true)
    }

    /// Notes that it was asked to exit by itself. Returns whether it has to be: it gets connections.
    pub(super) fn request_exit(&mut self, until: Time, kill_at: Option<Time>) -> bool {
        let asks = self.gets_connections();
        if asks {
            self.state = State::ExitRequested { until, kill_at };
            self.heartbeat = None;
            self.lifetime_ends = None;
        }
        asks
    }

    /// The time of its KILL, if it was asked to exit by itself.
    pub(super) fn exit_requested(&self) -> Option<Option<Time>> {
        match self.state {
            State::ExitRequested { kill_at, .. } => Some(kill_at),
            State::Spawning
            | State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Leaving { .. }
            | State::Terminating { .. }
            | State::Killed
            | State::Gone => None,
        }
    }

    /// Notes TERM or ABRT. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn terminate(&mut self, kill_at: Option<Time>) -> bool {
        match self.state {
            State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::ExitRequested { .. }
            | State::Leaving { .. } => {
                self.state = State::Terminating { kill_at };
                self.heartbeat = None;
                true
            }
            State::Spawning | State::Terminating { .. } | State::Killed | State::Gone => false,
        }
    }

    /// Notes KILL. Returns whether it has to be sent: the process exists and had none.
    pub(super) fn kill(&mut self) -> bool {
        match self.state {
            State::Booting { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::ExitRequested { .. }
            | State::Leaving { .. }
            | State::Terminating { .. } => {
                self.state = State::Killed;
                self.heartbeat = None;
                true
            }
            State::Spawning | State::Killed | State::Gone => false,
        }
    }
}
