//! The heartbeat of one worker: pings and their answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::time::Time;

/// The shortest time between pings, whatever was configured.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The pings of one worker.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Heartbeat {
    /// When the next ping goes out.
    ping_at: Time,
    /// When the oldest ping without an answer is too old.
    late_at: Option<Time>,
}

/// What is overdue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Overdue {
    /// Another ping.
    Ping,
    /// An answer.
    Pong,
}

impl Heartbeat {
    /// That of a worker that gets its first ping now.
    pub(super) fn new(now: Time, time: Duration) -> Self {
        let mut heartbeat = Self { ping_at: now, late_at: None };
        heartbeat.pinged(now, time);
        heartbeat
    }

    /// When something is overdue next.
    pub(super) fn timeout(&self) -> Time {
        self.late_at.map_or(self.ping_at, |late_at| late_at.min(self.ping_at))
    }

    /// What is overdue.
    pub(super) fn overdue(&self, now: Time) -> Option<Overdue> {
        if self.late_at.is_some_and(|at| at <= now) {
            Some(Overdue::Pong)
        } else {
            (self.ping_at <= now).then_some(Overdue::Ping)
        }
    }

    /// A ping goes out now.
    pub(super) fn pinged(&mut self, now: Time, time: Duration) {
        self.ping_at = now + (time / 2).max(SHORTEST_INTERVAL);
        self.late_at.get_or_insert(now + time);
    }

    /// An answer came.
    pub(super) fn answered(&mut self) {
        self.late_at = None;
    }

    /// The time starts over: the supervisor itself was late.
    pub(super) fn extend(&mut self, now: Time, time: Duration) {
        if self.late_at.is_some() {
            self.late_at = Some(now + time);
        }
    }
}
