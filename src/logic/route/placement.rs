//! Placement: choosing a worker for a connection that may go to any.

use serde::{Deserialize, Serialize};

use super::seat::Seat;
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

    /// The slot for a connection among the seats that `fit`, or `None` when it has to wait.
    pub(super) fn choose(
        &mut self,
        now: Time,
        seats: &[Seat],
        fit: impl Fn(&Seat) -> bool,
    ) -> Option<usize> {
        let chosen = match self.balance {
            Balance::RoundRobin => return self.choose_next(seats, fit),
            Balance::Random => self.any(seats, |seat| fit(seat) && seat.has_room()),
            Balance::LeastConnection | Balance::Hash => self.least(now, seats, fit),
        }?;
        self.next = (chosen + 1) % seats.len();
        Some(chosen)
    }

    /// The next slot in the round among the seats that `fit`, or `None` when it has to wait.
    pub(super) fn choose_next(
        &mut self,
        seats: &[Seat],
        fit: impl Fn(&Seat) -> bool,
    ) -> Option<usize> {
        let chosen = self.first(seats, |seat| fit(seat) && seat.has_room())?;
        self.next = (chosen + 1) % seats.len();
        Some(chosen)
    }

    /// The slots, from the one after the last choice all the way round.
    fn round(&self, seats: &[Seat]) -> impl Iterator<Item = usize> + use<> {
        let (start, end) = (self.next.min(seats.len()), seats.len());
        (start..end).chain(0..start)
    }

    fn first(&self, seats: &[Seat], fit: impl Fn(&Seat) -> bool) -> Option<usize> {
        self.round(seats).find(|slot| fit(&seats[*slot]))
    }

    fn any(&mut self, seats: &[Seat], fit: impl Fn(&Seat) -> bool) -> Option<usize> {
        let fitting = seats.iter().filter(|seat| fit(seat)).count();
        let nth = self.rng.below(u32::try_from(fitting).unwrap_or(u32::MAX));
        let mut slots = (0..seats.len()).filter(|slot| fit(&seats[*slot]));
        slots.nth(nth as usize)
    }

    /// The worker with the fewest connections. While that one has no room, one with hardly more; and
    /// nobody while all such have none, so that a burst does not go to whoever picks up first.
    fn least(&self, now: Time, seats: &[Seat], fit: impl Fn(&Seat) -> bool) -> Option<usize> {
        let fit = |seat: &Seat| fit(seat) && !seat.is_laden() && seat.is_picking_up(now);
        let round = || self.round(seats).filter(|slot| fit(&seats[*slot]));
        let load = |slot: &usize| seats[*slot].load(now);
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
        if seats[least].has_room() {
            return Some(least);
        }
        let most = load(&least).saturating_add(self.leeway);
        let near = round().filter(|slot| load(slot) <= most && seats[*slot].has_room());
        near.min_by_key(load)
    }
}
