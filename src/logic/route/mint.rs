//! Minted session ids: a worker makes ids that say themselves which worker made them.
//!
//! Such an id has 20 characters of the alphabet of base64url (RFC 4648, section 5), as those of
//! Engine.IO have. The first 15 are random. The last five are a number of 30 bits: 14 for the
//! *incarnation* of its worker and 16 of a MAC over both, so that an id which somebody else made is
//! hardly ever taken for one of these. It needs no memory and no message, and it is exact from the
//! moment at which it exists.
//!
//! The same is written in `workers/node/preload`, which mints them.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::logic::Worker;

/// The length of a minted id, in bytes.
const LENGTH: usize = 20;
/// So many of them are random.
const RANDOM: usize = 15;
/// The bits of the MAC in an id.
const MAC_BITS: u32 = 16;
/// How many incarnations there are: many more than workers at one time.
const INCARNATIONS: u16 = 1 << 14;

/// What a minted id says of its worker. A successor in the same slot has another one, since it does
/// not know the sessions of this one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Incarnation(u16);

/// The secret of the MAC.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct MintKey(pub [u8; 32]);

/// Who mints.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Mint {
    key: MintKey,
    workers: BTreeMap<Incarnation, Worker>,
    next: u16,
}

impl Mint {
    pub(super) fn new(key: MintKey) -> Self {
        Self { key, workers: BTreeMap::new(), next: 0 }
    }

    /// A number for a new worker that no live one has, or `None` when all are taken. One before it in
    /// its slot that `is_live` does not know was never ready, and its number is free again.
    pub(super) fn incarnate(
        &mut self,
        worker: Worker,
        is_live: impl Fn(Worker) -> bool,
    ) -> Option<u16> {
        self.workers.retain(|_, minter| minter.slot != worker.slot || is_live(*minter));
        let numbers = (self.next..INCARNATIONS).chain(0..self.next);
        let free = numbers.map(Incarnation).find(|number| !self.workers.contains_key(number))?;
        self.workers.insert(free, worker);
        self.next = (free.0 + 1) % INCARNATIONS;
        Some(free.0)
    }

    /// Whether this worker mints.
    pub(super) fn has(&self, worker: Worker) -> bool {
        self.workers.values().any(|minter| *minter == worker)
    }

    /// This worker mints no more.
    pub(super) fn remove(&mut self, worker: Worker) {
        self.workers.retain(|_, minter| *minter != worker);
    }

    /// What a sid says of the worker that minted it, if one did.
    pub(super) fn read(&self, sid: &[u8]) -> Option<Incarnation> {
        if sid.len() != LENGTH {
            return None;
        }
        let mut number = 0;
        for byte in &sid[RANDOM..] {
            number = number << 6 | value(*byte)?;
        }
        let incarnation = Incarnation(u16::try_from(number >> MAC_BITS).ok()?);
        let mac = self.key.mac(&sid[..RANDOM], incarnation);
        (number as u16 == mac).then_some(incarnation)
    }

    /// The worker of an incarnation, unless it is gone.
    pub(super) fn worker(&self, incarnation: Incarnation) -> Option<Worker> {
        self.workers.get(&incarnation).copied()
    }

    /// Whether this worker minted this sid.
    pub(super) fn is_from(&self, sid: &[u8], worker: Worker) -> bool {
        self.read(sid).and_then(|incarnation| self.worker(incarnation)) == Some(worker)
    }
}

impl MintKey {
    fn mac(&self, random: &[u8], incarnation: Incarnation) -> u16 {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length of key will do");
        let mac = mac.chain_update(random).chain_update(incarnation.0.to_be_bytes());
        let mac = mac.finalize().into_bytes();
        u16::from_be_bytes([mac[0], mac[1]])
    }
}

impl fmt::Debug for MintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MintKey(..)")
    }
}

/// What a character of base64url stands for.
fn value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(slot: u16) -> Worker {
        Worker { slot, generation: 0 }
    }

    fn mint() -> Mint {
        Mint::new(MintKey([7; 32]))
    }

    /// A sid as a worker makes it.
    fn minted(key: &MintKey, random: &[u8; RANDOM], incarnation: u16) -> Vec<u8> {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mac = key.mac(random, Incarnation(incarnation));
        let number = u32::from(incarnation) << MAC_BITS | u32::from(mac);
        let digits = (0..5).rev().map(|digit| ALPHABET[(number >> (6 * digit) & 63) as usize]);
        random.iter().copied().chain(digits).collect()
    }

    #[test]
    fn a_minted_id_leads_to_its_worker_until_that_is_gone() {
        let mut mint = mint();
        assert_eq!(mint.incarnate(worker(0), |_| true), Some(0));
        assert_eq!(mint.incarnate(worker(1), |_| true), Some(1));
        let sid = minted(&mint.key, b"0123456789abcde", 1);
        let incarnation = mint.read(&sid).expect("it was minted");
        assert_eq!(mint.worker(incarnation), Some(worker(1)));
        assert!(mint.is_from(&sid, worker(1)) && !mint.is_from(&sid, worker(0)));
        mint.remove(worker(1));
        assert_eq!(mint.read(&sid), Some(incarnation));
        assert_eq!(mint.worker(incarnation), None);
        assert_eq!(mint.incarnate(worker(1), |_| true), Some(2));
    }

    #[test]
    fn what_the_preload_mints_is_read() {
        // Made by workers/node/preload/sids.cjs with the key of 32 bytes 7.
        let incarnation = mint().read(b"0123456789abcdeBIxN6");
        assert_eq!(incarnation, mint().read(&minted(&mint().key, b"0123456789abcde", 291)));
    }

    #[test]
    fn hardly_any_other_id_is_taken_for_a_minted_one() {
        let mint = mint();
        let sid = |number: u32| format!("{number:015}AAAAB");
        let taken = (0..100_000).filter(|number| mint.read(sid(*number).as_bytes()).is_some());
        assert!(taken.count() < 10);
        for odd in [&b""[..], b"AAAA", &[0xff; 20], &[b'-'; 21], b"0123456789abcde.....", &[0; 20]]
        {
            assert_eq!(mint.read(odd), None);
        }
    }

    #[test]
    fn the_number_of_a_worker_that_was_never_ready_is_free_again() {
        let mut mint = mint();
        for generation in 0..2 * u32::from(INCARNATIONS) {
            assert!(mint.incarnate(Worker { slot: 0, generation }, |_| false).is_some());
        }
        assert_eq!(mint.workers.len(), 1);
    }

    #[test]
    fn numbers_of_live_workers_are_not_given_again() {
        let mut mint = mint();
        mint.incarnate(worker(0), |_| true);
        for _ in 0..2 * u32::from(INCARNATIONS) {
            assert_ne!(mint.incarnate(worker(1), |_| true), Some(0));
            mint.remove(worker(1));
        }
        let mut slots = 1..;
        while mint.incarnate(worker(slots.next().unwrap()), |_| true).is_some() {}
        assert_eq!(mint.workers.len(), usize::from(INCARNATIONS));
    }
}
