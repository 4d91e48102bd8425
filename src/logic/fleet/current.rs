//! The current worker of a slot: its start, its failures and its exit.

use std::time::Duration;

use super::backoff::Backoff;
use super::slot::Slot;
use super::transition::Transition;
use super::{Action, Event, FailedStart, Fleet, MAX_FIRST_STARTS};
use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

impl Fleet {
    /// A transition of a current worker, while every slot should have a ready one.
    pub(super) fn on_current(&mut self, now: Time, worker: Worker, change: Transition) {
        let index = usize::from(worker.slot);
        match change {
            Transition::Ignored | Transition::Started => {}
            Transition::BecameReady => self.on_ready(now, worker),
            Transition::SpawnFailed => self.on_start_failed(now, worker, FailedStart::NoProcess),
            Transition::ExitedBooting(exit) => {
                self.actions.push_back(Action::RemoveBackend(worker));
                self.on_start_failed(now, worker, FailedStart::Exited(exit));
            }
            Transition::Leaving => {
                self.remove_backend(worker);
                if self.slots[index].successor.is_some() {
                    self.slots[index].retire_current();
                    self.slots[index].promote_successor();
                }
            }
            Transition::ExitedReady(exit) => {
                self.actions.push_back(Action::RemoveBackend(worker));
                self.report(Event::Exited { worker, exit });
                if !self.slots[index].promote_successor() {
                    self.schedule_restart(now, worker);
                }
            }
            Transition::Left(exit) => {
                self.report(Event::Exited { worker, exit });
                self.schedule_restart(now, worker);
            }
            // While running, only a boot timeout terminates a current one that does not leave.
            Transition::Terminated | Transition::Drained(_) => {
                self.on_start_failed(now, worker, FailedStart::NotInTime);
            }
        }
    }

    /// A worker became ready.
    pub(super) fn on_ready(&mut self, now: Time, worker: Worker) {
        let is_first = !std::mem::replace(&mut self.ever_ready, true);
        self.slots[usize::from(worker.slot)].failed_starts = 0;
        let lifetime = self.config.lifetime.map(|lifetime| jittered(lifetime, &mut self.rng));
        if let Some(process) = self.process_mut(worker) {
            process.lifetime_ends = lifetime.map(|lifetime| now + lifetime);
        }
        self.actions.push_back(Action::AddBackend(worker));
        self.watch(now, worker);
        if is_first {
            self.start_deferred(now);
        }
    }

    /// Starts a worker in each slot that has none and none scheduled: a worker has been ready for the
    /// first time.
    fn start_deferred(&mut self, now: Time) {
        for index in 0..usize::from(self.size) {
            let slot = &self.slots[index];
            if slot.has_or_starts_one() {
                continue;
            }
            if self.is_rolling {
                self.start_for_restart(now, index);
            } else {
                self.start(now, index);
            }
        }
    }

    /// Whether this slot may have a worker: until one has been ready, only if no other slot tries.
    pub(super) fn may_start(&self, index: usize) -> bool {
        let tries = |(other, slot): (usize, &Slot)| other != index && slot.has_or_starts_one();
        self.ever_ready || !self.slots.iter().enumerate().any(tries)
    }

    /// Has some slot try, if the one that did was removed.
    pub(super) fn ensure_start(&mut self, now: Time) {
        if !self.ever_ready && !self.slots.iter().any(Slot::has_or_starts_one) {
            self.start(now, 0);
        }
    }

    /// Counts a failed start and schedules the next. Until any was ready the next slot tries, or the fleet gives up.
    pub(super) fn on_start_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let failed = self.slots[usize::from(worker.slot)].failed_start();
        if self.ever_ready {
            self.report(Event::FailedStart { worker, why, failed, allowed: None });
            return self.schedule_restart(now, worker);
        }
        let failed = self.slots.iter().map(|slot| slot.failed_starts).sum();
        let allowed = Some(MAX_FIRST_STARTS);
        self.report(Event::FailedStart { worker, why, failed, allowed });
        if failed >= MAX_FIRST_STARTS {
            self.report(Event::GaveUp { why, failed });
            self.enter_phase(now, self.phase.give_up(now));
        } else if self.may_start(usize::from(worker.slot)) {
            let next = (worker.slot + 1) % self.target_size();
            let delay = Backoff::delay(failed - 1, &mut self.rng);
            self.slots[usize::from(next)].next_start = Some(now + delay);
            self.report(Event::Trying { slot: next, delay });
        }
    }

    /// Schedules the next start of an empty slot.
    pub(super) fn schedule_restart(&mut self, now: Time, worker: Worker) {
        let slot = &mut self.slots[usize::from(worker.slot)];
        let delay = slot.backoff.next(&mut self.rng);
        slot.next_start = Some(now + delay);
        self.report(Event::Restarting { worker, delay });
    }

    /// Starts a worker in an empty slot.
    pub(super) fn start(&mut self, now: Time, index: usize) {
        let slot = &mut self.slots[index];
        let process = slot.new_process(now);
        slot.cancel_starts();
        self.actions.push_back(Action::Spawn(process.worker));
        slot.current = Some(process);
    }
}

/// This time, varied by a tenth.
fn jittered(time: Duration, rng: &mut Rng) -> Duration {
    time.saturating_sub(time / 10).saturating_add(time / 5_000 * rng.below(1_001))
}
