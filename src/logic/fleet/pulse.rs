//! The signs of life of one worker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::time::Time;

/// Pings do not come closer than this, whatever was configured.
const CLOSEST: Duration = Duration::from_millis(10);

/// What one worker owes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Pulse {
    /// When the next ping goes out.
    ping_at: Time,
    /// When the oldest ping without an answer is too old.
    late_at: Option<Time>,
}

/// What is due of a pulse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Beat {
    /// Another ping.
    Ping,
    /// No answer came in time.
    Late,
}

impl Pulse {
    /// That of a worker that gets its first ping now.
    pub(super) fn new(now: Time, time: Duration) -> Self {
        let mut pulse = Self { ping_at: now, late_at: None };
        pulse.pinged(now, time);
        pulse
    }

    /// When something is due.
    pub(super) fn timeout(&self) -> Time {
        self.late_at.map_or(self.ping_at, |late_at| late_at.min(self.ping_at))
    }

    /// What is due.
    pub(super) fn due(&self, now: Time) -> Option<Beat> {
        if self.late_at.is_some_and(|at| at <= now) {
            Some(Beat::Late)
        } else {
            (self.ping_at <= now).then_some(Beat::Ping)
        }
    }

    /// A ping goes out now.
    pub(super) fn pinged(&mut self, now: Time, time: Duration) {
        self.ping_at = now + (time / 2).max(CLOSEST);
        self.late_at.get_or_insert(now + time);
    }

    /// An answer came.
    pub(super) fn answered(&mut self) {
        self.late_at = None;
    }

    /// Counts from now on: the supervisor itself was late.
    pub(super) fn forgive(&mut self, now: Time, time: Duration) {
        if self.late_at.is_some() {
            self.late_at = Some(now + time);
        }
    }
}
