//! Connections that workers give back: each a limited number of times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often workers may give one connection back before it is closed. More than there are workers
/// in most fleets, so that each of them is asked.
pub const MOST: u32 = 64;
/// How many connections are remembered.
const REMEMBERED: usize = 4096;

/// How often connections came back, by the identity of their sockets.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Returns {
    counts: BTreeMap<u64, u32>,
}

impl Returns {
    /// Counts that this connection came back; returns whether that was once too often.
    ///
    /// Sockets get rising numbers, so the one that is forgotten for a new one is the oldest.
    pub fn count(&mut self, socket: u64) -> bool {
        if self.counts.len() >= REMEMBERED && !self.counts.contains_key(&socket) {
            self.counts.pop_first();
        }
        let count = self.counts.entry(socket).or_default();
        *count += 1;
        *count > MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_however_many_come_back_at_once() {
        let mut returns = Returns::default();
        for _ in 0..MOST {
            assert!((0..2_000).all(|socket| !returns.count(socket)));
        }
        assert!((0..2_000).all(|socket| returns.count(socket)));
        // What is forgotten starts anew, and memory stays bounded.
        (10_000..20_000).for_each(|socket| assert!(!returns.count(socket)));
        assert_eq!(returns.counts.len(), REMEMBERED);
    }
}
