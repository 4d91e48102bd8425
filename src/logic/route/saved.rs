//! What a router leaves to its successor in another process, and what can change while it works.
//!
//! A [`Router`] is written with serde; the rules and the sizes of queues are not part of it, since they
//! come from the configuration, which may be another one by then. What is read is a [`SavedRouter`].

use serde::Deserialize;

use super::affinity::Affinity;
use super::backend::Limits;
use super::open_count::OpenCount;
use super::placement::Placement;
use super::pool::Pool;
use super::unassigned::Unassigned;
use super::watchlist::Watchlist;
use super::{QueueLimits, RouteConfig, Router};
use crate::logic::Worker;
use crate::logic::time::Time;

/// A router as it was written down: owners of keys, what is in flight, and what is queued.
#[derive(Debug, Deserialize)]
pub struct SavedRouter {
    placement: Placement,
    affinity: Affinity,
    pool: Pool,
    #[serde(default)]
    removed: Vec<(Worker, OpenCount)>,
    unassigned: Unassigned,
}

impl Router {
    /// A router that continues from the saved one, with this configuration.
    ///
    /// The number of slots and what workers were started with (listeners and mint) are those of the saved
    /// one.
    pub fn restore(config: RouteConfig, queues: QueueLimits, saved: SavedRouter) -> Self {
        let SavedRouter { placement, affinity, pool, removed, unassigned } = saved;
        let mut router = Self {
            config: config.clone(),
            queue_limits: queues,
            placement,
            affinity,
            pool,
            removed: removed.into_iter().collect(),
            unassigned,
            long_key: None,
            watchlist: Watchlist::default(),
        };
        router.reconfigure(config, queues);
        router
    }

    /// Applies another configuration, as far as it is not what the current workers were
    /// started with: keys, placement, limits and times. The number of slots is that of
    /// [`Self::resize`].
    pub fn reconfigure(&mut self, config: RouteConfig, queues: QueueLimits) {
        self.queue_limits = queues;
        self.placement.balance = config.balance;
        self.placement.leeway = config.leeway;
        self.pool.set_limits(Limits::new(&config));
        self.affinity.set_rules(&config, self.pool.slots());
        self.watchlist = Watchlist::of(self.pool.all());
        self.config = config;
    }

    /// There are so many slots from now on. Workers of those that are gone drain.
    pub fn resize(&mut self, now: Time, slots: u16) {
        self.pool.resize(now, slots);
        self.affinity.set_rules(&self.config, slots);
    }

    /// So many connections may be queued for a worker from now on.
    pub fn set_queues(&mut self, queues: QueueLimits) {
        self.queue_limits = queues;
    }
}
