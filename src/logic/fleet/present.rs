//! The worker that has a slot: its start, its failures and its end.

use std::time::Duration;

use super::news::Change;
use super::{Action, Event, FailedStart, Fleet, MAX_FIRST_TRIES};
use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

impl Fleet {
    /// What a change of a present worker means while every slot is to have a ready worker.
    pub(super) fn hear_present(&mut self, now: Time, worker: Worker, change: Change) {
        let index = usize::from(worker.slot);
        match change {
            Change::Nothing | Change::Born => {}
            Change::BecameReady => self.place(now, worker),
            Change::NotBorn => self.start_failed(now, worker, FailedStart::NoProcess),
            Change::DiedBooting(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.start_failed(now, worker, FailedStart::Exited(exit));
            }
            Change::Leaves => {
                self.retire(worker);
                if self.slots[index].successor.is_some() {
                    self.slots[index].step_down();
                    self.slots[index].promote();
                }
            }
            Change::DiedReady(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.report(Event::Ended { worker, exit });
                if !self.slots[index].promote() {
                    self.rest(now, worker);
                }
            }
            Change::Left(exit) => {
                self.report(Event::Ended { worker, exit });
                self.rest(now, worker);
            }
            // While running, nothing but a boot timeout ends a present one that does not leave.
            Change::Ended | Change::Drained(_) => {
                self.start_failed(now, worker, FailedStart::NotInTime);
            }
        }
    }

    /// Gives connections to a worker that became ready.
    pub(super) fn place(&mut self, now: Time, worker: Worker) {
        self.ever_ready = true;
        self.slots[usize::from(worker.slot)].failed = 0;
        let lifetime = self.config.lifetime.map(|lifetime| jittered(lifetime, &mut self.rng));
        if let Some(life) = self.life_mut(worker) {
            life.old_at = lifetime.map(|lifetime| now + lifetime);
        }
        self.actions.push_back(Action::Place(worker));
        self.watch(now, worker);
    }

    /// Counts a failed start: the slot rests, or the fleet gives up.
    pub(super) fn start_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let failed = self.slots[usize::from(worker.slot)].failed_start();
        let allowed = (!self.ever_ready).then_some(MAX_FIRST_TRIES);
        self.report(Event::FailedStart { worker, why, failed, allowed });
        if allowed.is_some_and(|allowed| failed >= allowed) {
            self.report(Event::GaveUp { worker, failed });
            self.enter(now, self.phase.give_up(now));
        } else {
            self.rest(now, worker);
        }
    }

    /// Lets an empty slot rest until its next start.
    pub(super) fn rest(&mut self, now: Time, worker: Worker) {
        let slot = &mut self.slots[usize::from(worker.slot)];
        let rest = slot.backoff.next(&mut self.rng);
        slot.next_start = Some(now + rest);
        self.report(Event::Restarting { worker, rest });
    }

    /// Starts a worker in an empty slot.
    pub(super) fn start(&mut self, now: Time, index: usize) {
        let slot = &mut self.slots[index];
        let life = slot.next_life(now);
        slot.stay_as_it_is();
        self.actions.push_back(Action::Spawn(life.worker));
        slot.present = Some(life);
    }
}

/// This time, give or take a tenth.
fn jittered(time: Duration, rng: &mut Rng) -> Duration {
    time.saturating_sub(time / 10).saturating_add(time / 5_000 * rng.below(1_001))
}
