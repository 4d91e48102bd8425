//! The fleet: a state machine of all workers.
//!
//! # One worker (`process.rs`)
//!
//! - **Spawning**: `Spawn` was asked for. `Spawned` makes it Booting; `SpawnFailed` is a failed start.
//! - **Booting**: the process has the boot timeout to say `READY`; then it is Ready and becomes a backend
//!   (`AddBackend`). If it exits before or is late, that is a failed start. A late one is Terminating; KILL
//!   follows 5 s after TERM.
//! - **Ready**: it gets connections. A second `READY` changes nothing.
//! - **Draining**: after `DrainBackend` it gets no new keys, but still the connections of its own. When it is
//!   `Drained`, or after the drain timeout, it is ExitRequested if it can exit by itself, else
//!   Terminating. KILL follows the grace later.
//! - **ExitRequested**: it had `RequestExit`, see below. It has a fifth of the grace, 5 s at most, or 1 s if it
//!   need not wait for its connections; then it is Terminating.
//! - **Leaving**: it was Ready or Draining and said that it wants no more connections. It has 10 s to exit by
//!   itself, in a stop a fifth of the grace, 5 s at most; then it is Terminating, and KILL follows 5 s after
//!   TERM. One that leaves before it was ready is still Booting.
//! - **Terminating**: TERM or ABRT was sent. `READY` comes too late now. Only its exit changes this.
//! - **Killed**: KILL was sent; likewise.
//!
//! # One slot (`slot.rs`)
//!
//! A slot has one **current** worker, or a delay until its next start. When the current worker exits, with
//! any code, the slot starts the next generation after the delay. Each delay is twice the one before, from
//! 100 ms to 30 s, with a fifth of jitter. A worker that was ready for a minute is stable and resets this; the
//! minute is checked when it ends, so a fleet of ready workers has no timer at all.
//!
//! Beside the current worker, while that is Ready, there can be its **successor**, Spawning or Booting.
//! When the successor is ready it becomes the current worker, and the old one drains as a **retired** one.
//! Retired workers drain or are about to exit; one that was still Spawning is terminated as soon as it is
//! `Spawned`. If the current worker exits while its successor boots, the successor becomes the current
//! worker, and fails as such. If the successor fails, the current worker stays.
//!
//! # TERM (`exit.rs`)
//!
//! Workers of the handoff `channel` get TERM when they have drained. Those that exit by themselves
//! (`exits_when_drained`: Node) are asked first, by `Drain` in a stop and by `RequestExit` when they have
//! drained or their time is over:
//!
//! - One with its own handler for TERM says so (`HandlesTerm`) and gets TERM at once. In a stop this is as soon
//!   as nothing is accepted any more, with its connections open, as if it ran alone. In a restart, and when
//!   its slot is removed, it is when no session is left or the drain timeout is over: sessions of a replaced
//!   worker last as long with such a handler as without.
//! - One without waits for its connections, or not (`at_once`), disconnects and exits, so that its handlers of
//!   these events run. TERM, which would cut this short, comes when that time is over, as it does for one
//!   that does not listen, stuck or without the preload.
//!
//! What is said of a worker that is gone is ignored. Inputs never run timers: when the supervisor itself
//! was late, a `READY` that came meanwhile is in time if it is handled before the timeout.
//!
//! # Replacing (`rolling.rs`)
//!
//! There is one queue of slots whose worker is to be replaced: first those of a rolling restart, then
//! those that reached a limit, the oldest worker first in each. At most `restart_parallel` slots are replaced at
//! a time: until the new worker is ready, not until the old one has drained. But while `max_draining` workers
//! drain, or will when their successors are ready, no successor is started. A restart that is held up by
//! this is reported once each time.
//!
//! - **Restart**: all live workers are stale, except those whose `Spawn` is still in the queue of actions. A
//!   ready one gets a successor in its turn. One that still boots in its turn is terminated, and another is
//!   started at once. A slot without either, waiting for its delay or for an exit, starts at once, and its
//!   failures are forgotten, since the operator may have fixed the cause. A successor that fails ends the
//!   restart: other successors are terminated, old workers that are left stay, and so do those that are new.
//!   In a slot without a ready worker a start fails as always, and the restart goes on. It is over when
//!   no stale worker is left.
//! - **Restart during a restart**: from the beginning: successors that boot are terminated, and all workers
//!   are stale.
//! - **Recycle**: a ready worker reached one of its limits (`Recycle`), or its lifetime, which varies by a
//!   tenth. If its successor fails, it stays, and the next try follows after the delay of the slot. Neither
//!   ends a restart. If a limit is reached within a minute of being ready, it may be too low for any worker;
//!   so the successor starts after a delay, of its own, which grows in the same way, but not beyond a second
//!   for memory. The first time is a warning. Such a worker resets no delay.
//!
//! # Scaling (`scale.rs`)
//!
//! Slots are 0..n. `More` adds slot n, up to [`MAX_WORKERS`]; `Fewer` removes the highest, down to one slot. A
//! ready worker of a removed slot drains, one that boots is terminated. A slot that comes back goes on
//! with its generations. The number outlives restarts.
//!
//! A restart with a configuration of fewer slots removes slots at its end, since only then it is known that
//! new workers start: if it fails, there are as many as before. Slots to be removed have no turn, unless
//! none of the others has a worker that could show whether it starts. `More` and `Fewer` meanwhile change the
//! target. So does another configuration; slots that it adds start at once. Slots that a configuration has
//! added are removed if the restart fails; those of `More` before it stay.
//!
//! # Watchdog (`watchdog.rs`)
//!
//! With a watchdog of T, Ready and Draining workers get a `Ping` at once and every T/2. `Pong` answers
//! all that were sent. If the oldest unanswered one is T old, the worker is hung: it gets ABRT, and KILL after
//! T/4 (5 s at most). The slot of a current one starts anew at once the first time, later after a delay.
//! The supervisor's own lateness never counts: if `handle_timeout` comes more than T/8 late, nobody is hung in
//! this call, and every open `Ping` gets another T.
//!
//! # The whole (`phase.rs`)
//!
//! - **Running**: every slot should have a ready worker. Until any worker has been ready, one slot at a time
//!   has one, so that a start which cannot work fails once. After a failed start the next slot tries, since the
//!   fault may be the slot's, after a delay that doubles each time. When one is ready, all start. After [`MAX_FIRST_STARTS`] it gives up: Terminating, KILL after 1 s,
//!   [`Outcome::NeverReady`]. Once any worker has been ready it never gives up, and no start waits for another.
//! - **Stopping**, by `Stop`: listeners close, ready workers get `Drain`, draining ones lose their timeout,
//!   booting ones get TERM, pending starts are cancelled, a `Spawn` in the queue of actions is removed, nobody
//!   is replaced or watched any more. The deadline is the grace from now and never moves back. It waits
//!   until no connection is open, which it believes only of an `Open` after the `Stop`.
//! - **Terminating**: TERM to all that had none, when no connection is open or the last fifth of the grace
//!   (5 s at most) begins. Those that exit by themselves know when no connection is open; they get
//!   `RequestExit` in the last fifth, and TERM soon after. KILL at the deadline.
//! - **Killing**: KILL to all. If exits do not come within 2 s, it finishes without them.
//! - **Done**: `Finish` was the last action; every input is ignored.
//!
//! When no process is left outside Running, it is Done. The phase never goes back.
//!
//! # Who wins
//!
//! | while | `Stop` | `Restart` | `More`, `Fewer` | `Recycle` |
//! |---|---|---|---|---|
//! | starting | the stop: TERM to those that boot | booting ones are replaced in turn | a slot more or less | ignored: not ready |
//! | running | drain, TERM, KILL | the restart begins | a slot more or less | replaced in turn |
//! | restarting | the stop: the restart is dropped | the restart begins anew | the restart goes on without or beside it | replaced after the restart |
//! | no worker ready, crash loop | the stop | delayed slots start now, failures forgotten | a slot more or less | ignored: not ready |
//! | stopping | TERM now, KILL after 1 s; then KILL now | refused, with a line | refused, with a line | ignored |
//! | giving up | the first changes nothing, the next is KILL now | refused, with a line | refused, with a line | ignored |
//!
//! - Stop while starting: one that is Spawning gets TERM as soon as it is `Spawned` (KILL, if the phase is
//!   Killing by then).
//! - Exit while stopping: the worker is not replaced.
//! - A stop within half a second of another is the same one: a terminal or a wrapper has sent it twice.
//! - A second stop: TERM at once, KILL after 1 s, or at the deadline if that is earlier. A third: KILL now.
//! - Stop while giving up: KILL is 1 s away already. The outcome stays [`Outcome::NeverReady`].
//! - A failed start while stopping: the stop; nothing is given up any more.
//! - A KILL that is due for one worker and the deadline: the earlier one, and KILL is sent only once.

mod action;
mod backoff;
mod current;
mod event;
mod exit;
mod expiry;
mod facts;
mod failed;
mod heartbeat;
mod input;
mod phase;
mod process;
mod query;
mod replacing;
mod rolling;
mod scale;
mod slot;
mod stop;
#[cfg(test)]
mod tests;
mod transition;
#[cfg(test)]
mod walk;
mod watchdog;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Outcome};
pub use event::{Event, Refused};
use expiry::NextTimeout;
pub use facts::Facts;
pub use failed::FailedStart;
pub use input::{Exit, FleetConfig, Input, Limit};
use phase::Phase;
use process::Process;
pub use replacing::Replacing;
use scale::Rollback;
use slot::{Role, Slot};
use transition::{ProcessEvent, Transition};

use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

/// So many failed starts are allowed while no worker was ever ready.
pub const MAX_FIRST_STARTS: u32 = 5;
/// More copies than this on one machine are a mistake.
pub const MAX_WORKERS: u16 = 1024;
/// From the TERM of a worker that was not ready or gone in time to its KILL.
const TERM_TO_KILL: Duration = Duration::from_secs(5);

/// All workers, as plain data, which another supervisor can read and go on with once everything was
/// done that [`poll_action`](Self::poll_action) had.
///
/// Hand in all that was heard, call [`handle_timeout`](Self::handle_timeout) when it is due, ask
/// [`poll_action`](Self::poll_action) until it has no more, and
/// [`poll_timeout`](Self::poll_timeout) for when to come back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fleet {
    /// What was configured.
    config: FleetConfig,
    /// The jitter of restarts and lifetimes.
    rng: Rng,
    /// Every slot that there ever was; those from `size` on have retired workers at most.
    slots: Vec<Slot>,
    /// How many slots there are now.
    size: u16,
    /// How many are to stay when the rolling restart comes to its end, if that is fewer.
    #[serde(default)]
    target_size: Option<u16>,
    /// What a rolling restart goes back to if it fails, if it changes how many there are.
    #[serde(default)]
    rollback: Option<Rollback>,
    /// The state of the whole.
    phase: Phase,
    /// When a stop was last asked for.
    #[serde(default)]
    stop_requested: Option<Time>,
    /// Whether a rolling restart is in progress.
    #[serde(default)]
    is_rolling: bool,
    /// A rolling restart waits only for the exits of the workers that it has replaced: so many are new.
    #[serde(default)]
    finishing: Option<usize>,
    /// Whether it was reported that the restart is held up by workers that drain.
    #[serde(default)]
    wait_reported: bool,
    /// Whether any worker was ready since the start.
    ever_ready: bool,
    /// Whether it was reported that a limit of workers may be too low.
    #[serde(default)]
    warned_of_limit: bool,
    /// Actions that [`poll_action`](Self::poll_action) is still to return.
    #[serde(skip)]
    actions: VecDeque<Action>,
    /// What [`compute_timeout`](Self::compute_timeout) said: there can be a thousand slots, and the loop asks in each
    /// turn.
    #[serde(skip)]
    next_timeout: NextTimeout,
}

impl Fleet {
    /// A fleet that is to have a worker in every slot, and one of them first.
    pub fn new(now: Time, config: FleetConfig) -> Self {
        let mut fleet = Self {
            rng: Rng::new(config.seed),
            slots: (0..config.workers).map(Slot::new).collect(),
            size: config.workers,
            target_size: None,
            rollback: None,
            phase: Phase::Running,
            stop_requested: None,
            is_rolling: false,
            finishing: None,
            wait_reported: false,
            ever_ready: false,
            warned_of_limit: false,
            actions: VecDeque::new(),
            next_timeout: NextTimeout::default(),
            config,
        };
        fleet.start(now, 0);
        fleet
    }

    /// The next thing to do. Ask again until there is none, after every other call that may change
    /// something, [`new`](Self::new) among them.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing is heard before. `None`
    /// when time changes nothing: an idle fleet without a watchdog never wakes up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        *self.next_timeout.0.get_or_init(|| self.compute_timeout())
    }

    fn compute_timeout(&self) -> Option<Time> {
        self.slots.iter().filter_map(Slot::timeout).chain(self.phase.timeout()).min()
    }

    /// Handles an input. Timers do not run here: a supervisor that is late must not terminate
    /// workers whose `READY` is the next thing that it would have read.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.next_timeout.0.take();
        match input {
            Input::Spawned(worker) => self.on_process_event(now, worker, ProcessEvent::Spawned),
            Input::SpawnFailed(worker) => {
                self.on_process_event(now, worker, ProcessEvent::SpawnFailed)
            }
            Input::Ready(worker) => self.on_process_event(now, worker, ProcessEvent::Ready),
            Input::Leaving(worker) => self.on_process_event(now, worker, ProcessEvent::Leaving),
            Input::Exited(worker, exit) => {
                self.on_process_event(now, worker, ProcessEvent::Exited(exit))
            }
            Input::HandlesTerm(worker) => self.on_handles_term(worker),
            Input::Pong(worker) => self.on_pong(worker),
            Input::Drained(worker) => self.on_drained(now, worker),
            Input::Recycle(worker, limit) => self.recycle(now, worker, limit),
            Input::Restart => self.restart(now),
            Input::More => self.more(now),
            Input::Fewer => self.fewer(now),
            // They see it themselves.
            Input::Open(0) if self.config.exits_when_drained => {}
            Input::Open(count) => self.enter_phase(now, self.phase.open(count)),
            Input::Stop => self.stop(now),
        }
        self.advance(now);
        self.finish_if_empty(now);
    }

    /// Handles the timeouts that have expired. Calling it early, late or for nothing is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.next_timeout.0.take();
        self.extend_if_late(now);
        // Phases only move down, so this ends; a grace of zero goes through several at once.
        loop {
            let before = self.phase;
            self.enter_phase(now, before.tick(now));
            if self.phase == before {
                break;
            }
        }
        self.handle_expired(now);
        self.check_heartbeats(now);
        self.advance(now);
    }

    /// Applies an event of one worker, and what it means for the fleet.
    fn on_process_event(&mut self, now: Time, worker: Worker, event: ProcessEvent) {
        let (boot_timeout, leaving) = (self.config.boot_timeout, self.leave_timeout());
        let Some(role) = self.role(worker).filter(|_| self.phase != Phase::Done) else { return };
        let Some(process) = self.process_mut(worker) else { return };
        let stable = process.is_stable(now);
        let change = process.apply(now, event, boot_timeout, leaving);
        let slot = &mut self.slots[usize::from(worker.slot)];
        if slot.process(worker).is_some_and(Process::is_gone) {
            slot.forget(worker);
        }
        if stable && change != Transition::Ignored {
            slot.reset_backoffs();
        }
        match (self.phase, role) {
            (Phase::Running, Role::Current) => self.on_current(now, worker, change),
            (Phase::Running, Role::Successor) => self.on_successor(now, worker, change),
            (Phase::Running, Role::Retired) => self.on_retired(now, worker, change),
            (
                Phase::Stopping { .. }
                | Phase::Terminating { .. }
                | Phase::Killing { .. }
                | Phase::Done,
                Role::Current | Role::Successor | Role::Retired,
            ) => self.on_stopping(worker, change),
        }
    }

    /// TERM to this worker, if it had none, and KILL at the time given.
    fn terminate(&mut self, worker: Worker, kill_at: Option<Time>) {
        self.terminate_with(worker, kill_at, Action::Terminate(worker));
    }

    /// The same, with another signal.
    fn terminate_with(&mut self, worker: Worker, kill_at: Option<Time>, signal: Action) {
        if self.process_mut(worker).is_some_and(|process| process.terminate(kill_at)) {
            self.remove_backend(worker);
            self.actions.push_back(signal);
        }
    }

    /// KILL to this worker, if it had none.
    fn kill(&mut self, worker: Worker) {
        if self.process_mut(worker).is_some_and(Process::kill) {
            self.actions.push_back(Action::Kill(worker));
        }
    }

    /// This worker is no backend any more, if that was not said yet.
    fn remove_backend(&mut self, worker: Worker) {
        if self.process_mut(worker).is_some_and(Process::remove) {
            self.actions.push_back(Action::RemoveBackend(worker));
        }
    }

    fn report(&mut self, event: impl Into<Event>) {
        self.actions.push_back(Action::Report(event.into()));
    }

    /// All workers, the oldest slot first.
    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.slots.iter().flat_map(Slot::processes)
    }

    fn process(&self, worker: Worker) -> Option<&Process> {
        self.slots.get(usize::from(worker.slot))?.process(worker)
    }

    fn process_mut(&mut self, worker: Worker) -> Option<&mut Process> {
        let slot = self.slots.get_mut(usize::from(worker.slot))?;
        slot.processes_mut().find(|process| process.worker == worker)
    }
}
