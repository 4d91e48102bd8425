//! Hashes that never change: for a key's place in a memory, and for placement without memory.
//!
//! The hasher of the standard library may differ between releases, so stickiness must not depend
//! on it. SipHash-1-3 is fixed by its paper (Aumasson and Bernstein, 2012).

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use siphasher::sip128::SipHasher13 as SipHasher13Wide;

/// A key as the memories store it: 128 bits of a keyed hash, whatever the key's length.
///
/// With a secret hash key nobody can make two keys meet; by chance a million keys do so with a
/// probability below 2^-88.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fingerprint([u32; 4]);

impl Fingerprint {
    /// The fingerprint of these bytes under a secret `key`, the same for a supervisor's whole life.
    pub fn new(key: (u64, u64), bytes: &[u8]) -> Self {
        let hash = SipHasher13Wide::new_with_keys(key.0, key.1).hash(bytes);
        let word = |half: u64, shift: u32| (half >> shift) as u32;
        Self([word(hash.h1, 0), word(hash.h1, 32), word(hash.h2, 0), word(hash.h2, 32)])
    }

    /// The fingerprint that has these words.
    pub(super) fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// Its words, each in little-endian order.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().flat_map(u32::to_le_bytes)
    }

    /// 64 bits of it, for a hash table.
    pub fn short(self) -> u64 {
        u64::from(self.0[0]) | u64::from(self.0[1]) << 32
    }
}

/// A key as rendezvous hashing sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HashPoint(u64);

impl HashPoint {
    /// The point of these bytes; the same for every supervisor with the same `seed`.
    pub fn new(seed: u64, bytes: &[u8]) -> Self {
        Self(SipHasher13::new_with_keys(seed, 0).hash(bytes))
    }

    /// How much the key belongs into this slot: its own slot is the one with the highest score
    /// (rendezvous hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit
    /// rates", 1998).
    ///
    /// A slot that leaves moves only its own keys, one that joins takes only its fair share.
    pub fn score(self, slot: u16) -> u64 {
        let mut bits = self.0 ^ (u64::from(slot) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        bits = (bits ^ (bits >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        bits ^ (bits >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u32 = 20_000;

    fn slots_of(slots: &[u16]) -> Vec<u16> {
        let own = |key: u32| {
            let point = HashPoint::new(0, &key.to_be_bytes());
            slots.iter().copied().max_by_key(|slot| point.score(*slot)).unwrap()
        };
        (0..KEYS).map(own).collect()
    }

    #[test]
    fn every_slot_gets_its_fair_share() {
        let slots = slots_of(&[0, 1, 2, 3, 4, 5, 6, 7]);
        for slot in 0..8 {
            let share = slots.iter().filter(|own| **own == slot).count();
            assert!((2_350..2_650).contains(&share), "slot {slot} has {share} of {KEYS}");
        }
    }

    #[test]
    fn a_slot_that_leaves_moves_only_its_own_keys() {
        let before = slots_of(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let after = slots_of(&[0, 1, 2, 4, 5, 6, 7]);
        for (before, after) in before.iter().zip(&after) {
            assert!(*before == 3 || before == after);
        }
    }

    #[test]
    fn a_slot_that_joins_takes_its_fair_share_and_moves_nobody_else() {
        let before = slots_of(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let after = slots_of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == 8);
            moved += u32::from(before != after);
        }
        assert!(moved * 100 <= KEYS * 100 / 9 + KEYS * 2, "{moved} of {KEYS} moved");
    }

    #[test]
    fn a_key_has_the_same_slot_in_every_build() {
        let slots = |seed| -> Vec<u16> {
            let point = |key: u8| HashPoint::new(seed, &[key]);
            let own = |key| (0..8).max_by_key(|slot| point(key).score(*slot)).unwrap();
            (0..16).map(own).collect()
        };
        assert_eq!(slots(0), [3, 0, 7, 3, 3, 1, 7, 3, 3, 5, 2, 7, 5, 5, 7, 3]);
        assert_ne!(slots(0), slots(1));
    }
}
