//! Seats: the workers that the router may give connections to.
//!
//! Each slot has a seat for its *present* worker, the one that takes new keys. A *withdrawn* worker
//! has left that seat to its successor, or its slot is no more. It keeps a seat of its own for as long
//! as it lives, since the keys that live on it go on leading there.

use std::collections::BTreeMap;
use std::mem;

use serde::{Deserialize, Serialize};

use super::seat::{Rules, Seat};
use crate::logic::Worker;
use crate::logic::time::Time;

/// All seats.
#[derive(Debug, Deserialize, Serialize)]
#[serde(try_from = "Written")]
pub(super) struct Seats {
    rules: Rules,
    /// Those of the slots, in their order.
    present: Vec<Seat>,
    /// Those of withdrawn workers; none of them is empty.
    #[serde(serialize_with = "without_keys")]
    withdrawn: BTreeMap<Worker, Seat>,
}

/// Seats as they are written down.
#[derive(Deserialize)]
struct Written {
    rules: Rules,
    present: Vec<Seat>,
    withdrawn: Vec<Seat>,
}

/// Why what was written down are no seats.
#[derive(Debug, thiserror::Error)]
enum WrongSeats {
    #[error("{0} sits in the wrong seat")]
    Misplaced(Worker),
    #[error("a withdrawn worker is missing")]
    Empty,
    #[error("there are more seats than slots can be")]
    TooMany,
}

impl Seats {
    pub(super) fn new(now: Time, slots: u16, rules: Rules) -> Self {
        let present = (0..slots).map(|_| Seat::new(now, rules)).collect();
        Self { rules, present, withdrawn: BTreeMap::new() }
    }

    /// The seats of the slots, for choosing among them.
    pub(super) fn present(&self) -> &[Seat] {
        &self.present
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> u16 {
        u16::try_from(self.present.len()).expect("as many as `new`, `resize` or `try_from` allowed")
    }

    /// Whether every worker serves every door.
    pub(super) fn every_door(&self) -> bool {
        self.rules.every_door
    }

    /// The seat of a live worker, present or withdrawn.
    pub(super) fn get(&self, worker: Worker) -> Option<&Seat> {
        match self.present.get(usize::from(worker.slot)) {
            Some(seat) if seat.worker == Some(worker) => Some(seat),
            Some(_) | None => self.withdrawn.get(&worker),
        }
    }

    pub(super) fn get_mut(&mut self, worker: Worker) -> Option<&mut Seat> {
        match self.present.get_mut(usize::from(worker.slot)) {
            Some(seat) if seat.worker == Some(worker) => Some(seat),
            Some(_) | None => self.withdrawn.get_mut(&worker),
        }
    }

    /// All seats, empty ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Seat> {
        self.present.iter().chain(self.withdrawn.values())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Seat> {
        self.present.iter_mut().chain(self.withdrawn.values_mut())
    }

    /// Those of withdrawn workers.
    pub(super) fn withdrawn(&self) -> &BTreeMap<Worker, Seat> {
        &self.withdrawn
    }

    /// The seat that a worker which became ready takes, empty or already its own; `None` if it has no
    /// slot. Whoever sat there is withdrawn.
    pub(super) fn seat_for(&mut self, now: Time, worker: Worker) -> Option<&mut Seat> {
        let before = self.present.get(usize::from(worker.slot))?.worker;
        if let Some(before) = before.filter(|before| *before != worker) {
            self.withdraw(now, before);
        }
        let seat = &mut self.present[usize::from(worker.slot)];
        if let Some(own) = self.withdrawn.remove(&worker) {
            *seat = own;
        }
        Some(seat)
    }

    /// The worker leaves the seat of its slot and gets one of its own.
    pub(super) fn withdraw(&mut self, now: Time, worker: Worker) {
        if let Some(seat) = self.present.get_mut(usize::from(worker.slot))
            && seat.worker == Some(worker)
        {
            let own = mem::replace(seat, Seat::new(now, self.rules));
            self.withdrawn.insert(worker, own);
        }
    }

    /// A withdrawn worker is gone, and its seat with it.
    pub(super) fn forget(&mut self, worker: Worker) {
        self.withdrawn.remove(&worker);
    }

    /// There are so many slots from now on; the workers of those that are gone are withdrawn.
    pub(super) fn resize(&mut self, now: Time, slots: u16) {
        let kept = usize::from(slots).min(self.present.len());
        for seat in self.present.split_off(kept) {
            if let Some(worker) = seat.worker {
                self.withdrawn.insert(worker, seat);
            }
        }
        let rules = self.rules;
        self.present.resize_with(usize::from(slots), || Seat::new(now, rules));
    }

    /// Other limits hold from now on. What doors workers serve is theirs to say, as before.
    pub(super) fn set_limits(&mut self, rules: Rules) {
        self.rules = Rules { every_door: self.rules.every_door, ..rules };
        for seat in self.all_mut() {
            seat.set_limits(rules);
        }
    }
}

impl TryFrom<Written> for Seats {
    type Error = WrongSeats;

    fn try_from(written: Written) -> Result<Self, WrongSeats> {
        let Written { rules, present, withdrawn } = written;
        let slots = u16::try_from(present.len()).map_err(|_| WrongSeats::TooMany)?;
        for (slot, seat) in (0..slots).zip(&present) {
            if let Some(worker) = seat.worker.filter(|worker| worker.slot != slot) {
                return Err(WrongSeats::Misplaced(worker));
            }
        }
        let mut seats = Self { rules, present, withdrawn: BTreeMap::new() };
        for seat in withdrawn {
            let worker = seat.worker.ok_or(WrongSeats::Empty)?;
            if seats.get(worker).is_some() {
                return Err(WrongSeats::Misplaced(worker));
            }
            seats.withdrawn.insert(worker, seat);
        }
        Ok(seats)
    }
}

fn without_keys<S: serde::Serializer>(
    seats: &BTreeMap<Worker, Seat>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(seats.values())
}
