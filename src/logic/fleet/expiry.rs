//! Timeouts of slots and workers.

use std::cell::OnceCell;
use std::fmt;

use super::input::Limit;
use super::slot::Role;
use super::transition::Expiry;
use super::{Event, Fleet, Replacing, TERM_TO_KILL};
use crate::logic::Worker;
use crate::logic::time::Time;

/// When the next timeout is, until something may have changed it. It is no part of the state.
#[derive(Clone, Default)]
pub(super) struct NextTimeout(pub(super) OnceCell<Option<Time>>);

impl fmt::Debug for NextTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextDue(..)")
    }
}

impl Fleet {
    /// Handles what has expired in each slot, except heartbeats.
    pub(super) fn handle_expired(&mut self, now: Time) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.retry_at.take_if(|at| *at <= now);
            if slot.next_start.is_some_and(|at| at <= now) {
                self.start(now, index);
            }
            let processes = self.slots[index].processes();
            let due: Vec<_> = processes
                .filter_map(|process| Some((process.worker, process.expired(now)?)))
                .collect();
            for (worker, due) in due {
                self.expire(now, worker, due);
            }
        }
    }

    /// Handles one timeout of one worker.
    fn expire(&mut self, now: Time, worker: Worker, due: Expiry) {
        match due {
            Expiry::BootTimeout => {
                self.report(Event::BootTimeout { worker, had: self.config.boot_timeout });
                if self.role(worker) == Some(Role::Successor) {
                    self.on_successor_timeout(now, worker);
                } else {
                    self.terminate(worker, Some(now + TERM_TO_KILL));
                }
            }
            Expiry::Lifetime => self.recycle(now, worker, Limit::Lifetime),
            Expiry::DrainTimeout => {
                self.report(Replacing::DrainTimeout { worker });
                self.request_exit(now, worker, true);
            }
            Expiry::ExitTimeout(kill_at) => self.terminate(worker, kill_at),
            Expiry::LeaveTimeout => {
                self.report(Event::LeaveTimeout { worker });
                self.terminate(worker, Some(now + TERM_TO_KILL));
            }
            Expiry::Kill => {
                self.report(Event::KillTimeout { worker });
                self.kill(worker);
            }
        }
    }
}
