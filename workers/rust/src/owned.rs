//! Which keys live on this worker, as far as it knows itself.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// For so long a key lives here after the supervisor has sent a connection with it. Then it is asked
/// again, so that it does not forget a key that is in use.
const ROUTED: Duration = Duration::from_secs(10);
/// Routed keys are looked through when there are so many, and then when there are twice as many as were left.
const MANY: usize = 1024;

/// The keys that live here.
#[derive(Debug, Default)]
pub(crate) struct OwnedKeys {
    /// Those that this worker has announced and not ended.
    announced: HashSet<Box<[u8]>>,
    /// When the supervisor sent a connection with one of the others.
    routed: HashMap<Box<[u8]>, Instant>,
    /// When to look for old ones: with so many.
    sweep_at: usize,
}

impl OwnedKeys {
    pub(crate) fn announce(&mut self, key: &[u8]) {
        self.announced.insert(key.into());
    }

    pub(crate) fn end(&mut self, key: &[u8]) {
        self.announced.remove(key);
    }

    /// The supervisor has sent a connection whose first request has this key.
    pub(crate) fn route(&mut self, now: Instant, key: &[u8]) {
        if self.announced.contains(key) {
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
        self.announced.contains(key) || self.routed.get(key).is_some_and(|at| is_recent(now, *at))
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
    fn old_routed_keys_are_forgotten() {
        let (mut owned, start) = (OwnedKeys::default(), now());
        for number in 0..100_000_u32 {
            owned.route(start + number * ROUTED / 1000, &number.to_ne_bytes());
        }
        assert!(owned.routed.len() <= 2 * MANY, "{}", owned.routed.len());
    }
}
