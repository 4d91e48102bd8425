//! Batching: a short pause between two turns of a busy loop, so that the next turn finds more to do.
//!
//! To be woken for each single connection costs more than all that is done with it. When many
//! connections come, the loop pauses for a moment after each turn; a connection then waits a little
//! longer, on a machine that is busy anyway. When few come, there is no pause.

use std::time::Duration;

use super::time::Time;

/// How long connections are counted.
const COUNTING_TIME: Duration = Duration::from_millis(10);
/// So many connections in that time make a loop busy.
const BUSY_CONNECTIONS: u64 = 25;
/// The pause of a busy loop.
const PAUSE: Duration = Duration::from_millis(2);

/// How fast connections arrive.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Since when and since which connection they are counted.
    since: Time,
    from: u64,
    busy: bool,
}

impl Batching {
    /// Nothing has come by `now`.
    pub fn new(now: Time) -> Self {
        Self { since: now, from: 0, busy: false }
    }

    /// The pause after a turn that ends `now`, when so many connections have come since the
    /// beginning.
    pub fn pause(&mut self, now: Time, connections: u64) -> Option<Duration> {
        if now - self.since >= COUNTING_TIME {
            self.busy =
                connections - self.from >= BUSY_CONNECTIONS && now - self.since < 2 * COUNTING_TIME;
            (self.since, self.from) = (now, connections);
        }
        self.busy.then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a loop pauses after connections at this distance for a while.
    fn pauses(between: Duration) -> bool {
        let mut now = Time::default();
        let mut batching = Batching::new(now);
        let mut pauses = false;
        for connections in 1..200 {
            now = now + between;
            pauses = batching.pause(now, connections).is_some();
        }
        pauses
    }

    #[test]
    fn only_a_busy_loop_pauses() {
        assert!(pauses(Duration::from_micros(150)));
        assert!(!pauses(Duration::from_micros(500)));
        assert!(!pauses(Duration::from_secs(1)));
    }

    #[test]
    fn it_stops_resting_when_it_has_nothing_to_do() {
        let mut batching = Batching::new(Time::default());
        let at = |millis| Time::since_zero(Duration::from_millis(millis));
        assert_eq!(batching.pause(at(10), 100), Some(PAUSE));
        assert_eq!(batching.pause(at(19), 100), Some(PAUSE));
        assert_eq!(batching.pause(at(20), 101), None);
        assert_eq!(batching.pause(at(500), 1_000), None);
    }
}
