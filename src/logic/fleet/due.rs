//! What is due for slots and workers.

use std::cell::OnceCell;
use std::fmt;

use super::input::Wear;
use super::news::Due;
use super::slot::Role;
use super::{Event, Fleet, Replacing, TERM_TO_KILL};
use crate::logic::Worker;
use crate::logic::time::Time;

/// When something is due next, until something may have changed it. It is no part of the state.
#[derive(Clone, Default)]
pub(super) struct NextDue(pub(super) OnceCell<Option<Time>>);

impl fmt::Debug for NextDue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NextDue(..)")
    }
}

impl Fleet {
    /// Does what is due in each slot, but for the watchdog.
    pub(super) fn do_what_is_due(&mut self, now: Time) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.retry_at.take_if(|at| *at <= now);
            if slot.next_start.is_some_and(|at| at <= now) {
                self.start(now, index);
            }
            let lives = self.slots[index].lives();
            let due: Vec<_> =
                lives.filter_map(|life| Some((life.worker, life.due(now)?))).collect();
            for (worker, due) in due {
                self.do_for(now, worker, due);
            }
        }
    }

    /// Does what is due for one worker.
    fn do_for(&mut self, now: Time, worker: Worker, due: Due) {
        match due {
            Due::BootTimeout => {
                self.report(Event::BootTimeout { worker, had: self.config.boot_timeout });
                if self.role(worker) == Some(Role::Successor) {
                    self.successor_is_late(now, worker);
                } else {
                    self.end(worker, Some(now + TERM_TO_KILL));
                }
            }
            Due::TooOld => self.recycle(now, worker, Wear::Lifetime),
            Due::DrainTimeout => {
                self.report(Replacing::DrainTimeout { worker });
                self.close(now, worker, true);
            }
            Due::CloseTimeout(kill_at) => self.end(worker, kill_at),
            Due::LeaveTimeout => {
                self.report(Event::LeaveTimeout { worker });
                self.end(worker, Some(now + TERM_TO_KILL));
            }
            Due::Kill => {
                self.report(Event::KillTimeout { worker });
                self.kill(worker);
            }
        }
    }
}
