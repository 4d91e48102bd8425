//! Pace: a short rest between two turns of a busy loop, so that the next turn finds more to do.
//!
//! To be woken for each single connection costs more than all that is done with it. When many
//! connections come, the loop rests for a moment after each turn; a connection then waits a little
//! longer, in a machine that has no time to spare for it anyway. When few come, nothing rests.

use std::time::Duration;

use super::time::Time;

/// How long connections are counted.
const COUNTED: Duration = Duration::from_millis(10);
/// So many connections in that time make a loop busy.
const BUSY: u64 = 25;
/// How long a busy loop rests.
const REST: Duration = Duration::from_millis(2);

/// How fast connections come.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Since when and since which connection they are counted.
    since: Time,
    from: u64,
    busy: bool,
}

impl Pace {
    /// Nothing has come by `now`.
    pub fn new(now: Time) -> Self {
        Self { since: now, from: 0, busy: false }
    }

    /// How long to rest after a turn that ends `now`, when so many connections have come since the
    /// beginning.
    pub fn rest(&mut self, now: Time, connections: u64) -> Option<Duration> {
        if now - self.since >= COUNTED {
            self.busy = connections - self.from >= BUSY && now - self.since < 2 * COUNTED;
            (self.since, self.from) = (now, connections);
        }
        self.busy.then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a loop rests after connections at this distance for a while.
    fn rests(between: Duration) -> bool {
        let mut now = Time::default();
        let mut pace = Pace::new(now);
        let mut rests = false;
        for connections in 1..200 {
            now = now + between;
            rests = pace.rest(now, connections).is_some();
        }
        rests
    }

    #[test]
    fn only_a_busy_loop_rests() {
        assert!(rests(Duration::from_micros(150)));
        assert!(!rests(Duration::from_micros(500)));
        assert!(!rests(Duration::from_secs(1)));
    }

    #[test]
    fn it_stops_resting_when_it_has_nothing_to_do() {
        let mut pace = Pace::new(Time::default());
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        assert_eq!(pace.rest(at(10), 100), Some(REST));
        assert_eq!(pace.rest(at(19), 100), Some(REST));
        assert_eq!(pace.rest(at(20), 101), None);
        assert_eq!(pace.rest(at(500), 1_000), None);
    }
}
