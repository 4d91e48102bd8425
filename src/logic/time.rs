//! Time as the ground floor sees it: an argument, never a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the machine's monotonic clock.
///
/// It is plain data that stays valid across `execve(2)`, which `std::time::Instant` is not.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Time(Duration);

impl Time {
    /// The point this long after the clock's zero.
    pub const fn since_zero(duration: Duration) -> Self {
        Self(duration)
    }

    /// The point this much earlier, the clock's zero at the earliest.
    #[must_use]
    pub fn earlier(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }

    /// Whole seconds since the clock's zero, for tables that cannot afford more than 32 bits.
    pub fn seconds(self) -> u32 {
        u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// A sum beyond the end of the clock is the end of the clock.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// The time from `earlier` to `self`, zero when `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
