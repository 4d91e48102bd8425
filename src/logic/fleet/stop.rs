//! How it all ends: what the phases ask for, and what is heard while workers go.

use std::time::Duration;

use super::news::{Change, Stage};
use super::phase::{Phase, Step};
use super::{Action, Event, Fleet, Outcome};
use crate::logic::Worker;
use crate::logic::time::Time;

/// Stops that come within this time are one: what was asked for once can arrive by several ways.
const ONE_STOP: Duration = Duration::from_millis(500);

impl Fleet {
    /// A stop is asked for.
    pub(super) fn stop(&mut self, now: Time) {
        if self.phase == Phase::Done {
            return;
        }
        if self.stop_asked.is_some_and(|at| now - at < ONE_STOP) {
            return self.report(Event::SameStop);
        }
        self.stop_asked = Some(now);
        self.enter(now, self.phase.stop(now, self.config.grace));
    }

    /// Takes over a new phase and does what it asks for at once.
    pub(super) fn enter(&mut self, now: Time, (phase, step): (Phase, Step)) {
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
            Step::End if self.config.ends_itself => self.close_all(now),
            Step::End => self.end_all(),
            Step::Hurry => {
                self.report(Event::Hurrying);
                self.end_all();
            }
            Step::Kill => self.kill_all(),
            Step::Finish(outcome) => self.finish(outcome),
        }
    }

    /// What a change means while every slot is to become empty.
    pub(super) fn hear_stopping(&mut self, worker: Worker, change: Change) {
        match change {
            Change::Nothing
            | Change::NotBorn
            | Change::Ended
            | Change::Drained(_)
            | Change::Left(_) => {}
            Change::Born | Change::BecameReady => match self.phase {
                Phase::Killing { .. } => {
                    self.retire(worker);
                    self.kill(worker);
                }
                Phase::Running | Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Done => {
                    self.end(worker, None);
                }
            },
            Change::Leaves => self.retire(worker),
            Change::DiedBooting(_) | Change::DiedReady(_) => {
                self.actions.push_back(Action::Retire(worker));
            }
        }
    }

    /// Moves on when there is nobody left to wait for.
    pub(super) fn leave_if_gone(&mut self, now: Time) {
        if self.workers().next().is_none() {
            self.enter(now, self.phase.gone());
        }
    }

    /// Closes both ways in: for connections and for workers.
    fn start_no_more(&mut self) {
        self.is_rolling = false;
        self.winding_up = None;
        self.staying = None;
        self.before = None;
        let slots = &mut self.slots;
        self.actions.retain(|action| {
            let Action::Spawn(worker) = action else { return true };
            slots[usize::from(worker.slot)].forget(*worker);
            false
        });
        for slot in slots {
            slot.stay_as_it_is();
            slot.lives_mut().for_each(|life| life.settle());
        }
        self.actions.push_back(Action::CloseListeners);
    }

    /// Tells ready workers to drain, which draining ones do already, unless this is also to end them;
    /// those that never got a connection have nothing to drain.
    fn drain_all(&mut self) {
        for (worker, stage) in self.stages() {
            match stage {
                Stage::Ready => self.actions.push_back(Action::Drain(worker)),
                Stage::Draining if self.config.ends_itself => {
                    self.actions.push_back(Action::Drain(worker));
                }
                Stage::Draining => {}
                Stage::Spawning | Stage::Booting | Stage::Outgoing => self.end(worker, None),
            }
        }
    }

    /// TERM to each process that had none.
    fn end_all(&mut self) {
        for (worker, _) in self.stages() {
            self.end(worker, None);
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
        self.lives().map(|life| (life.worker, life.stage())).collect()
    }

    /// Says which processes are left behind, and that this is the end.
    fn finish(&mut self, outcome: Outcome) {
        for (worker, _) in self.stages() {
            self.report(Event::LeftBehind { worker });
        }
        self.actions.push_back(Action::Finish(outcome));
    }
}
