//! More slots and fewer, and another configuration.

use super::news::Stage;
use super::phase::Phase;
use super::slot::Slot;
use super::{Action, Event, Fleet, FleetConfig, MOST_WORKERS, Refused};
use crate::logic::time::Time;

impl Fleet {
    /// Goes on with another configuration. Times count from their next use. The number of slots
    /// changes only if another one is configured than before.
    pub fn reconfigure(&mut self, now: Time, config: FleetConfig) {
        let before = std::mem::replace(&mut self.config, config);
        // Limits may be others now.
        self.warned_of_limit = false;
        if self.phase != Phase::Running {
            return;
        }
        if self.config.workers != before.workers {
            self.resize(now, self.config.workers);
        }
        if self.config.watchdog != before.watchdog {
            self.watch_all(now);
        }
        self.advance(now);
    }

    /// One slot more, at the end, with a worker that starts now.
    pub(super) fn more(&mut self, now: Time) {
        if self.refuses(Refused::Resize) {
            return;
        }
        if self.size >= MOST_WORKERS {
            return self.report(Event::NotResized { workers: self.size });
        }
        let index = usize::from(self.size);
        if index == self.slots.len() {
            self.slots.push(Slot::new(self.size));
        }
        self.resized(self.size + 1);
        self.slots[index].forget_failures();
        self.start(now, index);
    }

    /// One slot less: the last one. Its worker drains, if it is ready.
    pub(super) fn fewer(&mut self, now: Time) {
        if self.refuses(Refused::Resize) {
            return;
        }
        if self.size <= 1 {
            return self.report(Event::NotResized { workers: self.size });
        }
        let index = usize::from(self.size - 1);
        self.slots[index].stay_as_it_is();
        self.abandon_successor(now, index);
        match self.slots[index].stage() {
            Some(Stage::Ready) => self.withdraw(now, index),
            Some(Stage::Spawning | Stage::Booting) => self.abandon_present(now, index),
            Some(Stage::Draining | Stage::Outgoing) | None => self.slots[index].step_down(),
        }
        self.resized(self.size - 1);
    }

    /// As many slots as this, one after the other.
    pub(super) fn resize(&mut self, now: Time, size: u16) {
        let size = size.clamp(1, MOST_WORKERS);
        while self.size < size {
            self.more(now);
        }
        while self.size > size {
            self.fewer(now);
        }
    }

    fn resized(&mut self, size: u16) {
        self.size = size;
        self.actions.push_back(Action::Resized(size));
        self.report(Event::Resized { workers: size });
    }
}
