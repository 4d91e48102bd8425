//! The limit of connections of each worker, varied so that not all reach it at the same time.

use super::Worker;
use super::rng::Rng;

/// How many connections this worker may have in its life: the limit, varied by a tenth, the same
/// for the same worker and seed, and at least one.
pub fn connection_limit(limit: u64, worker: Worker, seed: u64) -> u64 {
    let who = u64::from(worker.slot) << 32 | u64::from(worker.generation);
    let mut rng = Rng::new(seed ^ Rng::new(who).bits());
    let tenth = limit / 10;
    let parts = u128::from(tenth) * 2 + 1;
    // The high half of the product is below the parts, of which there are at most 2^62.
    let drawn = ((u128::from(rng.bits()) * parts) >> 64) as u64;
    (limit - tenth).saturating_add(drawn).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_limit_of_its_own_within_a_tenth() {
        let own = |limit, slot| connection_limit(limit, Worker { slot, generation: 3 }, 7);
        let limits: Vec<_> = (0..1_000).map(|slot| own(10_000, slot)).collect();
        assert!(limits.iter().all(|limit| (9_000..=11_000).contains(limit)), "{limits:?}");
        assert!(limits.iter().any(|limit| *limit < 9_100));
        assert!(limits.iter().any(|limit| *limit > 10_900));
        assert_eq!(limits[5], own(10_000, 5));
    }

    #[test]
    fn no_limit_is_nothing_or_overflows() {
        let own = |limit, slot| connection_limit(limit, Worker { slot, generation: 0 }, 1);
        for slot in 0..100 {
            assert_eq!((own(0, slot), own(1, slot), own(9, slot)), (1, 1, 9));
            assert!(own(u64::MAX, slot) >= u64::MAX / 10 * 9);
        }
    }
}
