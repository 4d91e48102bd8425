//! Stopping one worker, step by step: it is asked to exit, then TERM, then KILL.

use std::time::Duration;

use super::phase::Phase;
use super::{Action, Fleet};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How long a worker that leaves by itself has to exit.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker that is asked to exit has for it, or to say that it handles TERM: a fifth of the
/// grace, but at most this.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same, for one that need not wait for its connections.
const EXIT_TIMEOUT_AT_ONCE: Duration = Duration::from_secs(1);

impl Fleet {
    /// Stops a worker that drains: it is asked to exit, if it can by itself, else it gets TERM. KILL
    /// follows the grace later.
    pub(super) fn request_exit(&mut self, now: Time, worker: Worker, at_once: bool) {
        let kill_at = Some(now + self.config.grace);
        if !self.config.exits_when_drained {
            return self.terminate(worker, kill_at);
        }
        let longest = if at_once { EXIT_TIMEOUT_AT_ONCE } else { EXIT_TIMEOUT };
        let until = now + (self.config.grace / 5).min(longest);
        self.send_exit_request(worker, at_once, until, kill_at);
    }

    /// The last part of a stop: workers need not wait for their connections any more, and those that
    /// have left get TERM. KILL comes for all at the same time.
    pub(super) fn request_all_exits(&mut self, now: Time) {
        let Phase::Terminating { kill_at, .. } = self.phase else { return };
        let until = now + ((kill_at - now) * 4 / 5).min(EXIT_TIMEOUT_AT_ONCE);
        let unasked = self.processes().filter(|process| process.exit_requested().is_none());
        let unasked: Vec<_> =
            unasked.map(|process| (process.worker, process.gets_connections())).collect();
        for (worker, takes_connections) in unasked {
            if takes_connections {
                self.send_exit_request(worker, true, until, None);
            } else {
                self.terminate(worker, None);
            }
        }
    }

    fn send_exit_request(
        &mut self,
        worker: Worker,
        at_once: bool,
        until: Time,
        kill_at: Option<Time>,
    ) {
        if self.process_mut(worker).is_some_and(|process| process.request_exit(until, kill_at)) {
            self.remove_backend(worker);
            self.actions.push_back(Action::RequestExit { worker, at_once });
        }
    }

    /// A worker that was asked to exit has a handler for TERM that does so.
    pub(super) fn on_handles_term(&mut self, worker: Worker) {
        let Some(process) = self.process(worker) else { return };
        let drains = self.phase != Phase::Running && process.gets_connections();
        match process.exit_requested() {
            Some(kill_at) => self.terminate(worker, kill_at),
            None if drains => self.terminate(worker, None),
            None => {}
        }
    }

    /// How long a worker that leaves has to exit by itself: less, if that is what it was asked for.
    pub(super) fn leave_timeout(&self) -> Duration {
        match self.phase {
            Phase::Running => LEAVE_TIMEOUT,
            Phase::Stopping { .. }
            | Phase::Terminating { .. }
            | Phase::Killing { .. }
            | Phase::Done => (self.config.grace / 5).min(EXIT_TIMEOUT),
        }
    }
}
