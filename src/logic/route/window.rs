//! The window of a worker: what is in flight to it, and whether it still reads.
//!
//! What was picked up is learned from a look at the channel, which is worth a system call only when
//! the window seems full or nothing seems to move.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::time::Time;

/// The part of a window that has to be sent anew before a look at the channel is worth its price.
const WORTH_CHECKING: usize = 4;

/// A worker that has picked something up within this time is not blocked, as far as one can tell.
const RESPONSIVE: Duration = Duration::from_millis(10);

/// What was sent to one worker and not yet picked up, the first sent first.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Window {
    limit: usize,
    in_flight: VecDeque<Sent>,
    /// How many were sent since the channel was last looked at.
    sent_since_check: usize,
    /// When the worker was last seen to have picked something up, or to have nothing to pick up.
    progress: Time,
    /// When the worker was last seen to have picked something up.
    picked_up: Option<Time>,
}

/// One message in flight.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Sent {
    at: Time,
    what: InFlight,
}

/// What a message in flight is, in case it has to be taken back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum InFlight {
    /// A connection that any worker may serve.
    Movable,
    /// A connection whose key this worker owns.
    Owned,
    /// A message without a connection.
    Note,
}

impl Window {
    pub(super) fn new(now: Time, limit: usize) -> Self {
        Self {
            limit,
            in_flight: VecDeque::with_capacity(limit),
            sent_since_check: 0,
            progress: now,
            picked_up: None,
        }
    }

    /// Whether the worker has picked something up in the last moments.
    pub(super) fn is_responsive(&self, now: Time) -> bool {
        self.picked_up.is_some_and(|at| now - at < RESPONSIVE)
    }

    /// From now on, so many messages may be in flight.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.limit
    }

    /// Whether it seems full, and enough was sent since the last look for another to be worth it.
    pub(super) fn may_have_room(&self) -> bool {
        !self.has_room() && self.sent_since_check >= self.limit / WORTH_CHECKING
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn sent(&mut self, now: Time, what: InFlight) {
        if self.in_flight.is_empty() {
            self.progress = now;
        }
        self.sent_since_check += 1;
        self.in_flight.push_back(Sent { at: now, what });
    }

    /// Takes back the last `sent`, since the message did not fit after all.
    pub(super) fn not_sent(&mut self) {
        self.in_flight.pop_back();
    }

    /// The channel has `count` messages unread.
    pub(super) fn note_unread(&mut self, now: Time, count: usize) {
        self.sent_since_check = 0;
        if count < self.in_flight.len() {
            self.in_flight.drain(..self.in_flight.len() - count);
            self.progress = now;
            self.picked_up = Some(now);
        }
    }

    /// Takes the first `count` back that are unread, in the order in which they were sent.
    pub(super) fn take_back(&mut self, now: Time, count: usize) -> Vec<InFlight> {
        self.progress = now;
        let count = count.min(self.in_flight.len());
        self.in_flight.drain(..count).map(|sent| sent.what).collect()
    }

    /// Nothing is in flight any more.
    pub(super) fn clear(&mut self, now: Time) {
        self.progress = now;
        self.in_flight.clear();
    }

    /// When a worker that picks nothing up will have done so for `patience`.
    pub(super) fn stalls_at(&self, patience: Duration) -> Option<Time> {
        let first = self.in_flight.front()?;
        Some(first.at.max(self.progress) + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::since_zero(Duration::from_millis(millis))
    }

    #[test]
    fn a_look_at_the_channel_makes_room() {
        let mut window = Window::new(at(0), 2);
        window.sent(at(0), InFlight::Movable);
        window.sent(at(0), InFlight::Owned);
        assert!(!window.has_room());
        window.note_unread(at(1), 2);
        assert!(!window.has_room());
        window.note_unread(at(1), 1);
        assert!(window.has_room());
        assert_eq!(window.take_back(at(2), 5), [InFlight::Owned]);
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn a_worker_is_still_when_it_picked_nothing_up_for_its_time() {
        let mut window = Window::new(at(0), 8);
        assert_eq!(window.stalls_at(PATIENCE), None);
        window.sent(at(5_000), InFlight::Movable);
        window.sent(at(5_100), InFlight::Movable);
        window.note_unread(at(5_500), 2);
        assert_eq!(window.stalls_at(PATIENCE), Some(at(6_000)));
        window.note_unread(at(5_600), 1);
        assert_eq!(window.stalls_at(PATIENCE), Some(at(6_600)));
        window.note_unread(at(5_700), 0);
        assert_eq!(window.stalls_at(PATIENCE), None);
    }

    #[test]
    fn what_did_not_fit_was_never_in_flight() {
        let mut window = Window::new(at(0), 1);
        window.sent(at(0), InFlight::Note);
        window.not_sent();
        assert!(window.has_room());
    }

    #[test]
    fn a_worker_is_quick_for_a_moment_after_it_picked_something_up() {
        let mut window = Window::new(at(0), 4);
        window.sent(at(0), InFlight::Movable);
        window.note_unread(at(1), 1);
        assert!(!window.is_responsive(at(1)));
        window.note_unread(at(2), 0);
        assert!(window.is_responsive(at(3)));
        window.sent(at(20), InFlight::Movable);
        assert!(!window.is_responsive(at(20)));
    }
}
