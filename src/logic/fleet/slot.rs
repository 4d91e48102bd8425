//! One slot: its present worker, the one that comes and those that go.

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::life::Life;
use super::news::Stage;
use crate::logic::Worker;
use crate::logic::time::Time;

/// A stable place for one worker after the other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Slot {
    /// Its number.
    number: u16,
    /// The generation of the next worker.
    next_generation: u32,
    /// Workers of earlier generations than this are to be replaced by the rolling restart.
    #[serde(default)]
    fresh_from: u32,
    /// The worker that has the slot.
    pub(super) present: Option<Life>,
    /// The worker that gets the slot when it is ready. Only beside a present one that is ready.
    pub(super) successor: Option<Life>,
    /// Workers that had the slot or were to have it: draining or on their way out.
    pub(super) former: Vec<Life>,
    /// When the next worker starts, if the slot rests.
    pub(super) next_start: Option<Time>,
    /// When a worn worker gets a successor again, after one that failed.
    #[serde(default)]
    pub(super) retry_at: Option<Time>,
    /// How long the slot rests between two workers.
    pub(super) backoff: Backoff,
    /// How long a worker goes on that was worn early.
    #[serde(default)]
    pub(super) respite: Backoff,
    /// Failed starts since a worker of this slot was last ready.
    pub(super) failed: u32,
}

/// What a worker is to its slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It has the slot.
    Present,
    /// It gets the slot when it is ready.
    Successor,
    /// It does not have the slot any more.
    Former,
}

impl Slot {
    /// A slot without a worker, and none to come.
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            next_generation: 0,
            fresh_from: 0,
            present: None,
            successor: None,
            former: Vec::new(),
            next_start: None,
            retry_at: None,
            backoff: Backoff::default(),
            respite: Backoff::default(),
            failed: 0,
        }
    }

    /// All its workers.
    pub(super) fn lives(&self) -> impl Iterator<Item = &Life> {
        self.present.iter().chain(&self.successor).chain(&self.former)
    }

    /// All its workers, to be changed.
    pub(super) fn lives_mut(&mut self) -> impl Iterator<Item = &mut Life> {
        self.present.iter_mut().chain(&mut self.successor).chain(&mut self.former)
    }

    /// This worker, if it is here.
    pub(super) fn life(&self, worker: Worker) -> Option<&Life> {
        self.lives().find(|life| life.worker == worker)
    }

    /// What this worker is here, if it is here at all.
    pub(super) fn role(&self, worker: Worker) -> Option<Role> {
        let is = |life: &Life| life.worker == worker;
        if self.present.as_ref().is_some_and(is) {
            Some(Role::Present)
        } else if self.successor.as_ref().is_some_and(is) {
            Some(Role::Successor)
        } else {
            self.former.iter().any(is).then_some(Role::Former)
        }
    }

    /// Forgets a worker whose process is gone or never came to be.
    pub(super) fn forget(&mut self, worker: Worker) {
        let is = |life: &mut Life| life.worker == worker;
        self.present.take_if(is);
        self.successor.take_if(is);
        self.former.retain(|life| life.worker != worker);
    }

    /// When something is due next.
    pub(super) fn timeout(&self) -> Option<Time> {
        let lives = self.lives().filter_map(Life::timeout);
        lives.chain(self.next_start).chain(self.retry_at).min()
    }

    /// A worker of the next generation, asked for now.
    pub(super) fn next_life(&mut self, now: Time) -> Life {
        let worker = Worker { slot: self.number, generation: self.next_generation };
        self.next_generation = self.next_generation.wrapping_add(1);
        Life::new(worker, now)
    }

    /// The present worker does not have the slot any more.
    pub(super) fn step_down(&mut self) {
        self.former.extend(self.present.take());
    }

    /// Makes the successor the present worker, if there is one.
    pub(super) fn promote(&mut self) -> bool {
        if self.successor.is_some() {
            self.present = self.successor.take();
        }
        self.present.is_some()
    }

    /// Counts a failed start and returns how many there were since a worker was last ready.
    pub(super) fn failed_start(&mut self) -> u32 {
        self.failed = self.failed.saturating_add(1);
        self.failed
    }

    /// A worker of this slot has proved itself, so that all rests are short again.
    pub(super) fn prove(&mut self) {
        self.backoff.reset();
        self.respite.reset();
    }

    /// Starts over, as if no start had ever failed.
    pub(super) fn forget_failures(&mut self) {
        self.failed = 0;
        self.backoff.reset();
    }

    /// No start is to come, and no try.
    pub(super) fn stay_as_it_is(&mut self) {
        self.next_start = None;
        self.retry_at = None;
    }

    /// All its workers are to be replaced.
    pub(super) fn make_stale(&mut self) {
        self.fresh_from = self.next_generation;
        self.retry_at = None;
    }

    /// The present worker comes with the restart, which waits for it.
    pub(super) fn join_restart(&mut self) {
        if let Some(life) = &mut self.present {
            life.rolled = true;
            self.fresh_from = life.worker.generation;
        }
    }

    /// None of its workers is to be replaced by a restart any more.
    pub(super) fn make_fresh(&mut self) {
        self.fresh_from = 0;
    }

    /// Whether the present worker is to be replaced by the restart.
    pub(super) fn is_stale(&self) -> bool {
        self.present.as_ref().is_some_and(|life| {
            life.worker.generation < self.fresh_from && life.stage() != Stage::Outgoing
        })
    }

    /// Whether the restart has something to do here, or waits for something.
    pub(super) fn is_busy(&self) -> bool {
        self.is_stale() || self.is_in_hand()
    }

    /// Whether the present worker can and is to be replaced now.
    pub(super) fn is_due_for_turn(&self) -> bool {
        let is_worn = self.has_wear() && self.retry_at.is_none();
        self.successor.is_none()
            && match self.stage() {
                Some(Stage::Ready) => self.is_stale() || is_worn,
                Some(Stage::Booting) => self.is_stale(),
                // One that is Spawning is Booting in a moment.
                Some(Stage::Spawning | Stage::Draining | Stage::Outgoing) | None => false,
            }
    }

    /// Whether it has a worker or is about to.
    pub(super) fn tries(&self) -> bool {
        self.present.is_some() || self.next_start.is_some()
    }

    /// Whether the present worker is ready and came with the restart or after it.
    pub(super) fn is_renewed(&self) -> bool {
        self.stage() == Some(Stage::Ready) && !self.is_stale()
    }

    /// Whether the present worker has reached one of its limits.
    pub(super) fn has_wear(&self) -> bool {
        self.present.as_ref().is_some_and(|life| life.worn.is_some())
    }

    /// What the present worker is good for.
    pub(super) fn stage(&self) -> Option<Stage> {
        self.present.as_ref().map(Life::stage)
    }

    /// Whether a worker starts that the queue waits for.
    pub(super) fn is_in_hand(&self) -> bool {
        let starts = |life: &Life| life.rolled && life.is_starting();
        self.successor.is_some() || self.present.as_ref().is_some_and(starts)
    }
}
