//! Made-up session ids that worker and client both know, and cheap random numbers.

/// As long as an id of Engine.IO, in bytes.
pub const SID_LENGTH: usize = 20;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The sid number `index` of a slot: 20 characters that look random and are the same everywhere.
pub fn sid(slot: u16, index: u32) -> String {
    let name = (u64::from(slot) << 32) | u64::from(index);
    let mut random = Random::new(name);
    let halves = [random.next(), random.next()];
    (0..SID_LENGTH)
        .map(|at| (halves[at / 10] >> (6 * (at % 10))) & 63)
        .map(|digit| char::from(ALPHABET[digit as usize]))
        .collect()
}

/// A generator of random numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        // A first round, so that seeds in a row do not give overlapping sequences.
        Self(mix(seed))
    }

    /// The next number, any of 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "it has no end, an iterator would be unwrapped"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let scaled = ((self.next() >> 32) * u64::from(bound)) >> 32;
        u32::try_from(scaled).expect("a product shifted by 32 bits is below the bound")
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn sids_are_distinct_and_fit_into_a_query() {
        let all: HashSet<String> =
            (0..2).flat_map(|slot| (0..50_000).map(move |index| sid(slot, index))).collect();
        assert_eq!(all.len(), 100_000);
        assert!(all.iter().all(|sid| sid.len() == SID_LENGTH));
        assert!(all.iter().all(|sid| sid.bytes().all(|byte| ALPHABET.contains(&byte))));
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_it() {
        let mut random = Random::new(1);
        let seen: HashSet<u32> = (0..1000).map(|_| random.below(10)).collect();
        assert_eq!(seen, (0..10).collect());
    }
}
