//! A rate limit, such as for equal lines in the log.

use std::time::Duration;

use super::time::Time;

/// The shortest time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(5);

/// A token bucket: a burst, then one in each interval; counts what is suppressed.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    burst: u32,
    interval: Duration,
    /// When all that was allowed would be over if each took an interval.
    over_at: Time,
    suppressed: u32,
}

impl Default for Throttle {
    /// For a line of the log: one in five seconds.
    fn default() -> Self {
        Self::new(1, INTERVAL)
    }
}

impl Throttle {
    /// A burst of so many, and one more after each interval.
    pub const fn new(at_once: u32, every: Duration) -> Self {
        Self {
            burst: at_once,
            interval: every,
            over_at: Time::since_zero(Duration::ZERO),
            suppressed: 0,
        }
    }

    /// Whether it may happen now. If so, returns how often it was suppressed since the last time.
    pub fn allow(&mut self, now: Time) -> Option<u32> {
        let ahead = self.interval * self.burst.saturating_sub(1);
        if self.over_at > now + ahead {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.over_at = self.over_at.max(now) + self.interval;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_five_seconds_with_the_number_of_those_left_out() {
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        let mut throttle = Throttle::default();
        assert_eq!(throttle.allow(at(0)), Some(0));
        assert_eq!(throttle.allow(at(1)), None);
        assert_eq!(throttle.allow(at(4_999)), None);
        assert_eq!(throttle.allow(at(5_000)), Some(2));
        assert_eq!(throttle.allow(at(10_000)), Some(0));
    }

    #[test]
    fn some_at_once_and_then_one_in_a_while() {
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        let mut throttle = Throttle::new(3, Duration::from_millis(100));
        let mut count = |millis| (0..10).filter(|_| throttle.allow(at(millis)).is_some()).count();
        assert_eq!([5_000, 5_099, 5_100, 5_350, 9_000].map(&mut count), [3, 0, 1, 2, 3]);
        assert_eq!(throttle.allow(at(9_100)), Some(7));
    }
}
