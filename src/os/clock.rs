//! The clock, and waiting for it.

use std::thread;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::logic::time::Time;

/// The time on the kernel's monotonic clock, `CLOCK_MONOTONIC` of `clock_gettime(2)`.
///
/// It goes on across `execve(2)` and does not count the time that the machine was suspended.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    Time::since_zero(Duration::from(now))
}

/// The time of the day, as lines of the log have it (RFC 3339, in UTC).
#[expect(clippy::disallowed_methods, reason = "this is the one place to read the clock")]
pub fn timestamp() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

/// Does nothing for this time, give or take what the kernel adds (`nanosleep(2)`).
#[expect(clippy::disallowed_methods, reason = "this is the one place to sleep")]
pub fn rest(time: Duration) {
    thread::sleep(time);
}
