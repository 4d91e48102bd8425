//! The delay of a slot before its next start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::rng::Rng;

/// The delay of the first restart, before jitter.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay, before jitter.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Jitter takes or gives at most this share, in parts of [`WHOLE`].
const JITTER: u32 = 20_000;
/// The unit of jitter: fine enough that no two slots fall into step.
const WHOLE: u32 = 100_000;

/// Exponential backoff: 100 ms, doubled for each further restart up to 30 s.
///
/// Each delay has at most a fifth of jitter either way, so that slots which died together do not
/// all come back in the same instant.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Backoff {
    /// Restarts since the last reset.
    restarts: u32,
}

impl Backoff {
    /// The delay before the next start, which counts as one more restart.
    pub(super) fn next(&mut self, rng: &mut Rng) -> Duration {
        let delay = Self::delay(self.restarts, rng);
        self.restarts = self.restarts.saturating_add(1);
        delay
    }

    /// The delay after so many others.
    pub(super) fn delay(others: u32, rng: &mut Rng) -> Duration {
        let doubled = FIRST_DELAY.saturating_mul(1_u32.checked_shl(others).unwrap_or(u32::MAX));
        doubled.min(MAX_DELAY) * (WHOLE - JITTER + rng.below(2 * JITTER + 1)) / WHOLE
    }

    /// Whether there was no restart since the last reset.
    pub(super) fn is_reset(&self) -> bool {
        self.restarts == 0
    }

    /// Forgets the restarts so far.
    pub(super) fn reset(&mut self) {
        self.restarts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_to_half_a_minute_with_a_fifth_of_jitter() {
        for seed in 0..200 {
            let (mut rng, mut backoff) = (Rng::new(seed), Backoff::default());
            for millis in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]
            {
                let (middle, delay) = (Duration::from_millis(millis), backoff.next(&mut rng));
                assert!(delay >= middle * 4 / 5, "seed {seed}: {delay:?} for {middle:?}");
                assert!(delay <= middle * 6 / 5, "seed {seed}: {delay:?} for {middle:?}");
            }
        }
    }

    #[test]
    fn jitter_goes_both_ways() {
        let rests: Vec<_> = (0..100).map(|s| Backoff::default().next(&mut Rng::new(s))).collect();
        assert!(rests.iter().any(|delay| *delay < FIRST_DELAY * 9 / 10), "{rests:?}");
        assert!(rests.iter().any(|delay| *delay > FIRST_DELAY * 11 / 10), "{rests:?}");
    }

    #[test]
    fn a_reset_starts_over_and_no_count_of_restarts_overflows() {
        let (mut rng, mut backoff) = (Rng::new(1), Backoff { restarts: u32::MAX });
        assert!(backoff.next(&mut rng) <= MAX_DELAY * 6 / 5);
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST_DELAY * 6 / 5);
    }
}
