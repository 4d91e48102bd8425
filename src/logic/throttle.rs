//! How often something may happen, such as the same line in the log.

use std::time::Duration;

use super::time::Time;

/// The shortest time between two lines about the same thing.
const EVERY: Duration = Duration::from_secs(5);

/// Lets something happen so often at once, and then once in a while; counts the rest.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    at_once: u32,
    every: Duration,
    /// When all that happened would be over if each took its time.
    over_at: Time,
    swallowed: u32,
}

impl Default for Throttle {
    /// For a line of the log: one in any five seconds.
    fn default() -> Self {
        Self::new(1, EVERY)
    }
}

impl Throttle {
    /// So often at once, and one more each time that so much time has passed.
    pub const fn new(at_once: u32, every: Duration) -> Self {
        Self { at_once, every, over_at: Time::since_zero(Duration::ZERO), swallowed: 0 }
    }

    /// Whether it may happen now. If so, returns how often it did not since the last time.
    pub fn say(&mut self, now: Time) -> Option<u32> {
        let ahead = self.every * self.at_once.saturating_sub(1);
        if self.over_at > now + ahead {
            self.swallowed = self.swallowed.saturating_add(1);
            return None;
        }
        self.over_at = self.over_at.max(now) + self.every;
        Some(std::mem::take(&mut self.swallowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_five_seconds_with_the_number_of_those_left_out() {
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        let mut throttle = Throttle::default();
        assert_eq!(throttle.say(at(0)), Some(0));
        assert_eq!(throttle.say(at(1)), None);
        assert_eq!(throttle.say(at(4_999)), None);
        assert_eq!(throttle.say(at(5_000)), Some(2));
        assert_eq!(throttle.say(at(10_000)), Some(0));
    }

    #[test]
    fn some_at_once_and_then_one_in_a_while() {
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        let mut throttle = Throttle::new(3, Duration::from_millis(100));
        let mut count = |millis| (0..10).filter(|_| throttle.say(at(millis)).is_some()).count();
        assert_eq!([5_000, 5_099, 5_100, 5_350, 9_000].map(&mut count), [3, 0, 1, 2, 3]);
        assert_eq!(throttle.say(at(9_100)), Some(7));
    }
}
