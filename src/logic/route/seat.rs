//! A seat: what the router knows of one slot and the worker in it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::terms::{Door, Visitor};
use super::window::{InFlight, Window};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How long a worker counts as fresh after it became ready.
const FRESH: Duration = Duration::from_secs(10);
/// How long a full worker that was just seen reading is worth waiting for, when it has the fewest
/// connections. Without it a burst would go to whoever happens to be scheduled first.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the router knows of one slot.
#[derive(Debug)]
pub(super) struct Seat {
    /// The ready worker, if there is one.
    pub(super) worker: Option<Worker>,
    /// It has stopped reading its channel.
    pub(super) still: bool,
    /// The doors that the worker serves, unless it serves every one.
    pub(super) doors: BTreeSet<Door>,
    every_door: bool,
    /// Connections given and not yet closed.
    pub(super) open: u32,
    /// Connections that wait for this worker and no other.
    pub(super) queue: VecDeque<Visitor>,
    pub(super) window: Window,
    ready_at: Time,
    /// The connections that a fresh worker counts as if it had them.
    handicap: u32,
}

impl Seat {
    pub(super) fn new(now: Time, in_flight: usize, every_door: bool) -> Self {
        Self {
            worker: None,
            still: false,
            doors: BTreeSet::new(),
            every_door,
            open: 0,
            queue: VecDeque::new(),
            window: Window::new(now, in_flight),
            ready_at: now,
            handicap: 0,
        }
    }

    /// A worker is ready, where each of the others has at least `floor` connections.
    pub(super) fn occupy(&mut self, now: Time, worker: Worker, floor: u32) {
        self.worker = Some(worker);
        self.ready_at = now;
        self.handicap = floor;
    }

    /// The seat is empty; returns who waited for the worker that is gone.
    pub(super) fn vacate(&mut self, now: Time) -> VecDeque<Visitor> {
        self.worker = None;
        self.still = false;
        self.doors.clear();
        self.open = 0;
        self.window.clear(now);
        std::mem::take(&mut self.queue)
    }

    /// Whether connections that may go anywhere may go here.
    pub(super) fn takes_anyone(&self) -> bool {
        self.worker.is_some() && !self.still
    }

    /// Whether its worker serves this door.
    pub(super) fn serves(&self, door: Door) -> bool {
        self.every_door || self.doors.contains(&door)
    }

    /// Whether it has room, or is so likely to have some at once that waiting for it is right.
    pub(super) fn is_picking_up(&self, now: Time) -> bool {
        self.window.has_room() || self.patience_ends().is_some_and(|end| now < end)
    }

    /// When a full worker stops being worth waiting for.
    pub(super) fn patience_ends(&self) -> Option<Time> {
        self.window.still_at(PATIENCE)
    }

    /// The connections that least-connection counts.
    ///
    /// A fresh worker counts as if it had those, too, that each of the others had when it became
    /// ready, a part of them that shrinks with time. So it catches up over [`FRESH`] and is not
    /// flooded with everything that arrives.
    pub(super) fn load(&self, now: Time) -> u32 {
        let left = FRESH.saturating_sub(now - self.ready_at).as_millis();
        let part = u128::from(self.handicap) * left / FRESH.as_millis();
        self.open.saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
    }

    pub(super) fn given(&mut self, now: Time, what: InFlight) {
        self.open = self.open.saturating_add(1);
        self.window.sent(now, what);
    }
}
