//! The watchdog: pings workers and replaces those that do not answer.

use std::time::Duration;

use super::heartbeat::{Heartbeat, Overdue};
use super::slot::Role;
use super::{Action, Event, Fleet};
use crate::logic::Worker;
use crate::logic::time::Time;

/// The longest time from ABRT to KILL.
const ABORT_TO_KILL: Duration = Duration::from_secs(5);

impl Fleet {
    /// Starts or stops watching a worker, as configured.
    pub(super) fn watch(&mut self, now: Time, worker: Worker) {
        let time = self.config.watchdog;
        let Some(process) = self.process_mut(worker) else { return };
        process.heartbeat = time.map(|time| Heartbeat::new(now, time));
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
    pub(super) fn on_pong(&mut self, worker: Worker) {
        let heartbeat = self.process_mut(worker).and_then(|process| process.heartbeat.as_mut());
        if let Some(heartbeat) = heartbeat {
            heartbeat.answered();
        }
    }

    /// Gives all pending pings more time, if this call comes much later than it was due.
    pub(super) fn extend_if_late(&mut self, now: Time) {
        let Some(time) = self.config.watchdog else { return };
        if self.compute_timeout().is_some_and(|due| now - due > time / 8) {
            let processes = self.slots.iter_mut().flat_map(|slot| slot.processes_mut());
            for heartbeat in processes.filter_map(|process| process.heartbeat.as_mut()) {
                heartbeat.extend(now, time);
            }
        }
    }

    /// Handles heartbeats that are overdue.
    pub(super) fn check_heartbeats(&mut self, now: Time) {
        let Some(time) = self.config.watchdog else { return };
        let beat = |heartbeat: &Heartbeat| heartbeat.overdue(now);
        let due: Vec<_> = self
            .processes()
            .filter_map(|process| {
                Some((process.worker, process.heartbeat.as_ref().and_then(beat)?))
            })
            .collect();
        for (worker, beat) in due {
            match beat {
                Overdue::Ping => {
                    if let Some(heartbeat) =
                        self.process_mut(worker).and_then(|process| process.heartbeat.as_mut())
                    {
                        heartbeat.pinged(now, time);
                        self.actions.push_back(Action::Ping(worker));
                    }
                }
                Overdue::Pong => self.on_hung(now, worker, time),
            }
        }
    }

    /// Aborts a worker that does not answer, and replaces a current one.
    fn on_hung(&mut self, now: Time, worker: Worker, had: Duration) {
        self.report(Event::Hung { worker, had });
        let index = usize::from(worker.slot);
        let stable = self.process(worker).is_some_and(|process| process.is_stable(now));
        let kill_at = now + (had / 4).min(ABORT_TO_KILL);
        self.terminate_with(worker, Some(kill_at), Action::Abort(worker));
        if self.slots[index].role(worker) != Some(Role::Current) {
            return;
        }
        let slot = &mut self.slots[index];
        if stable {
            slot.reset_backoffs();
        }
        slot.retire_current();
        if slot.promote_successor() {
            return;
        }
        if slot.backoff.is_reset() {
            slot.backoff.next(&mut self.rng);
            self.start(now, index);
        } else {
            self.schedule_restart(now, worker);
        }
    }
}
