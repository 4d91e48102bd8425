//! A backend: what the router knows of one slot and the worker in it, or of one that drains.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::open_count::OpenCount;
use super::terms::{Candidate, ListenerId, RouteConfig};
use super::window::{InFlight, Window};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How long a worker counts as new after it became ready.
const SLOW_START: Duration = Duration::from_secs(10);
/// How long a full worker that was just seen reading is worth waiting for when it has the fewest
/// connections. Without it a burst would go to whoever happens to be scheduled first.
const PATIENCE: Duration = Duration::from_millis(50);

/// What holds for every backend.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Limits {
    /// How many messages may be in flight to a worker.
    pub(super) in_flight: usize,
    /// How many connections a worker may have open.
    pub(super) max_open: u32,
    /// Every worker serves every listener, without saying so.
    pub(super) all_listeners: bool,
}

impl Limits {
    pub(super) fn new(config: &RouteConfig) -> Self {
        Self {
            in_flight: config.in_flight,
            max_open: config.max_open.unwrap_or(u32::MAX),
            all_listeners: config.all_listeners,
        }
    }
}

/// What the router knows of one slot, or of a draining worker.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Backend {
    /// The ready worker, if there is one.
    pub(super) worker: Option<Worker>,
    /// It has stopped reading its channel.
    pub(super) stalled: bool,
    /// The listeners that the worker serves, unless it serves every one.
    pub(super) listeners: BTreeSet<ListenerId>,
    all_listeners: bool,
    #[serde(rename = "open")]
    pub(super) open: OpenCount,
    /// With that many the worker is at capacity.
    max_open: u32,
    /// Connections queued for this worker and no other.
    pub(super) queue: VecDeque<Candidate>,
    pub(super) window: Window,
    ready_at: Time,
    /// The connections that a new worker counts as if it had them.
    handicap: u32,
    /// A worker that mints said that none of its sessions is left, and not since then that one is.
    pub(super) sessions_over: bool,
}

impl Backend {
    /// An empty one.
    pub(super) fn new(now: Time, limits: Limits) -> Self {
        Self {
            worker: None,
            stalled: false,
            listeners: BTreeSet::new(),
            all_listeners: limits.all_listeners,
            open: OpenCount::default(),
            max_open: limits.max_open,
            queue: VecDeque::new(),
            window: Window::new(now, limits.in_flight),
            ready_at: now,
            handicap: 0,
            sessions_over: false,
        }
    }

    /// Applies other limits; they cost no connection that is there.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.max_open = limits.max_open;
        self.window.set_limit(limits.in_flight);
    }

    /// A worker is ready, where each of the others counts as having at least `floor` connections.
    pub(super) fn attach(&mut self, now: Time, worker: Worker, floor: u32) {
        self.worker = Some(worker);
        self.ready_at = now;
        self.handicap = floor.saturating_sub(self.open.get());
    }

    /// The worker is gone; returns the connections that were queued for it.
    pub(super) fn detach(&mut self, now: Time) -> VecDeque<Candidate> {
        self.worker = None;
        self.stalled = false;
        self.sessions_over = false;
        self.listeners.clear();
        self.open = OpenCount::default();
        self.window.clear(now);
        std::mem::take(&mut self.queue)
    }

    /// Whether connections with new keys may go here, if it is current.
    pub(super) fn accepts_new(&self) -> bool {
        self.worker.is_some() && !self.stalled
    }

    /// Whether its worker serves this listener.
    pub(super) fn serves(&self, listener: ListenerId) -> bool {
        self.all_listeners || self.listeners.contains(&listener)
    }

    /// Whether a connection can be sent to it now.
    pub(super) fn has_room(&self) -> bool {
        self.window.has_room() && !self.is_at_capacity()
    }

    /// Whether its worker has as many connections open as it may have.
    pub(super) fn is_at_capacity(&self) -> bool {
        self.open.get() >= self.max_open
    }

    /// Whether there is room on the way to it, or is so likely to be some at once that waiting for it
    /// is right.
    pub(super) fn is_picking_up(&self, now: Time) -> bool {
        self.window.has_room() || self.worth_waiting_until().is_some_and(|end| now < end)
    }

    /// When a full worker stops being worth waiting for.
    pub(super) fn worth_waiting_until(&self) -> Option<Time> {
        self.window.stalls_at(PATIENCE)
    }

    /// Whether nothing is in flight to its worker, open there, or queued for it.
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0 && self.window.len() == 0 && self.queue.is_empty()
    }

    /// The connections that least-connection counts.
    ///
    /// A new worker counts as if it had those, too, that each of the others counted when it became
    /// ready, a part of them that shrinks with time. So it catches up over [`SLOW_START`] and is not
    /// flooded with everything that arrives.
    pub(super) fn load(&self, now: Time) -> u32 {
        if self.handicap == 0 {
            return self.open.get();
        }
        let left = SLOW_START.saturating_sub(now - self.ready_at).as_millis();
        let part = u128::from(self.handicap) * left / SLOW_START.as_millis();
        self.open.get().saturating_add(u32::try_from(part).unwrap_or(u32::MAX))
    }

    pub(super) fn sent(&mut self, now: Time, what: InFlight) {
        self.open.opened();
        self.window.sent(now, what);
    }
}
