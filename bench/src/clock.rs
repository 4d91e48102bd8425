//! The one reader of the clock in the bench.

use std::time::Instant;

/// Now, on the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the bench measures real time, and only here")]
pub fn now() -> Instant {
    Instant::now()
}
