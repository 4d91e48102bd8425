//! Who lives and who dies: the state machine of all workers.
//!
//! # Slots
//!
//! A slot holds one worker after the other, never two at once. It is
//!
//! - **Empty**: no process and none to come. Passed through in an instant, except while stopping.
//! - **Resting**: no process; after the backoff it is **Spawning**, with a new generation.
//! - **Spawning**: `Spawn` was asked for. `Spawned` makes it Booting, `SpawnFailed` is a failed start.
//! - **Booting**: the process has the boot timeout to say `READY`. Then it is Ready and gets `Place`.
//!   If it exits before, or is late, that is a failed start; a late one is Ending, KILL follows 5 s
//!   after TERM.
//! - **Ready**: it gets connections. If it exits, with any code, the slot rests and starts again.
//!   A second `READY` changes nothing.
//! - **Leaving**: it was ready and said that it wants no more connections. It has 10 s to exit by itself;
//!   then it is Ending, KILL follows 5 s after TERM. Whichever way it exits, the slot rests and starts
//!   again. One that leaves before it was ready is Booting still.
//! - **Ending**: TERM was sent. `READY` comes too late now. Only its exit empties the slot.
//! - **Killed**: KILL was sent, likewise.
//!
//! Every rest is twice as long as the one before, from 100 ms to 30 s, jittered by a fifth. A worker
//! that was ready for a minute resets this; the minute is looked at when it exits, so a fleet in
//! which all are ready has no timer at all.
//!
//! Whatever is said of a generation that is not the slot's present one is ignored. What was heard
//! goes before what is due: inputs never run timers, so when the supervisor itself was late, a
//! `READY` that came meanwhile is in time if it is handed in before the timeout.
//!
//! # The fleet
//!
//! - **Running**: every slot is to have a ready worker. If no worker of any slot has ever been ready
//!   and one slot has had [`MAX_FIRST_TRIES`] failed starts, it gives up: Ending, KILL after 1 s, and
//!   the outcome is [`Outcome::NeverReady`]. Once any worker has been ready it never gives up.
//! - **Stopping**, by `Stop`: the listeners close, ready workers drain, booting ones get TERM, resting
//!   slots stay empty, a `Spawn` that nobody has fetched yet is taken back. The deadline is the grace
//!   from now and never moves back. It waits until no connection is open, which is unknown, and
//!   so not believed, until the first `Open` after the `Stop`.
//! - **Ending**: TERM to all that had none, when no connection is open or the last fifth of the grace
//!   (5 s at most) begins. KILL at the deadline.
//! - **Killing**: KILL to all. If exits do not come within 2 s, it leaves without them.
//! - **Done**: `Finish` was the last action; every input is ignored.
//!
//! As soon as no process is left outside Running, it is Done. The phase never goes back. Who wins:
//!
//! - Stop while starting: the stop. A booting worker gets TERM; one that is Spawning gets it as soon as
//!   it is `Spawned` (KILL, if it is Killing by then).
//! - Exit while stopping: it is retired and not replaced.
//! - A second stop: TERM at once, KILL after 1 s, or at the deadline if that is earlier. A third: KILL now.
//! - Stop while giving up: the first one changes nothing (KILL is 1 s away already), the next one
//!   is KILL now. The outcome stays [`Outcome::NeverReady`].
//! - A failed start while stopping: the stop; nothing is given up any more.
//! - A boot timeout's own KILL and the deadline: the earlier one, and KILL is sent only once.

mod action;
mod backoff;
mod event;
mod input;
mod phase;
mod replacing;
mod slot;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Outcome};
pub use event::{Event, FailedStart, Refused};
pub use input::{Exit, FleetConfig, Input, Wear};
use phase::{Phase, Step};
pub use replacing::Replacing;
use slot::{Change, Due, News, Slot};

use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

/// So many failed starts of one slot are allowed while no worker of any slot was ever ready.
pub const MAX_FIRST_TRIES: u32 = 5;
/// More copies than this on one machine are a mistake.
pub const MOST_WORKERS: u16 = 1024;
/// From the TERM of a worker that was not ready or gone in time to its KILL.
const TERM_TO_KILL: Duration = Duration::from_secs(5);

/// All workers, as plain data.
///
/// Hand in all that was heard, call [`handle_timeout`](Self::handle_timeout) when it is due, ask
/// [`poll_action`](Self::poll_action) until it has no more, and
/// [`poll_timeout`](Self::poll_timeout) for when to come back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fleet {
    /// What it was made from.
    config: FleetConfig,
    /// The jitter of restarts.
    rng: Rng,
    /// One for each number below `config.workers`.
    slots: Vec<Slot>,
    /// The state of the whole.
    phase: Phase,
    /// Whether any worker was ready since the start.
    ever_ready: bool,
    /// What is still to be fetched by `poll_action`.
    actions: VecDeque<Action>,
}

impl Fleet {
    /// A fleet that wants a worker in every slot.
    pub fn new(now: Time, config: FleetConfig) -> Self {
        let mut fleet = Self {
            rng: Rng::new(config.seed),
            slots: (0..config.workers).map(|number| Slot::new(number, now)).collect(),
            phase: Phase::Running,
            ever_ready: false,
            actions: VecDeque::new(),
            config,
        };
        fleet.handle_timeout(now);
        fleet
    }

    /// The next thing to do. Ask again until there is none, after every other call that may change
    /// something, [`new`](Self::new) among them.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing is heard before. `None`
    /// when time changes nothing: an idle fleet never wakes up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.slots.iter().filter_map(Slot::timeout).chain(self.phase.timeout()).min()
    }

    /// Takes in what was heard. Time does nothing here: a supervisor that comes late must not end
    /// workers whose `READY` is the next thing it would have read.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Spawned(worker) => self.hear(now, worker, News::Spawned),
            Input::SpawnFailed(worker) => self.hear(now, worker, News::SpawnFailed),
            Input::Ready(worker) => self.hear(now, worker, News::Ready),
            Input::Leaving(worker) => self.hear(now, worker, News::Leaving),
            Input::Exited(worker, exit) => self.hear(now, worker, News::Exited(exit)),
            Input::Pong(_) | Input::Drained(_) | Input::Recycle(..) => {}
            Input::Restart | Input::More | Input::Fewer => {}
            Input::Open(count) => self.enter(self.phase.open(count)),
            Input::Stop => self.enter(self.phase.stop(now, self.config.grace)),
        }
        self.leave_if_gone();
    }

    /// Does what is due by now. Calling it early, late or for nothing is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        // Phases only move down, so this ends; a grace of zero goes through several at once.
        loop {
            let before = self.phase;
            self.enter(before.tick(now));
            if self.phase == before {
                break;
            }
        }
        self.do_what_is_due(now);
    }

    /// Whether this worker may be given connections.
    pub fn is_ready(&self, worker: Worker) -> bool {
        self.slot(worker).is_some_and(Slot::is_ready)
    }

    /// Whether it is on the way to its end, by a stop or because it gave up.
    pub fn is_stopping(&self) -> bool {
        self.phase != Phase::Running
    }

    /// The workers whose process exists or has been asked for.
    pub fn workers(&self) -> impl Iterator<Item = Worker> {
        self.slots.iter().filter(|slot| slot.is_taken()).map(Slot::worker)
    }

    /// Handles what was said of one worker, and what it means for the fleet.
    fn hear(&mut self, now: Time, worker: Worker, news: News) {
        if self.slot(worker).is_none() || self.phase == Phase::Done {
            return;
        }
        let boot_timeout = self.config.boot_timeout;
        let change = self.slots[usize::from(worker.slot)].hear(now, news, boot_timeout);
        match self.phase {
            Phase::Running => self.hear_running(now, worker, change),
            Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Killing { .. } => {
                self.hear_stopping(worker, change);
            }
            Phase::Done => {}
        }
    }

    /// What a change means while every slot is to have a ready worker.
    fn hear_running(&mut self, now: Time, worker: Worker, change: Change) {
        match change {
            Change::Nothing | Change::Born => {}
            Change::BecameReady => {
                self.ever_ready = true;
                self.actions.push_back(Action::Place(worker));
            }
            Change::NotBorn => self.start_failed(now, worker, FailedStart::NoProcess),
            Change::DiedBooting(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.start_failed(now, worker, FailedStart::Exited(exit));
            }
            Change::Leaves => self.actions.push_back(Action::Retire(worker)),
            Change::DiedReady(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.report(Event::Ended { worker, exit });
                self.rest(now, worker);
            }
            Change::Left(exit) => {
                self.report(Event::Ended { worker, exit });
                self.rest(now, worker);
            }
            // While running, nothing but a boot timeout ends a worker that does not leave.
            Change::Ended => self.start_failed(now, worker, FailedStart::NotInTime),
        }
    }

    /// What a change means while every slot is to become empty.
    fn hear_stopping(&mut self, worker: Worker, change: Change) {
        match change {
            Change::Nothing | Change::NotBorn | Change::Ended | Change::Left(_) => {}
            Change::Born | Change::BecameReady => match self.phase {
                Phase::Killing { .. } => {
                    self.actions.push_back(Action::Retire(worker));
                    self.kill(usize::from(worker.slot));
                }
                Phase::Running | Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Done => {
                    self.end(usize::from(worker.slot), None);
                }
            },
            Change::Leaves | Change::DiedBooting(_) | Change::DiedReady(_) => {
                self.actions.push_back(Action::Retire(worker));
            }
        }
    }

    /// Counts a failed start: the slot rests, or the fleet gives up.
    fn start_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let failed = self.slots[usize::from(worker.slot)].failed_start();
        let allowed = (!self.ever_ready).then_some(MAX_FIRST_TRIES);
        self.report(Event::FailedStart { worker, why, failed, allowed });
        if allowed.is_some_and(|allowed| failed >= allowed) {
            self.report(Event::GaveUp { worker, failed });
            self.enter(self.phase.give_up(now));
        } else {
            self.rest(now, worker);
        }
    }

    /// Lets an empty slot rest until its next start.
    fn rest(&mut self, now: Time, worker: Worker) {
        let rest = self.slots[usize::from(worker.slot)].rest(now, &mut self.rng);
        self.report(Event::Restarting { worker, rest });
    }

    /// Takes over a new phase and does what it asks for at once.
    fn enter(&mut self, (phase, step): (Phase, Step)) {
        self.phase = phase;
        match step {
            Step::Nothing => {}
            Step::Drain => {
                self.start_no_more();
                self.report(Event::Stopping { grace: self.config.grace });
                self.drain_all();
            }
            Step::Wait(open) => self.report(Event::Waiting { open }),
            Step::GiveUp => {
                self.start_no_more();
                self.end_all();
            }
            Step::End => self.end_all(),
            Step::Hurry => {
                self.report(Event::Hurrying);
                self.end_all();
            }
            Step::Kill => self.kill_all(),
            Step::Finish(outcome) => self.finish(outcome),
        }
    }

    /// Closes both ways in: for connections and for workers.
    fn start_no_more(&mut self) {
        let slots = &mut self.slots;
        self.actions.retain(|action| {
            let Action::Spawn(worker) = action else { return true };
            slots[usize::from(worker.slot)].take_back();
            false
        });
        self.slots.iter_mut().for_each(Slot::stay_empty);
        self.actions.push_back(Action::CloseListeners);
    }

    /// Tells ready workers to drain; those that never got a connection have nothing to drain.
    fn drain_all(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].is_ready() {
                self.actions.push_back(Action::Drain(self.slots[index].worker()));
            } else {
                self.end(index, None);
            }
        }
    }

    /// TERM to each process that had none.
    fn end_all(&mut self) {
        for index in 0..self.slots.len() {
            self.end(index, None);
        }
    }

    /// KILL to each process that had none.
    fn kill_all(&mut self) {
        let workers = self.workers().count();
        if workers > 0 {
            self.report(Event::Killing { workers });
        }
        for index in 0..self.slots.len() {
            self.kill(index);
        }
    }

    /// TERM to the process of this slot, if it had none, and KILL at the time given.
    fn end(&mut self, index: usize, kill_at: Option<Time>) {
        let slot = &mut self.slots[index];
        if slot.end(kill_at) {
            if !slot.leaves() {
                self.actions.push_back(Action::Retire(slot.worker()));
            }
            self.actions.push_back(Action::Terminate(slot.worker()));
        }
    }

    /// KILL to the process of this slot, if it had none.
    fn kill(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.kill() {
            self.actions.push_back(Action::Kill(slot.worker()));
        }
    }

    /// Does what is due in each slot.
    fn do_what_is_due(&mut self, now: Time) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            match slot.due(now) {
                Due::Nothing => {}
                Due::Start => self.actions.push_back(Action::Spawn(slot.start())),
                Due::BootTimeout => {
                    let (worker, had) = (slot.worker(), self.config.boot_timeout);
                    self.report(Event::BootTimeout { worker, had });
                    self.end(index, Some(now + TERM_TO_KILL));
                }
                Due::LeaveTimeout => {
                    let worker = slot.worker();
                    self.report(Event::LeaveTimeout { worker });
                    self.end(index, Some(now + TERM_TO_KILL));
                }
                Due::Kill => self.kill(index),
            }
        }
    }

    /// Moves on when there is nobody left to wait for.
    fn leave_if_gone(&mut self) {
        if self.workers().next().is_none() {
            self.enter(self.phase.gone());
        }
    }

    /// Says which processes are left behind, and that this is the end.
    fn finish(&mut self, outcome: Outcome) {
        let left: Vec<_> = self.workers().collect();
        for worker in left {
            self.report(Event::LeftBehind { worker });
        }
        self.actions.push_back(Action::Finish(outcome));
    }

    fn report(&mut self, event: Event) {
        self.actions.push_back(Action::Report(event));
    }

    /// The slot of this worker, if it is the present one there.
    fn slot(&self, worker: Worker) -> Option<&Slot> {
        self.slots.get(usize::from(worker.slot)).filter(|slot| slot.worker() == worker)
    }
}
