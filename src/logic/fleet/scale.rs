//! More slots and fewer, and another configuration.

use serde::{Deserialize, Serialize};

use super::phase::Phase;
use super::slot::Slot;
use super::transition::Stage;
use super::{Action, Event, Fleet, FleetConfig, Input, MAX_WORKERS, Refused};
use crate::logic::time::Time;

/// How many slots there were.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Rollback {
    /// By the configuration.
    configured: u16,
    /// In fact, with `More` and `Fewer`.
    size: u16,
}

impl Fleet {
    /// Applies another configuration. Times count from their next use. The number of slots
    /// changes only if another one is configured than before; while a restart rolls, slots are taken
    /// away at its end.
    pub fn reconfigure(&mut self, now: Time, config: FleetConfig) {
        let later = self.is_rolling;
        self.apply_config(now, config, later);
        if self.phase == Phase::Running {
            self.advance(now);
        }
    }

    /// Replaces all workers by those of another configuration. Slots are taken away when that has
    /// come to its end.
    pub fn restart_with(&mut self, now: Time, config: FleetConfig) {
        self.apply_config(now, config, true);
        self.handle(now, Input::Restart);
    }

    fn apply_config(&mut self, now: Time, config: FleetConfig, later: bool) {
        self.next_timeout.0.take();
        let before = std::mem::replace(&mut self.config, config);
        // Limits may be others now.
        self.warned_of_limit = false;
        self.slots.iter_mut().for_each(|slot| slot.recycle_backoff.reset());
        if self.phase != Phase::Running {
            return;
        }
        if self.config.workers != before.workers {
            if later {
                let size = self.target_size();
                self.rollback.get_or_insert(Rollback { configured: before.workers, size });
            }
            self.resize(now, self.config.workers, later);
        }
        if self.config.watchdog != before.watchdog {
            self.watch_all(now);
        }
    }

    /// One slot more, at the end, with a worker that starts now, or with all others after the first.
    pub(super) fn more(&mut self, now: Time) {
        if self.refuses(Refused::Resize) {
            return;
        }
        let size = self.target_size();
        if size >= MAX_WORKERS {
            return self.report(Event::NotResized { workers: size });
        }
        self.resize(now, size + 1, true);
    }

    /// One slot less: the last one. Its worker drains, if it is ready.
    pub(super) fn fewer(&mut self, now: Time) {
        if self.refuses(Refused::Resize) {
            return;
        }
        let size = self.target_size();
        if size <= 1 {
            return self.report(Event::NotResized { workers: size });
        }
        let later = self.target_size.is_some();
        self.resize(now, size - 1, later);
    }

    /// As many slots as this, one after the other. Those that are too many may have to go later.
    fn resize(&mut self, now: Time, size: u16, later: bool) {
        let size = size.clamp(1, MAX_WORKERS);
        let before = self.target_size.take();
        if later && size < self.size {
            self.target_size = Some(size);
            return self.report(Event::ResizedLater { workers: size });
        }
        if before.is_some() && size == self.size {
            self.report(Event::Resized { workers: size });
        }
        while self.size < size {
            self.add_slot(now);
        }
        while self.size > size {
            self.remove_slot(now);
        }
    }

    /// Takes away the slots that were to go at the end of the restart.
    pub(super) fn remove_surplus_slots(&mut self, now: Time) {
        if let Some(size) = self.target_size {
            self.resize(now, size, false);
        }
    }

    /// The restart has failed: as many slots as before it. Whoever wants another number then wants a change.
    pub(super) fn roll_back_size(&mut self, now: Time) {
        self.target_size = None;
        if let Some(Rollback { configured, size }) = self.rollback.take() {
            self.config.workers = configured;
            self.resize(now, size, false);
        }
    }

    fn add_slot(&mut self, now: Time) {
        let index = usize::from(self.size);
        if index == self.slots.len() {
            self.slots.push(Slot::new(self.size));
        }
        self.resized(self.size + 1);
        self.slots[index].forget_failures();
        if self.may_start(index) {
            self.start(now, index);
        }
    }

    fn remove_slot(&mut self, now: Time) {
        let index = usize::from(self.size - 1);
        self.slots[index].cancel_starts();
        self.abandon_successor(now, index);
        match self.slots[index].stage() {
            Some(Stage::Ready) => self.drain_current(now, index),
            Some(Stage::Spawning | Stage::Booting) => self.abandon_current(now, index),
            Some(Stage::Draining | Stage::Exiting) | None => self.slots[index].retire_current(),
        }
        self.resized(self.size - 1);
    }

    fn resized(&mut self, size: u16) {
        self.size = size;
        self.actions.push_back(Action::Resized(size));
        self.report(Event::Resized { workers: size });
    }
}
