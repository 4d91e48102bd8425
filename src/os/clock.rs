//! The clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::logic::time::Time;

/// The time on the kernel's monotonic clock, `CLOCK_MONOTONIC` of `clock_gettime(2)`.
///
/// It goes on across `execve(2)` and does not count the time that the machine was suspended.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    Time::since_zero(Duration::from(now))
}
