//! Memory: which key lives on which worker.
//!
//! Keys stand on shelves. Each shelf has a cap and loses its longest unused key to a new one, so a
//! shelf never takes room from another. A key that was not used for the idle time is forgotten. A
//! key is stored as its fingerprint, so its length costs nothing.
//!
//! A memory does not know which workers live. Keys of a worker that is gone stay until they are
//! asked for or become the oldest of their shelf, so a worker's death costs nothing here.

use std::time::Duration;

use hashbrown::HashTable;

use super::hash::Fingerprint;
use super::shelf::{Entry, Index, Shelves};
use crate::logic::Worker;
use crate::logic::time::Time;

/// Which key lives on which worker.
#[derive(Debug)]
pub struct Memory {
    table: HashTable<Index>,
    shelves: Shelves,
    /// The most keys on one shelf.
    cap: usize,
    /// Whole seconds after which an unused key is forgotten.
    idle: u32,
}

impl Memory {
    /// An empty memory of `shelves` shelves with at most `cap` keys each, at least one.
    pub fn new(shelves: u16, cap: usize, idle: Duration) -> Self {
        let idle = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
        Self { table: HashTable::new(), shelves: Shelves::new(shelves), cap: cap.max(1), idle }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The worker of a key, which counts as used now.
    pub fn get(&mut self, now: Time, key: Fingerprint) -> Option<Worker> {
        let index = self.find(key)?;
        if self.is_idle(now, index) {
            self.forget(key);
            return None;
        }
        self.shelves.touch(index, now.seconds());
        Some(self.shelves.entry(index).worker())
    }

    /// Remembers that this key lives on `worker`, on `shelf`, wherever it lived before.
    pub fn set(&mut self, now: Time, key: Fingerprint, worker: Worker, shelf: u16) {
        self.forget(key);
        self.make_room(now, shelf);
        let index = self.shelves.add(Entry::new(key, worker, shelf, now.seconds()));
        let shelves = &self.shelves;
        self.table.insert_unique(key.short(), index, |index| shelves.entry(*index).key.short());
    }

    /// Forgets a key.
    pub fn forget(&mut self, key: Fingerprint) {
        let shelves = &self.shelves;
        let same = |index: &Index| shelves.entry(*index).key == key;
        if let Ok(found) = self.table.find_entry(key.short(), same) {
            let (index, _) = found.remove();
            self.shelves.remove(index);
        }
    }

    fn find(&self, key: Fingerprint) -> Option<Index> {
        self.table.find(key.short(), |index| self.shelves.entry(*index).key == key).copied()
    }

    fn is_idle(&self, now: Time, index: Index) -> bool {
        now.seconds().saturating_sub(self.shelves.entry(index).used) > self.idle
    }

    /// Frees at least one place on a full shelf, and up to two that nobody asked for in time, so
    /// that a memory shrinks while it is used.
    fn make_room(&mut self, now: Time, shelf: u16) {
        for _ in 0..2 {
            let Some(oldest) = self.shelves.oldest(shelf) else { return };
            if self.shelves.len(shelf) < self.cap && !self.is_idle(now, oldest) {
                return;
            }
            self.forget(self.shelves.entry(oldest).key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time::since_zero(Duration::from_secs(seconds))
    }

    fn key(number: u32) -> Fingerprint {
        Fingerprint::new((0, 0), &number.to_be_bytes())
    }

    fn worker(slot: u16) -> Worker {
        Worker { slot, generation: 0 }
    }

    #[test]
    fn a_full_shelf_loses_its_longest_unused_key_and_no_other_shelf_does() {
        let mut memory = Memory::new(2, 3, IDLE);
        memory.set(at(0), key(100), worker(1), 1);
        for number in 0..3 {
            memory.set(at(0), key(number), worker(0), 0);
        }
        assert_eq!(memory.get(at(1), key(0)), Some(worker(0)));
        memory.set(at(1), key(3), worker(0), 0);
        assert_eq!(memory.get(at(1), key(1)), None);
        for number in [0, 2, 3] {
            assert_eq!(memory.get(at(1), key(number)), Some(worker(0)));
        }
        assert_eq!(memory.get(at(1), key(100)), Some(worker(1)));
    }

    #[test]
    fn a_key_is_forgotten_when_it_was_not_used_for_the_idle_time() {
        let mut memory = Memory::new(1, 10, IDLE);
        memory.set(at(0), key(1), worker(0), 0);
        assert_eq!(memory.get(at(60), key(1)), Some(worker(0)));
        assert_eq!(memory.get(at(120), key(1)), Some(worker(0)));
        assert_eq!(memory.get(at(181), key(1)), None);
        assert!(memory.is_empty());
    }

    #[test]
    fn new_keys_clear_away_idle_ones() {
        let mut memory = Memory::new(1, 1_000, IDLE);
        for number in 0..100 {
            memory.set(at(0), key(number), worker(0), 0);
        }
        for number in 100..150 {
            memory.set(at(100), key(number), worker(0), 0);
        }
        assert_eq!(memory.len(), 50);
    }

    #[test]
    fn a_key_moves_with_its_new_worker_to_another_shelf() {
        let mut memory = Memory::new(2, 1, IDLE);
        memory.set(at(0), key(1), worker(0), 0);
        memory.set(at(0), key(1), worker(1), 1);
        memory.set(at(0), key(2), worker(0), 0);
        assert_eq!(memory.get(at(0), key(1)), Some(worker(1)));
        assert_eq!(memory.get(at(0), key(2)), Some(worker(0)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_list(steps in prop::collection::vec((0..4_u8, 0..12_u32, 0..2_u16), 1..200)) {
            let mut memory = Memory::new(2, 4, IDLE);
            let mut model: Vec<(u32, u16)> = Vec::new();
            for (what, number, shelf) in steps {
                let found = model.iter().position(|(known, _)| *known == number);
                match what {
                    0 => {
                        memory.forget(key(number));
                        found.map(|place| model.remove(place));
                    }
                    1 => {
                        let used = found.map(|place| model.remove(place));
                        model.extend(used);
                        let expected = used.map(|(_, shelf)| worker(shelf));
                        prop_assert_eq!(memory.get(at(0), key(number)), expected);
                    }
                    _ => {
                        memory.set(at(0), key(number), worker(shelf), shelf);
                        found.map(|place| model.remove(place));
                        if model.iter().filter(|(_, on)| *on == shelf).count() == 4 {
                            let oldest = model.iter().position(|(_, on)| *on == shelf);
                            model.remove(oldest.unwrap());
                        }
                        model.push((number, shelf));
                    }
                }
                prop_assert_eq!(memory.len(), model.len());
            }
        }
    }
}
