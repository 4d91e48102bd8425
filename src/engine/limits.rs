//! The memory of workers, which may be limited.

use std::io;
use std::time::Duration;

use tracing::{debug, warn};

use super::Engine;
use crate::logic::Worker;
use crate::logic::core::Input;
use crate::logic::fleet::Limit;
use crate::logic::time::Time;
use crate::os::memory;

/// How often it is looked at, if it is limited.
const LOOK: Duration = Duration::from_secs(5);

/// What is remembered of the limit.
#[derive(Debug, Default)]
pub(super) struct MemoryLimit {
    /// When to look again.
    look_at: Option<Time>,
    /// Whether it was said that it cannot be seen.
    is_hidden: bool,
}

impl MemoryLimit {
    /// When to call [`Engine::look_at_memory`].
    pub(super) fn due(&self) -> Option<Time> {
        self.look_at
    }
}

impl Engine {
    /// Looks which workers hold too much memory.
    pub(super) fn look_at_memory(&mut self) {
        let Some(limit) = self.config.recycle.memory else {
            self.memory.look_at = None;
            return;
        };
        if self.memory.look_at.is_some_and(|at| self.now < at) {
            return;
        }
        self.memory.look_at = Some(self.now + LOOK);
        for (worker, held) in self.workers.memory() {
            match held {
                Ok(held) if held > limit => {
                    debug!(
                        name: "worker_memory_exceeded", worker = worker.slot, bytes = held,
                        "{worker} uses {held} bytes of memory, more than --max-memory"
                    );
                    self.core.handle(self.now, Input::Recycle(worker, Limit::Memory));
                }
                Ok(_) => {}
                Err(error) if self.memory.is_hidden => debug!(
                    name: "worker_memory_unknown", worker = worker.slot,
                    "cannot read the memory of {worker}: {error}"
                ),
                // It is not reaped yet, so it has to be there.
                Err(error) => {
                    self.memory.is_hidden = true;
                    warn!(
                        name: "memory_limit_ignored", %error,
                        "--max-memory has no effect: {error}; mount /proc, and where it hides the \
                         processes of others (hidepid), with gid= of a group that the supervisor \
                         is in"
                    );
                }
            }
        }
    }
}

impl super::workers::Workers {
    /// How many bytes of memory each worker holds.
    fn memory(&self) -> Vec<(Worker, io::Result<u64>)> {
        self.all().map(|live| (live.worker, memory::resident(live.pid()))).collect()
    }
}
