//! How often the same thing may be said in the log.

use std::time::Duration;

use super::time::Time;

/// The shortest time between two lines about the same thing.
const EVERY: Duration = Duration::from_secs(5);

/// Lets one line through and counts the others, in any five seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    silent_until: Option<Time>,
    swallowed: u32,
}

impl Throttle {
    /// Whether to say it now. If so, returns how often it was not said since the last time.
    pub fn say(&mut self, now: Time) -> Option<u32> {
        if self.silent_until.is_some_and(|until| now < until) {
            self.swallowed = self.swallowed.saturating_add(1);
            return None;
        }
        self.silent_until = Some(now + EVERY);
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
}
