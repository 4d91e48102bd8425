//! The end of one worker, in order: it is asked to end, then TERM, then KILL.

use std::time::Duration;

use super::phase::Phase;
use super::{Action, Fleet};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How long a worker that leaves of its own accord has to exit.
const LEAVING: Duration = Duration::from_secs(10);
/// How long a worker that is asked to end has for it, or to say that it handles TERM: a fifth of the
/// grace, but at most this.
const ASKED: Duration = Duration::from_secs(5);
/// The same, of one that shall not wait for its connections.
const ASKED_AT_ONCE: Duration = Duration::from_secs(1);

impl Fleet {
    /// Ends a worker that drains: it is asked to, if it can end by itself, else it gets TERM. KILL
    /// follows the grace later.
    pub(super) fn close(&mut self, now: Time, worker: Worker, at_once: bool) {
        let kill_at = Some(now + self.config.grace);
        if !self.config.ends_itself {
            return self.end(worker, kill_at);
        }
        let longest = if at_once { ASKED_AT_ONCE } else { ASKED };
        let until = now + (self.config.grace / 5).min(longest);
        self.ask(worker, at_once, until, kill_at);
    }

    /// The last part of a stop: workers shall wait for their connections no longer, and those that
    /// have left get TERM. KILL comes for all at the same time.
    pub(super) fn close_all(&mut self, now: Time) {
        let Phase::Ending { kill_at, .. } = self.phase else { return };
        let until = now + ((kill_at - now) * 4 / 5).min(ASKED_AT_ONCE);
        let unasked = self.lives().filter(|life| life.asked().is_none());
        let unasked: Vec<_> = unasked.map(|life| (life.worker, life.takes_connections())).collect();
        for (worker, takes_connections) in unasked {
            if takes_connections {
                self.ask(worker, true, until, None);
            } else {
                self.end(worker, None);
            }
        }
    }

    fn ask(&mut self, worker: Worker, at_once: bool, until: Time, kill_at: Option<Time>) {
        if self.life_mut(worker).is_some_and(|life| life.close(until, kill_at)) {
            self.retire(worker);
            self.actions.push_back(Action::Close { worker, at_once });
        }
    }

    /// A worker that was asked to end leaves that to its handler of TERM.
    pub(super) fn handles_term(&mut self, worker: Worker) {
        let Some(life) = self.life(worker) else { return };
        let drains = self.phase != Phase::Running && life.takes_connections();
        match life.asked() {
            Some(kill_at) => self.end(worker, kill_at),
            None if drains => self.end(worker, None),
            None => {}
        }
    }

    /// How long a worker that leaves has to exit by itself: less, if that is what it was asked for.
    pub(super) fn leaving(&self) -> Duration {
        match self.phase {
            Phase::Running => LEAVING,
            Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Killing { .. } | Phase::Done => {
                (self.config.grace / 5).min(ASKED)
            }
        }
    }
}
