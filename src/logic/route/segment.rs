//! The entries of a memory in segments, each a list with the least recently used entry first.
//!
//! An entry takes 36 bytes. Entries lie in blocks that never move, so a memory that grows copies
//! none of them. A segment exists as soon as it has an entry.

use std::{iter, mem};

use super::hash::Fingerprint;
use crate::logic::Worker;

/// The number of an entry, or [`NIL`].
pub(super) type Index = u32;
/// No entry.
const NIL: Index = Index::MAX;
/// The length of an entry that is written down.
pub(super) const RECORD: usize = 28;
/// Entries in one block.
const BLOCK: usize = 4096;

/// One remembered key.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyEntry {
    pub(super) key: Fingerprint,
    /// When it was last used, in seconds of the monotonic clock.
    pub(super) used: u32,
    generation: u32,
    slot: u16,
    /// The segment that it is in.
    segment: u16,
    previous: Index,
    next: Index,
}

impl KeyEntry {
    pub(super) fn new(key: Fingerprint, worker: Worker, segment: u16, used: u32) -> Self {
        let Worker { slot, generation } = worker;
        Self { key, used, generation, slot, segment, previous: NIL, next: NIL }
    }

    pub(super) fn worker(&self) -> Worker {
        Worker { slot: self.slot, generation: self.generation }
    }

    /// Appends it to others, without its place in its segment.
    pub(super) fn write(&self, entries: &mut Vec<u8>) {
        entries.extend(self.key.bytes());
        entries.extend(self.used.to_le_bytes());
        entries.extend(self.generation.to_le_bytes());
        entries.extend(self.slot.to_le_bytes());
        entries.extend(self.segment.to_le_bytes());
    }

    /// What was written, or `None` when the bytes are not whole entries.
    pub(super) fn read(entries: &[u8]) -> Option<impl ExactSizeIterator<Item = Self>> {
        let (records, []) = entries.as_chunks::<RECORD>() else { return None };
        Some(records.iter().map(|record| {
            let word = |at: usize| {
                u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
            };
            let half = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
            let key = Fingerprint::from_words([word(0), word(4), word(8), word(12)]);
            let worker = Worker { slot: half(24), generation: word(20) };
            Self::new(key, worker, half(26), word(16))
        }))
    }
}

/// A doubly linked list through entries.
#[derive(Clone, Copy, Debug)]
struct List {
    oldest: Index,
    newest: Index,
    len: usize,
}

const EMPTY: List = List { oldest: NIL, newest: NIL, len: 0 };

/// All entries, in their segments, and those that are free to be used again.
#[derive(Debug)]
pub(super) struct Segments {
    blocks: Vec<Vec<KeyEntry>>,
    segments: Vec<List>,
    /// The first free entry; the others follow by `next`.
    free: Index,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), segments: Vec::new(), free: NIL }
    }

    pub(super) fn len(&self, segment: u16) -> usize {
        self.segments.get(usize::from(segment)).map_or(0, |list| list.len)
    }

    /// The least recently used entry of a segment.
    pub(super) fn oldest(&self, segment: u16) -> Option<Index> {
        let oldest = self.segments.get(usize::from(segment))?.oldest;
        (oldest != NIL).then_some(oldest)
    }

    /// All entries, segment by segment, the least recently used one of each first.
    pub(super) fn all(&self) -> impl Iterator<Item = &KeyEntry> {
        let some = |index: Index| (index != NIL).then(|| self.entry(index));
        self.segments.iter().flat_map(move |list| {
            iter::successors(some(list.oldest), move |entry| some(entry.next))
        })
    }

    pub(super) fn entry(&self, index: Index) -> &KeyEntry {
        &self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    /// Adds an entry as the newest of its segment.
    pub(super) fn add(&mut self, entry: KeyEntry) -> Index {
        let index = if self.free == NIL {
            self.push(entry)
        } else {
            let index = self.free;
            self.free = mem::replace(self.entry_mut(index), entry).next;
            index
        };
        self.link(index);
        index
    }

    /// Makes an entry the newest of its segment, used at `now`.
    pub(super) fn touch(&mut self, index: Index, now: u32) {
        self.entry_mut(index).used = now;
        if self.entry(index).next != NIL {
            self.unlink(index);
            self.link(index);
        }
    }

    /// Removes an entry from its segment; its number is free from now on.
    pub(super) fn remove(&mut self, index: Index) {
        self.unlink(index);
        self.entry_mut(index).next = self.free;
        self.free = index;
    }

    fn push(&mut self, entry: KeyEntry) -> Index {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let blocks = self.blocks.len();
        let block = self.blocks.last_mut().expect("a block with room was just made sure of");
        let index = (blocks - 1) * BLOCK + block.len();
        block.push(entry);
        Index::try_from(index).expect("a memory is capped far below 2^32 entries")
    }

    fn entry_mut(&mut self, index: Index) -> &mut KeyEntry {
        &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    fn link(&mut self, index: Index) {
        let segment = usize::from(self.entry(index).segment);
        if segment >= self.segments.len() {
            self.segments.resize(segment + 1, EMPTY);
        }
        let newest = self.segments[segment].newest;
        let entry = self.entry_mut(index);
        (entry.previous, entry.next) = (newest, NIL);
        match newest {
            NIL => self.segments[segment].oldest = index,
            newest => self.entry_mut(newest).next = index,
        }
        self.segments[segment].newest = index;
        self.segments[segment].len += 1;
    }

    fn unlink(&mut self, index: Index) {
        let KeyEntry { segment, previous: before, next: after, .. } = *self.entry(index);
        let segment = usize::from(segment);
        match before {
            NIL => self.segments[segment].oldest = after,
            before => self.entry_mut(before).next = after,
        }
        match after {
            NIL => self.segments[segment].newest = before,
            after => self.entry_mut(after).previous = before,
        }
        self.segments[segment].len -= 1;
    }
}
