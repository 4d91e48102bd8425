//! The rolling restart, and the queue of slots whose worker is to be replaced.

use std::time::Duration;

use super::failed::FailedStart;
use super::input::Limit;
use super::phase::Phase;
use super::process::Process;
use super::slot::{Role, Slot};
use super::transition::{Stage, Transition};
use super::{Action, Fleet, Refused, Replacing, TERM_TO_KILL};
use crate::logic::Worker;
use crate::logic::time::Time;

/// A worker that uses too much memory may use ever more, so it is delayed for no longer than this.
const MAX_MEMORY_DELAY: Duration = Duration::from_secs(1);

impl Fleet {
    /// All workers are to be replaced.
    pub(super) fn restart(&mut self, now: Time) {
        if self.refuses(Refused::Restart) {
            return;
        }
        let anew = std::mem::replace(&mut self.is_rolling, true);
        self.finishing = None;
        let staying = usize::from(self.target_size());
        self.report(Replacing::RestartBegan { workers: staying, anew });
        for index in 0..usize::from(self.size) {
            if self.is_spawn_queued(index) {
                self.slots[index].join_restart();
            } else {
                self.slots[index].make_stale();
            }
            self.abandon_successor(now, index);
        }
        if !self.ever_ready {
            // No slot waits for its turn any more.
            self.slots.iter_mut().for_each(|slot| slot.next_start = None);
        }
        for index in 0..staying {
            match self.slots[index].stage() {
                Some(Stage::Spawning | Stage::Booting | Stage::Ready) => {}
                Some(Stage::Draining | Stage::Exiting) | None => {
                    self.slots[index].retire_current();
                    self.slots[index].forget_failures();
                    if self.may_start(index) {
                        self.start_for_restart(now, index);
                    }
                }
            }
        }
    }

    /// Whether the `Spawn` of the current worker is still in the queue of actions: it will be as new as any.
    fn is_spawn_queued(&self, index: usize) -> bool {
        let current = self.slots[index].current.as_ref();
        current.is_some_and(|process| self.actions.contains(&Action::Spawn(process.worker)))
    }

    /// A worker has reached one of its limits.
    pub(super) fn recycle(&mut self, now: Time, worker: Worker, limit: Limit) {
        if self.phase != Phase::Running {
            return;
        }
        let Some(slot) = self.slots.get_mut(usize::from(worker.slot)) else { return };
        let ready = slot.current.as_mut().filter(|process| process.stage() == Stage::Ready);
        let Some(process) =
            ready.filter(|process| process.worker == worker && process.limit_reached.is_none())
        else {
            return;
        };
        let stable = process.is_stable(now);
        process.limit_reached = Some(limit);
        process.lifetime_ends = None;
        if stable {
            slot.reset_backoffs();
        }
        match limit {
            Limit::Connections | Limit::Memory if !stable => self.recycle_early(now, worker, limit),
            Limit::Connections | Limit::Memory | Limit::Lifetime => {
                self.report(Replacing::Recycling { worker, limit });
            }
        }
    }

    /// A worker has reached a limit so soon that its successors may all do so.
    fn recycle_early(&mut self, now: Time, worker: Worker, limit: Limit) {
        let slot = &mut self.slots[usize::from(worker.slot)];
        let mut delay = slot.recycle_backoff.next(&mut self.rng);
        if limit == Limit::Memory {
            delay = delay.min(MAX_MEMORY_DELAY);
        }
        slot.retry_at = Some(now + delay);
        let first = !std::mem::replace(&mut self.warned_of_limit, true);
        self.report(Replacing::RecyclingEarly { worker, limit, delay, first });
    }

    /// Goes on with the queue as far as possible, and ends the restart when it is empty.
    pub(super) fn advance(&mut self, now: Time) {
        if self.phase != Phase::Running {
            return;
        }
        while let Some(index) = self.next_in_queue() {
            self.wait_reported = false;
            if self.slots[index].stage() == Some(Stage::Booting) {
                self.abandon_current(now, index);
                self.start_for_restart(now, index);
            } else {
                self.start_successor(now, index);
            }
        }
        if self.is_rolling && !self.restart_slots().iter().any(Slot::is_restarting) {
            self.is_rolling = false;
            let workers = self.in_use().iter().filter(|slot| slot.is_renewed()).count();
            self.report(Replacing::Restarted { workers });
            self.finishing = Some(workers);
            self.rollback = None;
            self.remove_surplus_slots(now);
        }
        self.ensure_start(now);
        self.report_wait();
        if self.slots.iter().all(|slot| slot.retired.is_empty())
            && let Some(workers) = self.finishing.take()
        {
            self.report(Replacing::RestartOver { workers });
        }
    }

    /// Reports that the restart is held up until one of those that drain has exited.
    fn report_wait(&mut self) {
        let moves = || self.in_use().iter().any(Slot::is_being_replaced) || self.may_drain();
        if !self.is_rolling || moves() {
            self.wait_reported = false;
        } else if !std::mem::replace(&mut self.wait_reported, true) {
            let draining = self.draining();
            self.report(Replacing::Waits { draining, time: self.config.drain_timeout });
        }
    }

    /// The slot whose turn it is, if another one may be replaced.
    fn next_in_queue(&self) -> Option<usize> {
        let in_hand = self.in_use().iter().filter(|slot| slot.is_being_replaced()).count();
        if in_hand >= usize::from(self.config.restart_parallel.max(1)) {
            return None;
        }
        let turn = |slot: &Slot| {
            let limit_reached = !slot.is_stale();
            let process = slot.current.as_ref().filter(|_| slot.needs_replacement())?;
            Some((limit_reached, process.since, process.worker.slot))
        };
        let (_, _, number) = self.restart_slots().iter().filter_map(turn).min()?;
        let index = usize::from(number);
        let may_drain = self.slots[index].stage() == Some(Stage::Booting) || self.may_drain();
        may_drain.then_some(index)
    }

    /// The slots whose workers are replaced: all that stay. Until one has a new worker, those that go at
    /// the end may have to show whether new workers start.
    fn restart_slots(&self) -> &[Slot] {
        let staying = &self.slots[..usize::from(self.target_size())];
        let is_shown = self.in_use().iter().any(Slot::is_renewed);
        if is_shown || staying.iter().any(Slot::is_restarting) { staying } else { self.in_use() }
    }

    /// Whether one more worker may drain, soon.
    fn may_drain(&self) -> bool {
        let soon = self.slots.iter().filter(|slot| slot.successor.is_some()).count();
        self.draining() + soon < usize::from(self.config.max_draining.max(1))
    }

    /// How many workers drain, or have drained and not exited yet.
    fn draining(&self) -> usize {
        self.processes().filter(|process| process.is_draining()).count()
    }

    /// A transition of a successor.
    pub(super) fn on_successor(&mut self, now: Time, worker: Worker, change: Transition) {
        match change {
            Transition::Ignored | Transition::Started => {}
            Transition::BecameReady => {
                let index = usize::from(worker.slot);
                self.on_ready(now, worker);
                self.drain_current(now, index);
                self.slots[index].promote_successor();
            }
            Transition::SpawnFailed => {
                self.on_successor_failed(now, worker, FailedStart::NoProcess)
            }
            Transition::ExitedBooting(exit) => {
                self.actions.push_back(Action::RemoveBackend(worker));
                self.on_successor_failed(now, worker, FailedStart::Exited(exit));
            }
            // A successor that is ready or had TERM is none any more.
            Transition::Leaving
            | Transition::ExitedReady(_)
            | Transition::Left(_)
            | Transition::Terminated
            | Transition::Drained(_) => {}
        }
    }

    /// A transition of a retired worker.
    pub(super) fn on_retired(&mut self, now: Time, worker: Worker, change: Transition) {
        match change {
            Transition::Ignored | Transition::SpawnFailed | Transition::Terminated => {}
            Transition::Drained(exit) => self.report(Replacing::Drained { worker, exit }),
            // It was abandoned before it was spawned.
            Transition::Started | Transition::BecameReady => {
                self.terminate(worker, Some(now + TERM_TO_KILL))
            }
            Transition::Leaving => self.remove_backend(worker),
            Transition::ExitedBooting(_) => self.actions.push_back(Action::RemoveBackend(worker)),
            Transition::ExitedReady(exit) => {
                self.actions.push_back(Action::RemoveBackend(worker));
                self.report(Replacing::ExitedDraining { worker, exit });
            }
            Transition::Left(exit) => self.report(Replacing::ExitedDraining { worker, exit }),
        }
    }

    /// Nothing is left of a draining worker.
    pub(super) fn on_drained(&mut self, now: Time, worker: Worker) {
        let drains = self.process(worker).is_some_and(|process| process.stage() == Stage::Draining);
        if drains && self.phase == Phase::Running {
            self.request_exit(now, worker, false);
        }
    }

    /// A successor was not ready in time.
    pub(super) fn on_successor_timeout(&mut self, now: Time, worker: Worker) {
        self.abandon_successor(now, usize::from(worker.slot));
        self.on_successor_failed(now, worker, FailedStart::NotInTime);
    }

    /// The current worker stays, and so do all others if this was a restart.
    fn on_successor_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let index = usize::from(worker.slot);
        if self.slots[index].is_stale() {
            let left = self.in_use().iter().filter(|slot| slot.is_stale()).count();
            self.report(Replacing::RestartFailed { worker, why, left });
            self.abort_restart(now);
        } else {
            let delay = self.retry_later(now, index);
            self.report(Replacing::RecyclingFailed { worker, why, delay });
        }
    }

    /// Abandons the restart: old workers stay.
    fn abort_restart(&mut self, now: Time) {
        self.is_rolling = false;
        for index in 0..self.slots.len() {
            if self.slots[index].is_stale() {
                self.abandon_successor(now, index);
                if self.slots[index].has_reached_limit() {
                    self.retry_later(now, index);
                }
            }
            self.slots[index].clear_stale();
        }
        self.roll_back_size(now);
    }

    /// Delays the next successor of a worker that reached a limit.
    fn retry_later(&mut self, now: Time, index: usize) -> Duration {
        let slot = &mut self.slots[index];
        let delay = slot.backoff.next(&mut self.rng);
        slot.retry_at = Some(now + delay);
        delay
    }

    /// The current worker of this slot drains from now on.
    pub(super) fn drain_current(&mut self, now: Time, index: usize) {
        let time = self.config.drain_timeout;
        let slot = &mut self.slots[index];
        if slot.current.as_ref().is_some_and(|process| process.is_stable(now)) {
            slot.reset_backoffs();
        }
        let Some(process) = &mut slot.current else { return };
        let worker = process.worker;
        process.drain(time.map(|time| now + time));
        slot.retire_current();
        self.actions.push_back(Action::DrainBackend(worker));
        self.report(Replacing::Draining { worker, time });
    }

    /// Terminates the successor of a slot, if there is one.
    pub(super) fn abandon_successor(&mut self, now: Time, index: usize) {
        let successor = self.slots[index].successor.take();
        self.abandon(now, index, successor);
    }

    /// Terminates the current worker of a slot, which is not ready.
    pub(super) fn abandon_current(&mut self, now: Time, index: usize) {
        let current = self.slots[index].current.take();
        self.abandon(now, index, current);
    }

    /// Terminates a worker that starts, or removes its `Spawn` if it is still in the queue of actions.
    fn abandon(&mut self, now: Time, index: usize, process: Option<Process>) {
        let Some(process) = process else { return };
        let worker = process.worker;
        let spawn = Action::Spawn(worker);
        if self.actions.contains(&spawn) {
            self.actions.retain(|action| *action != spawn);
        } else {
            self.slots[index].retired.push(process);
            self.terminate(worker, Some(now + TERM_TO_KILL));
        }
    }

    /// Starts a worker in an empty slot, which the restart waits for.
    pub(super) fn start_for_restart(&mut self, now: Time, index: usize) {
        self.start(now, index);
        if let Some(process) = &mut self.slots[index].current {
            process.by_restart = true;
        }
    }

    /// Starts a worker beside the current one.
    fn start_successor(&mut self, now: Time, index: usize) {
        let slot = &mut self.slots[index];
        let rolled = slot.is_stale();
        let mut process = slot.new_process(now);
        process.by_restart = rolled;
        self.actions.push_back(Action::Spawn(process.worker));
        slot.successor = Some(process);
    }

    /// Reports and returns whether it is too late for what was asked for.
    pub(super) fn refuses(&mut self, what: Refused) -> bool {
        match self.phase {
            Phase::Running => false,
            Phase::Stopping { .. } | Phase::Terminating { .. } | Phase::Killing { .. } => {
                self.report(super::Event::TooLate(what));
                true
            }
            Phase::Done => true,
        }
    }

    /// The slots that there are now.
    fn in_use(&self) -> &[Slot] {
        &self.slots[..usize::from(self.size)]
    }

    /// The role of this worker in its slot, if it is there.
    pub(super) fn role(&self, worker: Worker) -> Option<Role> {
        self.slots.get(usize::from(worker.slot))?.role(worker)
    }
}
