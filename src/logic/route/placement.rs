//! Placement: choosing a worker for a connection that may go to any.

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::terms::{Balance, RouteConfig};
use crate::logic::rng::Rng;
use crate::logic::time::Time;

/// The chooser and what it remembers of its last choice.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Placement {
    pub(super) balance: Balance,
    /// So many connections more make no difference to speak of.
    #[serde(default)]
    pub(super) leeway: u32,
    /// The slot after the one chosen last: where a round goes on and where ties are broken.
    next: usize,
    rng: Rng,
}

impl Placement {
    pub(super) fn new(config: &RouteConfig, seed: u64) -> Self {
        Self { balance: config.balance, leeway: config.leeway, next: 0, rng: Rng::new(seed) }
    }

    /// The slot for a connection among the backends that `fit`, or `None` when it has to wait.
    pub(super) fn choose(
        &mut self,
        now: Time,
        backends: &[Backend],
        fit: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let chosen = match self.balance {
            Balance::RoundRobin => return self.choose_next(backends, fit),
            Balance::Random => self.random(backends, |backend| fit(backend) && backend.has_room()),
            Balance::LeastConnection | Balance::Hash => self.least_loaded(now, backends, fit),
        }?;
        self.next = (chosen + 1) % backends.len();
        Some(chosen)
    }

    /// The next slot in the round among the backends that `fit`, or `None` when it has to wait.
    pub(super) fn choose_next(
        &mut self,
        backends: &[Backend],
        fit: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let chosen = self.first(backends, |backend| fit(backend) && backend.has_room())?;
        self.next = (chosen + 1) % backends.len();
        Some(chosen)
    }

    /// The slots, from the one after the last choice all the way round.
    fn round(&self, backends: &[Backend]) -> impl Iterator<Item = usize> + use<> {
        let (start, end) = (self.next.min(backends.len()), backends.len());
        (start..end).chain(0..start)
    }

    fn first(&self, backends: &[Backend], fit: impl Fn(&Backend) -> bool) -> Option<usize> {
        self.round(backends).find(|slot| fit(&backends[*slot]))
    }

    fn random(&mut self, backends: &[Backend], fit: impl Fn(&Backend) -> bool) -> Option<usize> {
        let fitting = backends.iter().filter(|backend| fit(backend)).count();
        let nth = self.rng.below(u32::try_from(fitting).unwrap_or(u32::MAX));
        let mut slots = (0..backends.len()).filter(|slot| fit(&backends[*slot]));
        slots.nth(nth as usize)
    }

    /// The worker with the fewest connections. While that one has no room, one with hardly more; and
    /// nobody while all such have none, so that a burst does not go to whoever picks up first.
    fn least_loaded(
        &self,
        now: Time,
        backends: &[Backend],
        fit: impl Fn(&Backend) -> bool,
    ) -> Option<usize> {
        let fit = |backend: &Backend| {
            fit(backend) && !backend.is_at_capacity() && backend.is_picking_up(now)
        };
        let round = || self.round(backends).filter(|slot| fit(&backends[*slot]));
        let load = |slot: &usize| backends[*slot].load(now);
        // The first of several minima is the next one in the round; nobody has less than nothing, so
        // that with many workers few are looked at.
        let mut least = None;
        for slot in round() {
            let load = load(&slot);
            if least.is_none_or(|(least, _)| load < least) {
                least = Some((load, slot));
            }
            if load == 0 {
                break;
            }
        }
        let (_, least) = least?;
        if backends[least].has_room() {
            return Some(least);
        }
        let most = load(&least).saturating_add(self.leeway);
        let near = round().filter(|slot| load(slot) <= most && backends[*slot].has_room());
        near.min_by_key(load)
    }
}
