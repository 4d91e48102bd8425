//! Stopping: what the phases ask for, and transitions of workers meanwhile.

use std::time::Duration;

use super::phase::{Effect, Phase};
use super::transition::{Stage, Transition};
use super::{Action, Event, Fleet, Outcome};
use crate::logic::Worker;
use crate::logic::time::Time;

/// Stops that come within this time are one: what was asked for once can arrive by several ways.
const SAME_STOP: Duration = Duration::from_millis(500);

impl Fleet {
    /// A stop is asked for.
    pub(super) fn stop(&mut self, now: Time) {
        if self.phase == Phase::Done {
            return;
        }
        if self.stop_requested.is_some_and(|at| now - at < SAME_STOP) {
            return self.report(Event::DuplicateStop);
        }
        self.stop_requested = Some(now);
        self.enter_phase(now, self.phase.stop(now, self.config.grace));
    }

    /// Enters a phase and does what that asks for at once.
    pub(super) fn enter_phase(&mut self, now: Time, (phase, step): (Phase, Effect)) {
        self.phase = phase;
        match step {
            Effect::None => {}
            Effect::Drain => {
                self.stop_starting();
                self.report(Event::Stopping { grace: self.config.grace });
                self.drain_all();
            }
            Effect::Wait(open) => self.report(Event::Waiting { open }),
            Effect::GiveUp => {
                self.stop_starting();
                self.terminate_all();
            }
            Effect::Terminate if self.config.exits_when_drained => self.request_all_exits(now),
            Effect::Terminate => self.terminate_all(),
            Effect::FastStop => {
                self.report(Event::FastStop);
                self.terminate_all();
            }
            Effect::Kill => self.kill_all(),
            Effect::Finish(outcome) => self.finish(outcome),
        }
    }

    /// A transition while every slot is to become empty.
    pub(super) fn on_stopping(&mut self, worker: Worker, change: Transition) {
        match change {
            Transition::Ignored
            | Transition::SpawnFailed
            | Transition::Terminated
            | Transition::Drained(_)
            | Transition::Left(_) => {}
            Transition::Started | Transition::BecameReady => match self.phase {
                Phase::Killing { .. } => {
                    self.remove_backend(worker);
                    self.kill(worker);
                }
                Phase::Running
                | Phase::Stopping { .. }
                | Phase::Terminating { .. }
                | Phase::Done => {
                    self.terminate(worker, None);
                }
            },
            Transition::Leaving => self.remove_backend(worker),
            Transition::ExitedBooting(_) | Transition::ExitedReady(_) => {
                self.actions.push_back(Action::RemoveBackend(worker));
            }
        }
    }

    /// Finishes when no worker is left.
    pub(super) fn finish_if_empty(&mut self, now: Time) {
        if self.workers().next().is_none() {
            self.enter_phase(now, self.phase.gone());
        }
    }

    /// No connection is accepted and no worker started any more.
    fn stop_starting(&mut self) {
        self.is_rolling = false;
        self.finishing = None;
        self.target_size = None;
        self.rollback = None;
        let slots = &mut self.slots;
        self.actions.retain(|action| {
            let Action::Spawn(worker) = action else { return true };
            slots[usize::from(worker.slot)].forget(*worker);
            false
        });
        for slot in slots {
            slot.cancel_starts();
            slot.processes_mut().for_each(|process| process.clear_timers());
        }
        self.actions.push_back(Action::CloseListeners);
    }

    /// Tells ready workers to drain, which draining ones do already, unless this is also to end them;
    /// those that never got a connection have nothing to drain.
    fn drain_all(&mut self) {
        for (worker, stage) in self.stages() {
            match stage {
                Stage::Ready => self.actions.push_back(Action::Drain(worker)),
                Stage::Draining if self.config.exits_when_drained => {
                    self.actions.push_back(Action::Drain(worker));
                }
                Stage::Draining => {}
                Stage::Spawning | Stage::Booting | Stage::Exiting => self.terminate(worker, None),
            }
        }
    }

    /// TERM to each process that had none.
    fn terminate_all(&mut self) {
        for (worker, _) in self.stages() {
            self.terminate(worker, None);
        }
    }

    /// KILL to each process that had none.
    fn kill_all(&mut self) {
        let stages = self.stages();
        if !stages.is_empty() {
            self.report(Event::Killing { workers: stages.len() });
        }
        for (worker, _) in stages {
            self.kill(worker);
        }
    }

    /// Where each worker stands.
    fn stages(&self) -> Vec<(Worker, Stage)> {
        self.processes().map(|process| (process.worker, process.stage())).collect()
    }

    /// Reports which processes are left behind, and finishes.
    fn finish(&mut self, outcome: Outcome) {
        for (worker, _) in self.stages() {
            self.report(Event::LeftBehind { worker });
        }
        self.actions.push_back(Action::Finish(outcome));
    }
}
