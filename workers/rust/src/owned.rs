//! Which keys live on this worker, as far as it knows itself.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::time::{Duration, Instant};

/// For so long a key lives here after the supervisor has sent a connection with it. Then it is asked
/// again, so that it does not forget a key that is in use.
const ROUTED: Duration = Duration::from_secs(10);
/// Routed keys are looked through when there are so many, and then when there are twice as many as were left.
const MANY: usize = 1024;

/// Of the announced keys, between so many and twice as many of the newest are known. Of a key that is not
/// known, the supervisor is asked once more.
const MOST_ANNOUNCED: usize = 1 << 16;

/// The keys that live here.
#[derive(Debug, Default)]
pub(crate) struct OwnedKeys {
    /// Those that this worker has announced and not ended.
    announced: HashSet<Box<[u8]>>,
    /// Likewise, those of before there were too many.
    announced_before: HashSet<Box<[u8]>>,
    /// When the supervisor sent a connection with one of the others.
    routed: HashMap<Box<[u8]>, Instant>,
    /// When to look for old ones: with so many.
    sweep_at: usize,
}

impl OwnedKeys {
    pub(crate) fn announce(&mut self, key: &[u8]) {
        if self.announced.len() >= MOST_ANNOUNCED && !self.announced.contains(key) {
            self.announced_before = mem::take(&mut self.announced);
        }
        self.announced.insert(key.into());
    }

    pub(crate) fn end(&mut self, key: &[u8]) {
        self.announced.remove(key);
        self.announced_before.remove(key);
    }

    /// The supervisor has sent a connection whose first request has this key.
    pub(crate) fn route(&mut self, now: Instant, key: &[u8]) {
        if self.has_announced(key) {
            return;
        }
        self.routed.insert(key.into(), now);
        if self.routed.len() >= self.sweep_at.max(MANY) {
            self.routed.retain(|_, at| is_recent(now, *at));
            self.sweep_at = 2 * self.routed.len();
        }
    }

    /// Whether this key lives here now.
    pub(crate) fn has(&self, now: Instant, key: &[u8]) -> bool {
        self.has_announced(key) || self.routed.get(key).is_some_and(|at| is_recent(now, *at))
    }

    fn has_announced(&self, key: &[u8]) -> bool {
        self.announced.contains(key) || self.announced_before.contains(key)
    }
}

fn is_recent(now: Instant, at: Instant) -> bool {
    now.saturating_duration_since(at) < ROUTED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::now;

    #[test]
    fn an_announced_key_lives_here_until_it_ends_and_a_routed_one_for_a_while() {
        let (mut owned, start) = (OwnedKeys::default(), now());
        owned.announce(b"a");
        owned.route(start, b"a");
        owned.route(start, b"b");
        assert!(owned.has(start, b"a") && owned.has(start, b"b") && !owned.has(start, b"c"));
        let later = start + ROUTED;
        assert!(owned.has(later, b"a") && !owned.has(later, b"b"));
        owned.end(b"a");
        assert!(!owned.has(later, b"a"));
        owned.end(b"a");
        owned.route(later, b"b");
        assert!(owned.has(later, b"b"));
    }

    #[test]
    fn of_many_announced_keys_the_newest_are_known() {
        let (mut owned, now) = (OwnedKeys::default(), now());
        let keys = 0..4 * MOST_ANNOUNCED as u32;
        keys.clone().for_each(|number| owned.announce(&number.to_ne_bytes()));
        let known = keys.clone().filter(|number| owned.has(now, &number.to_ne_bytes()));
        assert_eq!(known.collect::<Vec<_>>(), keys.skip(2 * MOST_ANNOUNCED).collect::<Vec<_>>());
        let last_before = 3 * MOST_ANNOUNCED as u32 - 1;
        owned.end(&last_before.to_ne_bytes());
        assert!(!owned.has(now, &last_before.to_ne_bytes()));
    }

    #[test]
    fn old_routed_keys_are_forgotten() {
        let (mut owned, start) = (OwnedKeys::default(), now());
        for number in 0..100_000_u32 {
            owned.route(start + number * ROUTED / 1000, &number.to_ne_bytes());
        }
        assert!(owned.routed.len() <= 2 * MANY, "{}", owned.routed.len());
    }
}
