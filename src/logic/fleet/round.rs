//! The queue of slots whose worker is to be replaced, and the rolling restart.

use std::time::Duration;

use super::failed::FailedStart;
use super::input::Wear;
use super::life::Life;
use super::news::{Change, Stage};
use super::phase::Phase;
use super::slot::{Role, Slot};
use super::{Action, Fleet, Refused, Replacing, TERM_TO_KILL};
use crate::logic::Worker;
use crate::logic::time::Time;

/// A worker that holds too much memory may hold ever more, so it goes on for no longer than this.
const MOST_WITH_MEMORY: Duration = Duration::from_secs(1);

impl Fleet {
    /// All workers are to be replaced.
    pub(super) fn restart(&mut self, now: Time) {
        if self.refuses(Refused::Restart) {
            return;
        }
        let anew = std::mem::replace(&mut self.is_rolling, true);
        self.winding_up = None;
        let staying = usize::from(self.size_to_be());
        self.report(Replacing::RestartBegan { workers: staying, anew });
        for index in 0..usize::from(self.size) {
            if self.is_new_already(index) {
                self.slots[index].join_restart();
            } else {
                self.slots[index].make_stale();
            }
            self.abandon_successor(now, index);
        }
        if !self.ever_ready {
            // Nobody waits for a turn any more.
            self.slots.iter_mut().for_each(|slot| slot.next_start = None);
        }
        for index in 0..staying {
            match self.slots[index].stage() {
                Some(Stage::Spawning | Stage::Booting | Stage::Ready) => {}
                Some(Stage::Draining | Stage::Outgoing) | None => {
                    self.slots[index].step_down();
                    self.slots[index].forget_failures();
                    if self.may_start(index) {
                        self.start_rolled(now, index);
                    }
                }
            }
        }
    }

    /// Whether nobody has fetched the `Spawn` of the present worker yet: it will be as new as any.
    fn is_new_already(&self, index: usize) -> bool {
        let present = self.slots[index].present.as_ref();
        present.is_some_and(|life| self.actions.contains(&Action::Spawn(life.worker)))
    }

    /// A worker has reached one of its limits.
    pub(super) fn recycle(&mut self, now: Time, worker: Worker, wear: Wear) {
        if self.phase != Phase::Running {
            return;
        }
        let Some(slot) = self.slots.get_mut(usize::from(worker.slot)) else { return };
        let ready = slot.present.as_mut().filter(|life| life.stage() == Stage::Ready);
        let Some(life) = ready.filter(|life| life.worker == worker && life.worn.is_none()) else {
            return;
        };
        let proved = life.has_proved_itself(now);
        life.worn = Some(wear);
        life.old_at = None;
        if proved {
            slot.prove();
        }
        match wear {
            Wear::Connections | Wear::Memory if !proved => self.worn_early(now, worker, wear),
            Wear::Connections | Wear::Memory | Wear::Lifetime => {
                self.report(Replacing::Worn { worker, wear });
            }
        }
    }

    /// A worker has reached a limit so soon that its successors may all do so.
    fn worn_early(&mut self, now: Time, worker: Worker, wear: Wear) {
        let slot = &mut self.slots[usize::from(worker.slot)];
        let mut rest = slot.respite.next(&mut self.rng);
        if wear == Wear::Memory {
            rest = rest.min(MOST_WITH_MEMORY);
        }
        slot.retry_at = Some(now + rest);
        let first = !std::mem::replace(&mut self.warned_of_limit, true);
        self.report(Replacing::WornEarly { worker, wear, rest, first });
    }

    /// Goes on with the queue as far as it may, and ends the restart when it is through.
    pub(super) fn advance(&mut self, now: Time) {
        if self.phase != Phase::Running {
            return;
        }
        while let Some(index) = self.next_in_queue() {
            self.waits = false;
            if self.slots[index].stage() == Some(Stage::Booting) {
                self.abandon_present(now, index);
                self.start_rolled(now, index);
            } else {
                self.start_successor(now, index);
            }
        }
        if self.is_rolling && !self.having_turns().iter().any(Slot::is_busy) {
            self.is_rolling = false;
            let workers = self.in_use().iter().filter(|slot| slot.is_renewed()).count();
            self.report(Replacing::Restarted { workers });
            self.winding_up = Some(workers);
            self.before = None;
            self.remove_those_that_go(now);
        }
        self.keep_trying(now);
        self.say_if_it_waits();
        if self.slots.iter().all(|slot| slot.former.is_empty())
            && let Some(workers) = self.winding_up.take()
        {
            self.report(Replacing::RestartOver { workers });
        }
    }

    /// Says that the restart stands still until one of those that drain has ended.
    fn say_if_it_waits(&mut self) {
        let moves = || self.in_use().iter().any(Slot::is_in_hand) || self.may_drain();
        if !self.is_rolling || moves() {
            self.waits = false;
        } else if !std::mem::replace(&mut self.waits, true) {
            let draining = self.draining();
            self.report(Replacing::Waits { draining, time: self.config.drain_timeout });
        }
    }

    /// The slot whose turn it is, if another one may be taken in hand.
    fn next_in_queue(&self) -> Option<usize> {
        let in_hand = self.in_use().iter().filter(|slot| slot.is_in_hand()).count();
        if in_hand >= usize::from(self.config.restart_parallel.max(1)) {
            return None;
        }
        let turn = |slot: &Slot| {
            let worn = !slot.is_stale();
            let life = slot.present.as_ref().filter(|_| slot.is_due_for_turn())?;
            Some((worn, life.since, life.worker.slot))
        };
        let (_, _, number) = self.having_turns().iter().filter_map(turn).min()?;
        let index = usize::from(number);
        let may_drain = self.slots[index].stage() == Some(Stage::Booting) || self.may_drain();
        may_drain.then_some(index)
    }

    /// The slots whose workers are replaced: all that stay. Until one has a new worker, those that go at
    /// the end may have to show whether that can be.
    fn having_turns(&self) -> &[Slot] {
        let staying = &self.slots[..usize::from(self.size_to_be())];
        let is_shown = self.in_use().iter().any(Slot::is_renewed);
        if is_shown || staying.iter().any(Slot::is_busy) { staying } else { self.in_use() }
    }

    /// Whether one more worker may drain, soon.
    fn may_drain(&self) -> bool {
        let soon = self.slots.iter().filter(|slot| slot.successor.is_some()).count();
        self.draining() + soon < usize::from(self.config.most_draining.max(1))
    }

    /// How many workers drain, or have drained and not ended yet.
    fn draining(&self) -> usize {
        self.lives().filter(|life| life.is_draining()).count()
    }

    /// What a change of a successor means.
    pub(super) fn hear_successor(&mut self, now: Time, worker: Worker, change: Change) {
        match change {
            Change::Nothing | Change::Born => {}
            Change::BecameReady => {
                let index = usize::from(worker.slot);
                self.place(now, worker);
                self.withdraw(now, index);
                self.slots[index].promote();
            }
            Change::NotBorn => self.successor_failed(now, worker, FailedStart::NoProcess),
            Change::DiedBooting(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.successor_failed(now, worker, FailedStart::Exited(exit));
            }
            // A successor that is ready or had TERM is none any more.
            Change::Leaves
            | Change::DiedReady(_)
            | Change::Left(_)
            | Change::Ended
            | Change::Drained(_) => {}
        }
    }

    /// What a change of a former worker means.
    pub(super) fn hear_former(&mut self, now: Time, worker: Worker, change: Change) {
        match change {
            Change::Nothing | Change::NotBorn | Change::Ended => {}
            Change::Drained(exit) => self.report(Replacing::Ended { worker, exit }),
            // It was given up before it was born.
            Change::Born | Change::BecameReady => self.end(worker, Some(now + TERM_TO_KILL)),
            Change::Leaves => self.retire(worker),
            Change::DiedBooting(_) => self.actions.push_back(Action::Retire(worker)),
            Change::DiedReady(exit) => {
                self.actions.push_back(Action::Retire(worker));
                self.report(Replacing::DrainEnded { worker, exit });
            }
            Change::Left(exit) => self.report(Replacing::DrainEnded { worker, exit }),
        }
    }

    /// Nothing is left of a draining worker.
    pub(super) fn drained(&mut self, now: Time, worker: Worker) {
        let drains = self.life(worker).is_some_and(|life| life.stage() == Stage::Draining);
        if drains && self.phase == Phase::Running {
            self.close(now, worker, false);
        }
    }

    /// A successor was not ready in time: it does not count any more.
    pub(super) fn successor_is_late(&mut self, now: Time, worker: Worker) {
        self.abandon_successor(now, usize::from(worker.slot));
        self.successor_failed(now, worker, FailedStart::NotInTime);
    }

    /// The present worker goes on, and so do all others if this was a restart.
    fn successor_failed(&mut self, now: Time, worker: Worker, why: FailedStart) {
        let index = usize::from(worker.slot);
        if self.slots[index].is_stale() {
            let left = self.in_use().iter().filter(|slot| slot.is_stale()).count();
            self.report(Replacing::RestartFailed { worker, why, left });
            self.give_up_restart(now);
        } else {
            let rest = self.try_again_later(now, index);
            self.report(Replacing::WornFailed { worker, why, rest });
        }
    }

    /// The workers of before go on.
    fn give_up_restart(&mut self, now: Time) {
        self.is_rolling = false;
        for index in 0..self.slots.len() {
            if self.slots[index].is_stale() {
                self.abandon_successor(now, index);
                if self.slots[index].has_wear() {
                    self.try_again_later(now, index);
                }
            }
            self.slots[index].make_fresh();
        }
        self.resize_back(now);
    }

    /// A worn worker gets no successor for a while.
    fn try_again_later(&mut self, now: Time, index: usize) -> Duration {
        let slot = &mut self.slots[index];
        let rest = slot.backoff.next(&mut self.rng);
        slot.retry_at = Some(now + rest);
        rest
    }

    /// The present worker of this slot gets no new keys from now on.
    pub(super) fn withdraw(&mut self, now: Time, index: usize) {
        let time = self.config.drain_timeout;
        let slot = &mut self.slots[index];
        if slot.present.as_ref().is_some_and(|life| life.has_proved_itself(now)) {
            slot.prove();
        }
        let Some(life) = &mut slot.present else { return };
        let worker = life.worker;
        life.withdraw(time.map(|time| now + time));
        slot.step_down();
        self.actions.push_back(Action::Withdraw(worker));
        self.report(Replacing::Draining { worker, time });
    }

    /// Ends the successor of a slot, if there is one.
    pub(super) fn abandon_successor(&mut self, now: Time, index: usize) {
        let successor = self.slots[index].successor.take();
        self.abandon(now, index, successor);
    }

    /// Ends the present worker of a slot, which is not ready.
    pub(super) fn abandon_present(&mut self, now: Time, index: usize) {
        let present = self.slots[index].present.take();
        self.abandon(now, index, present);
    }

    /// Ends a worker that starts; one that nobody has fetched yet never was.
    fn abandon(&mut self, now: Time, index: usize, life: Option<Life>) {
        let Some(life) = life else { return };
        let worker = life.worker;
        let spawn = Action::Spawn(worker);
        if self.actions.contains(&spawn) {
            self.actions.retain(|action| *action != spawn);
        } else {
            self.slots[index].former.push(life);
            self.end(worker, Some(now + TERM_TO_KILL));
        }
    }

    /// A worker for an empty slot, which the restart waits for.
    pub(super) fn start_rolled(&mut self, now: Time, index: usize) {
        self.start(now, index);
        if let Some(life) = &mut self.slots[index].present {
            life.rolled = true;
        }
    }

    /// A worker beside the present one.
    fn start_successor(&mut self, now: Time, index: usize) {
        let slot = &mut self.slots[index];
        let rolled = slot.is_stale();
        let mut life = slot.next_life(now);
        life.rolled = rolled;
        self.actions.push_back(Action::Spawn(life.worker));
        slot.successor = Some(life);
    }

    /// Says so, if it is too late for what was asked for.
    pub(super) fn refuses(&mut self, what: Refused) -> bool {
        match self.phase {
            Phase::Running => false,
            Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Killing { .. } => {
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

    /// What this worker is to its slot, if it lives.
    pub(super) fn role(&self, worker: Worker) -> Option<Role> {
        self.slots.get(usize::from(worker.slot))?.role(worker)
    }
}
