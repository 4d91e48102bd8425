//! What a router leaves to its successor in another process, and what can change while it works.
//!
//! A [`Router`] is written with serde; the rules and the sizes of queues are not part of it, since they
//! come from the configuration, which may be another one by then. What is read is a [`SavedRouter`].

use serde::Deserialize;

use super::account::Account;
use super::home::Homes;
use super::lobby::Lobby;
use super::placement::Placement;
use super::seat::Rules;
use super::seats::Seats;
use super::watchlist::Watchlist;
use super::{Conn, Queues, RouteConfig, Router};
use crate::logic::Worker;
use crate::logic::time::Time;

/// A router as it was written down: where keys live, what is on its way, and who waits.
#[derive(Debug, Deserialize)]
pub struct SavedRouter {
    placement: Placement,
    homes: Homes,
    seats: Seats,
    #[serde(default)]
    retired: Vec<(Worker, Account)>,
    lobby: Lobby,
}

impl Router {
    /// The router that goes on where the saved one was, with this configuration.
    ///
    /// The number of slots and what workers were started with (doors and mint) are those of the saved
    /// one.
    pub fn restore(config: RouteConfig, queues: Queues, saved: SavedRouter) -> Self {
        let SavedRouter { placement, homes, seats, retired, lobby } = saved;
        let mut router = Self {
            config: config.clone(),
            queues,
            placement,
            homes,
            seats,
            retired: retired.into_iter().collect(),
            lobby,
            long_key: None,
            watchlist: Watchlist::default(),
        };
        router.reconfigure(config, queues);
        router
    }

    /// Another configuration holds from now on, as far as it is not what the present workers were
    /// started with: keys, placement, limits and times. The number of slots is that of
    /// [`Self::resize`].
    pub fn reconfigure(&mut self, config: RouteConfig, queues: Queues) {
        self.queues = queues;
        self.placement.balance = config.balance;
        self.placement.leeway = config.leeway;
        self.seats.set_limits(Rules::new(&config));
        self.homes.set_rules(&config, self.seats.slots());
        self.watchlist = Watchlist::of(self.seats.all());
        self.config = config;
    }

    /// There are so many slots from now on. Workers of those that are gone are withdrawn.
    pub fn resize(&mut self, now: Time, slots: u16) {
        self.seats.resize(now, slots);
        self.homes.set_rules(&self.config, slots);
    }

    /// So many connections may wait for a worker from now on.
    pub fn set_queues(&mut self, queues: Queues) {
        self.queues = queues;
    }

    /// The connections that wait, in no order.
    pub fn queued(&self) -> impl Iterator<Item = Conn> {
        let bound = self.seats.all().flat_map(|seat| &seat.queue);
        bound.chain(self.lobby.all()).map(|visitor| visitor.conn)
    }
}
