//! One slot: its current worker, its successor and retired ones.

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::process::Process;
use super::transition::Stage;
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
    stale_before: u32,
    /// The worker that has the slot.
    pub(super) current: Option<Process>,
    /// The worker that gets the slot when it is ready. Only beside a current one that is ready.
    pub(super) successor: Option<Process>,
    /// Workers that had the slot or were to have it: draining or about to exit.
    pub(super) retired: Vec<Process>,
    /// When the next worker starts, if the slot has none.
    pub(super) next_start: Option<Time>,
    /// When a worker that reached a limit gets a successor again, after one that failed.
    #[serde(default)]
    pub(super) retry_at: Option<Time>,
    /// The delay between two workers.
    pub(super) backoff: Backoff,
    /// The delay before a worker is replaced that reached a limit early.
    #[serde(default)]
    pub(super) recycle_backoff: Backoff,
    /// Failed starts since a worker of this slot was last ready.
    pub(super) failed_starts: u32,
}

/// What a worker is to its slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// It has the slot.
    Current,
    /// It gets the slot when it is ready.
    Successor,
    /// It does not have the slot any more.
    Retired,
}

impl Slot {
    /// A slot without a worker, and none to come.
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            next_generation: 0,
            stale_before: 0,
            current: None,
            successor: None,
            retired: Vec::new(),
            next_start: None,
            retry_at: None,
            backoff: Backoff::default(),
            recycle_backoff: Backoff::default(),
            failed_starts: 0,
        }
    }

    /// All its workers.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.current.iter().chain(&self.successor).chain(&self.retired)
    }

    /// All its workers, to be changed.
    pub(super) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.current.iter_mut().chain(&mut self.successor).chain(&mut self.retired)
    }

    /// This worker, if it is here.
    pub(super) fn process(&self, worker: Worker) -> Option<&Process> {
        self.processes().find(|process| process.worker == worker)
    }

    /// What this worker is here, if it is here at all.
    pub(super) fn role(&self, worker: Worker) -> Option<Role> {
        let is = |process: &Process| process.worker == worker;
        if self.current.as_ref().is_some_and(is) {
            Some(Role::Current)
        } else if self.successor.as_ref().is_some_and(is) {
            Some(Role::Successor)
        } else {
            self.retired.iter().any(is).then_some(Role::Retired)
        }
    }

    /// Forgets a worker whose process is gone or never came to be.
    pub(super) fn forget(&mut self, worker: Worker) {
        let is = |process: &mut Process| process.worker == worker;
        self.current.take_if(is);
        self.successor.take_if(is);
        self.retired.retain(|process| process.worker != worker);
    }

    /// When its next timeout is.
    pub(super) fn timeout(&self) -> Option<Time> {
        let processes = self.processes().filter_map(Process::timeout);
        processes.chain(self.next_start).chain(self.retry_at).min()
    }

    /// A worker of the next generation, asked for now.
    pub(super) fn new_process(&mut self, now: Time) -> Process {
        let worker = Worker { slot: self.number, generation: self.next_generation };
        self.next_generation = self.next_generation.wrapping_add(1);
        Process::new(worker, now)
    }

    /// The current worker does not have the slot any more.
    pub(super) fn retire_current(&mut self) {
        self.retired.extend(self.current.take());
    }

    /// Makes the successor the current worker, if there is one.
    pub(super) fn promote_successor(&mut self) -> bool {
        if self.successor.is_some() {
            self.current = self.successor.take();
        }
        self.current.is_some()
    }

    /// Counts a failed start and returns how many there were since a worker was last ready.
    pub(super) fn failed_start(&mut self) -> u32 {
        self.failed_starts = self.failed_starts.saturating_add(1);
        self.failed_starts
    }

    /// A worker of this slot is stable, so delays are short again.
    pub(super) fn reset_backoffs(&mut self) {
        self.backoff.reset();
        self.recycle_backoff.reset();
    }

    /// Forgets failed starts.
    pub(super) fn forget_failures(&mut self) {
        self.failed_starts = 0;
        self.backoff.reset();
    }

    /// Cancels the next start and the next try.
    pub(super) fn cancel_starts(&mut self) {
        self.next_start = None;
        self.retry_at = None;
    }

    /// All its workers are to be replaced.
    pub(super) fn make_stale(&mut self) {
        self.stale_before = self.next_generation;
        self.retry_at = None;
    }

    /// The current worker comes with the restart, which waits for it.
    pub(super) fn join_restart(&mut self) {
        if let Some(process) = &mut self.current {
            process.by_restart = true;
            self.stale_before = process.worker.generation;
        }
    }

    /// None of its workers is to be replaced by a restart any more.
    pub(super) fn clear_stale(&mut self) {
        self.stale_before = 0;
    }

    /// Whether the current worker is to be replaced by the restart.
    pub(super) fn is_stale(&self) -> bool {
        self.current.as_ref().is_some_and(|process| {
            process.worker.generation < self.stale_before && process.stage() != Stage::Exiting
        })
    }

    /// Whether the restart is not done with this slot.
    pub(super) fn is_restarting(&self) -> bool {
        self.is_stale() || self.is_being_replaced()
    }

    /// Whether the current worker can and should be replaced now.
    pub(super) fn needs_replacement(&self) -> bool {
        let is_worn = self.has_reached_limit() && self.retry_at.is_none();
        self.successor.is_none()
            && match self.stage() {
                Some(Stage::Ready) => self.is_stale() || is_worn,
                Some(Stage::Booting) => self.is_stale(),
                // One that is Spawning is Booting in a moment.
                Some(Stage::Spawning | Stage::Draining | Stage::Exiting) | None => false,
            }
    }

    /// Whether it has a worker or one is scheduled.
    pub(super) fn has_or_starts_one(&self) -> bool {
        self.current.is_some() || self.next_start.is_some()
    }

    /// Whether the current worker is ready and came with the restart or after it.
    pub(super) fn is_renewed(&self) -> bool {
        self.stage() == Some(Stage::Ready) && !self.is_stale()
    }

    /// Whether the current worker has reached one of its limits.
    pub(super) fn has_reached_limit(&self) -> bool {
        self.current.as_ref().is_some_and(|process| process.limit_reached.is_some())
    }

    /// The state of the current worker.
    pub(super) fn stage(&self) -> Option<Stage> {
        self.current.as_ref().map(Process::stage)
    }

    /// Whether a worker is starting that the queue waits for.
    pub(super) fn is_being_replaced(&self) -> bool {
        let starts = |process: &Process| process.by_restart && process.is_starting();
        self.successor.is_some() || self.current.as_ref().is_some_and(starts)
    }
}
