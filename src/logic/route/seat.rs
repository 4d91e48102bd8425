//! A seat: what the router knows of one slot and the worker in it, or of one that drains.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::terms::{Door, RouteConfig, Visitor};
use super::window::{InFlight, Window};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How long a worker counts as fresh after it became ready.
const FRESH: Duration = Duration::from_secs(10);
/// How long a full worker that was just seen reading is worth waiting for, when it has the fewest
/// connections. Without it a burst would go to whoever happens to be scheduled first.
const PATIENCE: Duration = Duration::from_millis(50);

/// What holds for every seat.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Rules {
    /// How many messages may be in flight to a worker.
    pub(super) in_flight: usize,
    /// How many connections a worker may have open.
    pub(super) most_open: u32,
    /// Every worker serves every door, without saying so.
    pub(super) every_door: bool,
}

impl Rules {
    pub(super) fn new(config: &RouteConfig) -> Self {
        Self {
            in_flight: config.in_flight,
            most_open: config.most_open.unwrap_or(u32::MAX),
            every_door: config.every_door,
        }
    }
}

/// What the router knows of one slot, or of a withdrawn worker.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Seat {
    /// The ready worker, if there is one.
    pub(super) worker: Option<Worker>,
    /// It has stopped reading its channel.
    pub(super) still: bool,
    /// The doors that the worker serves, unless it serves every one.
    pub(super) doors: BTreeSet<Door>,
    every_door: bool,
    #[serde(rename = "open")]
    pub(super) account: Account,
    /// The worker has no room with that many.
    most_open: u32,
    /// Connections that wait for this worker and no other.
    pub(super) queue: VecDeque<Visitor>,
    pub(super) window: Window,
    ready_at: Time,
    /// The connections that a fresh worker counts as if it had them.
    handicap: u32,
    /// A worker that mints said that none of its sessions is left, and not since then that one is.
    pub(super) quiet: bool,
}

impl Seat {
    /// An empty one.
    pub(super) fn new(now: Time, rules: Rules) -> Self {
        Self {
            worker: None,
            still: false,
            doors: BTreeSet::new(),
            every_door: rules.every_door,
            account: Account::default(),
            most_open: rules.most_open,
            queue: VecDeque::new(),
            window: Window::new(now, rules.in_flight),
            ready_at: now,
            handicap: 0,
            quiet: false,
        }
    }

    /// Other limits hold from now on; they cost no connection that is there.
    pub(super) fn set_limits(&mut self, rules: Rules) {
        self.most_open = rules.most_open;
        self.window.set_limit(rules.in_flight);
    }

    /// A worker is ready, where each of the others counts as having at least `floor` connections.
    pub(super) fn occupy(&mut self, now: Time, worker: Worker, floor: u32) {
        self.worker = Some(worker);
        self.ready_at = now;
        self.handicap = floor.saturating_sub(self.account.open());
    }

    /// The worker is gone; returns who waited for it.
    pub(super) fn vacate(&mut self, now: Time) -> VecDeque<Visitor> {
        self.worker = None;
        self.still = false;
        self.quiet = false;
        self.doors.clear();
        self.account = Account::default();
        self.window.clear(now);
        std::mem::take(&mut self.queue)
    }

    /// Whether connections that may go anywhere may go here, if it is present.
    pub(super) fn takes_anyone(&self) -> bool {
        self.worker.is_some() && !self.still
    }

    /// Whether its worker serves this door.
    pub(super) fn serves(&self, door: Door) -> bool {
        self.every_door || self.doors.contains(&door)
    }

    /// Whether its worker can be given a connection now.
    pub(super) fn has_room(&self) -> bool {
        self.window.has_room() && !self.is_laden()
    }

    /// Whether its worker has as many connections open as it may have.
    pub(super) fn is_laden(&self) -> bool {
        self.account.open() >= self.most_open
    }

    /// Whether there is room on the way to it, or is so likely to be some at once that waiting for it
    /// is right.
    pub(super) fn is_picking_up(&self, now: Time) -> bool {
        self.window.has_room() || self.patience_ends().is_some_and(|end| now < end)
    }

    /// When a full worker stops being worth waiting for.
    pub(super) fn patience_ends(&self) -> Option<Time> {
        self.window.still_at(PATIENCE)
    }

    /// Whether nothing is on its way to its worker, open there, or waiting for it.
    pub(super) fn is_clear(&self) -> bool {
        self.account.open() == 0 && self.window.len() == 0 && self.queue.is_empty()
    }

    /// The connections that least-connection counts.
    ///
    /// A fresh worker counts as if it had those, too, that each of the others counted when it became
    /// ready, a part of them that shrinks with time. So it catches up over [`FRESH`] and is not
    /// flooded with everything that arrives.
    pub(super) fn load(&self, now: Time) -> u32 {
        if self.handicap == 0 {
            return self.account.open();
        }
        let left = FRESH.saturating_sub(now - self.ready_at).as_millis();
        let part = u128::from(self.handicap) * left / FRESH.as_millis();
        self.account.open().saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
    }

    pub(super) fn given(&mut self, now: Time, what: InFlight) {
        self.account.given();
        self.window.sent(now, what);
    }
}
