//! What can be asked of a fleet.

use super::Fleet;
use super::phase::Phase;
use super::process::Process;
use super::slot::Role;
use super::transition::Stage;
use crate::logic::Worker;

impl Fleet {
    /// Whether this worker may be given connections: all, or those of its own keys while it drains.
    pub fn is_ready(&self, worker: Worker) -> bool {
        self.process(worker).is_some_and(Process::gets_connections)
    }

    /// Whether this worker may be given connections with new keys.
    pub fn is_current(&self, worker: Worker) -> bool {
        self.process(worker).is_some_and(|process| process.stage() == Stage::Ready)
    }

    /// Whether this worker gets no connections any more and is about to end.
    pub fn is_exiting(&self, worker: Worker) -> bool {
        self.process(worker).is_some_and(|process| process.stage() == Stage::Exiting)
    }

    /// The worker whose slot this one gets when it is ready.
    pub fn predecessor(&self, worker: Worker) -> Option<Worker> {
        let slot = self.slots.get(usize::from(worker.slot))?;
        let current = slot.current.as_ref().filter(|_| slot.role(worker) == Some(Role::Successor));
        current.map(|process| process.worker)
    }

    /// Whether it is on the way to its end, by a stop or because it gave up.
    pub fn is_stopping(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether a rolling restart has not come to its end.
    pub fn is_rolling(&self) -> bool {
        self.is_rolling
    }

    /// How many slots there are.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many slots there are when the rolling restart, if there is one, has come to its end.
    pub fn target_size(&self) -> u16 {
        self.target_size.unwrap_or(self.size)
    }

    /// The workers whose process exists or has been asked for.
    pub fn workers(&self) -> impl Iterator<Item = Worker> {
        self.processes().map(|process| process.worker)
    }
}
