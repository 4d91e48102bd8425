//! Whether workers answer: pings, and what happens to those that do not.

use std::time::Duration;

use super::pulse::{Beat, Pulse};
use super::slot::Role;
use super::{Action, Event, Fleet};
use crate::logic::Worker;
use crate::logic::time::Time;

/// The longest time from ABRT to KILL.
const ABORT_TO_KILL: Duration = Duration::from_secs(5);

impl Fleet {
    /// Begins to watch a worker, or ends it, as configured.
    pub(super) fn watch(&mut self, now: Time, worker: Worker) {
        let time = self.config.watchdog;
        let Some(life) = self.life_mut(worker) else { return };
        life.pulse = time.map(|time| Pulse::new(now, time));
        if time.is_some() {
            self.actions.push_back(Action::Ping(worker));
        }
    }

    /// Watches all that get connections as configured now.
    pub(super) fn watch_all(&mut self, now: Time) {
        let watched: Vec<_> = self.workers().filter(|worker| self.is_ready(*worker)).collect();
        for worker in watched {
            self.watch(now, worker);
        }
    }

    /// A worker has answered.
    pub(super) fn pong(&mut self, worker: Worker) {
        let pulse = self.life_mut(worker).and_then(|life| life.pulse.as_mut());
        if let Some(pulse) = pulse {
            pulse.answered();
        }
    }

    /// Forgives all that owe an answer, if this call comes much later than it was due.
    pub(super) fn forgive_if_late(&mut self, now: Time) {
        let Some(time) = self.config.watchdog else { return };
        if self.next_due().is_some_and(|due| now - due > time / 8) {
            let lives = self.slots.iter_mut().flat_map(|slot| slot.lives_mut());
            for pulse in lives.filter_map(|life| life.pulse.as_mut()) {
                pulse.forgive(now, time);
            }
        }
    }

    /// Pings and judges those for whom it is time.
    pub(super) fn beat(&mut self, now: Time) {
        let Some(time) = self.config.watchdog else { return };
        let beat = |pulse: &Pulse| pulse.due(now);
        let due: Vec<_> = self
            .lives()
            .filter_map(|life| Some((life.worker, life.pulse.as_ref().and_then(beat)?)))
            .collect();
        for (worker, beat) in due {
            match beat {
                Beat::Ping => {
                    if let Some(pulse) = self.life_mut(worker).and_then(|life| life.pulse.as_mut())
                    {
                        pulse.pinged(now, time);
                        self.actions.push_back(Action::Ping(worker));
                    }
                }
                Beat::Late => self.hung(now, worker, time),
            }
        }
    }

    /// Ends a worker that does not answer. The slot of a present one goes on without it.
    fn hung(&mut self, now: Time, worker: Worker, had: Duration) {
        self.report(Event::Hung { worker, had });
        let index = usize::from(worker.slot);
        let proved = self.life(worker).is_some_and(|life| life.has_proved_itself(now));
        let kill_at = now + (had / 4).min(ABORT_TO_KILL);
        self.end_by(worker, Some(kill_at), Action::Abort(worker));
        if self.slots[index].role(worker) != Some(Role::Present) {
            return;
        }
        let slot = &mut self.slots[index];
        if proved {
            slot.prove();
        }
        slot.step_down();
        if slot.promote() {
            return;
        }
        if slot.backoff.is_fresh() {
            slot.backoff.next(&mut self.rng);
            self.start(now, index);
        } else {
            self.rest(now, worker);
        }
    }
}
