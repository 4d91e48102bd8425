//! Memory: which worker owns which key.
//!
//! Keys are kept in segments. Each segment has a cap and evicts its least recently used key for a new
//! one, so a segment never takes room from another. A key unused for the idle time is forgotten. A
//! key is stored as its fingerprint, so its length costs nothing.
//!
//! A memory does not know which workers live. Keys of a worker that is gone stay until they are
//! asked for or become the oldest of their segment, so a worker's death costs nothing here. Of each
//! worker it knows how many keys there are and when one was used last, so that the end of a drain is
//! seen without a search.
//!
//! A memory is written down as the entries alone, segment by segment, as one string of bytes: a million
//! keys are 28 MB.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use serde::{Deserialize, Serialize, Serializer};

use super::hash::Fingerprint;
use super::segment::{Index, KeyEntry, RECORD, Segments};
use crate::logic::Worker;
use crate::logic::time::Time;

/// How many idle keys are cleared away at most in one step, so that nobody waits for it.
const SWEEP: usize = 1024;

/// Which worker owns which key.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Memory {
    table: HashTable<Index>,
    segments: Segments,
    /// What each worker has here; none has nothing.
    tallies: BTreeMap<Worker, Tally>,
    /// The most keys in one segment.
    cap: usize,
    /// Whole seconds after which an unused key is forgotten.
    idle: u32,
}

/// What is remembered of one worker.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    keys: usize,
    /// When the last used of its keys was used, in seconds, or later.
    used: u32,
}

/// A memory as it is written down; the limits are not part of it.
#[derive(Deserialize, Serialize)]
struct Written {
    #[serde(with = "serde_bytes")]
    entries: Vec<u8>,
}

/// Why what was written down is no memory.
#[derive(Debug, thiserror::Error)]
enum WrongMemory {
    #[error("the remembered keys are cut off")]
    CutOff,
    #[error("a key is remembered twice")]
    Twice,
}

impl Memory {
    /// An empty memory with at most `cap` keys in a segment, at least one.
    pub fn new(cap: usize, idle: Duration) -> Self {
        let mut memory = Self {
            table: HashTable::new(),
            segments: Segments::new(),
            tallies: BTreeMap::new(),
            cap: 1,
            idle: 0,
        };
        memory.set_limits(cap, idle);
        memory
    }

    /// Applies other limits. Segments with too many keys lose them as new ones come.
    pub fn set_limits(&mut self, cap: usize, idle: Duration) {
        self.cap = cap.max(1);
        self.idle = u32::try_from(idle.as_secs()).unwrap_or(u32::MAX);
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
        let entry = self.segments.entry(index);
        let worker = entry.worker();
        if entry.used < now.seconds()
            && let Some(tally) = self.tallies.get_mut(&worker)
        {
            tally.used = tally.used.max(now.seconds());
        }
        self.segments.touch(index, now.seconds());
        Some(worker)
    }

    /// Remembers that `worker` owns this key, in `segment`, whoever owned it before.
    pub fn set(&mut self, now: Time, key: Fingerprint, worker: Worker, segment: u16) {
        self.forget(key);
        self.make_room(now, segment);
        self.add(KeyEntry::new(key, worker, segment, now.seconds()));
    }

    /// Forgets a key.
    pub fn forget(&mut self, key: Fingerprint) {
        let segments = &self.segments;
        let same = |index: &Index| segments.entry(*index).key == key;
        let Ok(found) = self.table.find_entry(key.short(), same) else { return };
        let (index, _) = found.remove();
        let worker = self.segments.entry(index).worker();
        self.segments.remove(index);
        if let Some(tally) = self.tallies.get_mut(&worker) {
            tally.keys -= 1;
            if tally.keys == 0 {
                self.tallies.remove(&worker);
            }
        }
    }

    /// Whether a key of this worker may still be asked for.
    pub fn knows(&self, now: Time, worker: Worker) -> bool {
        let tally = self.tallies.get(&worker);
        tally.is_some_and(|tally| now.seconds().saturating_sub(tally.used) <= self.idle)
    }

    /// When [`Self::knows`] ends at the latest if nobody uses a key of this worker before; `None` if it
    /// has none.
    pub fn idle_at(&self, worker: Worker) -> Option<Time> {
        let seconds = u64::from(self.tallies.get(&worker)?.used) + u64::from(self.idle) + 1;
        Some(Time::since_zero(Duration::from_secs(seconds)))
    }

    /// Clears some of the idle keys of a segment away.
    pub fn sweep(&mut self, now: Time, segment: u16) {
        for _ in 0..SWEEP {
            match self.segments.oldest(segment) {
                Some(oldest) if self.is_idle(now, oldest) => {
                    self.forget(self.segments.entry(oldest).key);
                }
                Some(_) | None => return,
            }
        }
    }

    fn find(&self, key: Fingerprint) -> Option<Index> {
        self.table.find(key.short(), |index| self.segments.entry(*index).key == key).copied()
    }

    fn is_idle(&self, now: Time, index: Index) -> bool {
        now.seconds().saturating_sub(self.segments.entry(index).used) > self.idle
    }

    /// Adds an entry whose key is not there.
    fn add(&mut self, entry: KeyEntry) {
        self.count(&entry);
        let short = entry.key.short();
        let index = self.segments.add(entry);
        let segments = &self.segments;
        self.table.insert_unique(short, index, |index| segments.entry(*index).key.short());
    }

    /// Adds an entry that was written down; an error if its key is there.
    fn restore(&mut self, entry: KeyEntry) -> Result<(), WrongMemory> {
        let segments = &self.segments;
        let same = |index: &Index| segments.entry(*index).key == entry.key;
        let short = |index: &Index| segments.entry(*index).key.short();
        let place = match self.table.entry(entry.key.short(), same, short) {
            Place::Vacant(place) => place,
            Place::Occupied(_) => return Err(WrongMemory::Twice),
        };
        place.insert(self.segments.add(entry));
        self.count(&entry);
        Ok(())
    }

    fn count(&mut self, entry: &KeyEntry) {
        let tally = self.tallies.entry(entry.worker()).or_default();
        tally.keys += 1;
        tally.used = tally.used.max(entry.used);
    }

    /// Frees at least one place in a full segment, and up to two that nobody asked for in time, so
    /// that a memory shrinks while it is used.
    fn make_room(&mut self, now: Time, segment: u16) {
        for _ in 0..2 {
            let Some(oldest) = self.segments.oldest(segment) else { return };
            if self.segments.len(segment) < self.cap && !self.is_idle(now, oldest) {
                return;
            }
            self.forget(self.segments.entry(oldest).key);
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = Vec::with_capacity(self.len() * RECORD);
        for entry in self.segments.all() {
            entry.write(&mut entries);
        }
        Written { entries }.serialize(serializer)
    }
}

impl TryFrom<Written> for Memory {
    type Error = WrongMemory;

    /// The limits that hold are still to be set.
    fn try_from(written: Written) -> Result<Self, WrongMemory> {
        let entries = KeyEntry::read(&written.entries).ok_or(WrongMemory::CutOff)?;
        let mut memory = Self::new(usize::MAX, Duration::MAX);
        let segments = &memory.segments;
        memory.table.reserve(entries.len(), |index| segments.entry(*index).key.short());
        for entry in entries {
            memory.restore(entry)?;
        }
        Ok(memory)
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
    fn a_full_segment_evicts_its_least_recently_used_key_and_no_other_segment_does() {
        let mut memory = Memory::new(3, IDLE);
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
        let mut memory = Memory::new(10, IDLE);
        memory.set(at(0), key(1), worker(0), 0);
        assert_eq!(memory.get(at(60), key(1)), Some(worker(0)));
        assert_eq!(memory.get(at(120), key(1)), Some(worker(0)));
        assert_eq!(memory.get(at(181), key(1)), None);
        assert!(memory.is_empty());
    }

    #[test]
    fn new_keys_clear_away_idle_ones() {
        let mut memory = Memory::new(1_000, IDLE);
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
        let mut memory = Memory::new(1, IDLE);
        memory.set(at(0), key(1), worker(0), 0);
        memory.set(at(0), key(1), worker(1), 1);
        memory.set(at(0), key(2), worker(0), 0);
        assert_eq!(memory.get(at(0), key(1)), Some(worker(1)));
        assert_eq!(memory.get(at(0), key(2)), Some(worker(0)));
    }

    #[test]
    fn it_knows_of_each_worker_until_when_it_has_a_key() {
        let mut memory = Memory::new(10, IDLE);
        memory.set(at(0), key(1), worker(0), 0);
        memory.set(at(5), key(2), worker(0), 0);
        memory.set(at(7), key(3), worker(1), 0);
        assert_eq!(memory.get(at(9), key(2)), Some(worker(0)));
        assert_eq!(memory.idle_at(worker(0)), Some(at(9 + 60 + 1)));
        assert!(memory.knows(at(69), worker(0)) && !memory.knows(at(70), worker(0)));
        memory.forget(key(2));
        assert!(memory.knows(at(60), worker(0)));
        memory.forget(key(1));
        assert_eq!((memory.idle_at(worker(0)), memory.knows(at(9), worker(0))), (None, false));
        memory.sweep(at(100), 0);
        assert!(memory.is_empty() && !memory.knows(at(0), worker(1)));
    }

    #[test]
    fn half_an_entry_or_one_that_is_there_twice_is_an_error() {
        let mut memory = Memory::new(10, IDLE);
        memory.set(at(0), key(1), worker(3), 7);
        let mut entries = Vec::new();
        memory.segments.all().for_each(|entry| entry.write(&mut entries));
        let read = |entries: &[u8]| Memory::try_from(Written { entries: entries.to_vec() });
        assert_eq!(read(&entries).unwrap().get(at(1), key(1)), Some(worker(3)));
        assert!(matches!(read(&entries[..27]), Err(WrongMemory::CutOff)));
        assert!(matches!(read(&entries.repeat(2)), Err(WrongMemory::Twice)));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_list(steps in prop::collection::vec((0..4_u8, 0..12_u32, 0..2_u16), 1..200)) {
            let mut memory = Memory::new(4, IDLE);
            let mut model: Vec<(u32, u16)> = Vec::new();
            for (what, number, segment) in steps {
                let found = model.iter().position(|(known, _)| *known == number);
                match what {
                    0 => {
                        memory.forget(key(number));
                        found.map(|place| model.remove(place));
                    }
                    1 => {
                        let used = found.map(|place| model.remove(place));
                        model.extend(used);
                        let expected = used.map(|(_, segment)| worker(segment));
                        prop_assert_eq!(memory.get(at(0), key(number)), expected);
                    }
                    _ => {
                        memory.set(at(0), key(number), worker(segment), segment);
                        found.map(|place| model.remove(place));
                        if model.iter().filter(|(_, on)| *on == segment).count() == 4 {
                            let oldest = model.iter().position(|(_, on)| *on == segment);
                            model.remove(oldest.unwrap());
                        }
                        model.push((number, segment));
                    }
                }
                prop_assert_eq!(memory.len(), model.len());
            }
        }
    }
}
