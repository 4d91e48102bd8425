//! The worker that has a slot: its start, its failures and its end.

use std::time::Duration;

use super::backoff::Backoff;
use super::news::Change;
use super::slot::Slot;
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
        let is_first = !std::mem::replace(&mut self.ever_ready, true);
        self.slots[usize::from(worker.slot)].failed = 0;
        let lifetime = self.config.lifetime.map(|lifetime| jittered(lifetime, &mut self.rng));
        if let Some(life) = self.life_mut(worker) {
            life.old_at = lifetime.map(|lifetime| now + lifetime);
        }
        self.actions.push_back(Action::Place(worker));
        self.watch(now, worker);
        if is_first {
            self.start_those_that_waited(now);
        }
    }

    /// Starts a worker in each slot that has none and rests for none: a worker has been ready for the
    /// first time.
    fn start_those_that_waited(&mut self, now: Time) {
        for index in 0..usize::from(self.size) {
            let slot = &self.slots[index];
            if slot.tries() {
                continue;
            }
            if self.is_rolling {
                self.start_rolled(now, index);
            } else {
                self.start(now, index);
            }
        }
    }

    /// Whether this slot may have a worker: until one has been ready, only if no other slot tries.
    pub(super) fn may_start(&self, index: usize) -> bool {
        let tries = |(other, slot): (usize, &Slot)| other != index && slot.tries();
        self.ever_ready || !self.slots.iter().enumerate().any(tries)
    }

    /// Sees that some slot tries, if the one that did was taken away.
    pub(super) fn keep_trying(&mut self, now: Time) {
        if !self.ever_ready && !self.slots.iter().any(Slot::tries) {
            self.start(now, 0);
        }
    }

    /// Counts a failed start: the slot rests. Before any was ready the next one tries, or the fleet gives up.
    pub(super) fn start_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let failed = self.slots[usize::from(worker.slot)].failed_start();
        if self.ever_ready {
            self.report(Event::FailedStart { worker, why, failed, allowed: None });
            return self.rest(now, worker);
        }
        let failed = self.slots.iter().map(|slot| slot.failed).sum();
        let allowed = Some(MAX_FIRST_TRIES);
        self.report(Event::FailedStart { worker, why, failed, allowed });
        if failed >= MAX_FIRST_TRIES {
            self.report(Event::GaveUp { why, failed });
            self.enter(now, self.phase.give_up(now));
        } else if self.may_start(usize::from(worker.slot)) {
            let next = (worker.slot + 1) % self.size_to_be();
            let rest = Backoff::rest(failed - 1, &mut self.rng);
            self.slots[usize::from(next)].next_start = Some(now + rest);
            self.report(Event::Trying { slot: next, rest });
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
