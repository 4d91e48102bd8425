//! How long to wait when the process has no free descriptor, and how often to say so.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);
const SAID_EVERY: Duration = Duration::from_secs(5);

/// The waits of one acceptor: 10 ms, doubling to 100 ms, from the start again after a success.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The wait before the next one; zero after a success.
    last: Duration,
    /// When it was last said on standard error.
    said: Option<Instant>,
}

/// Writes a line to standard error. A server goes on also when nobody can read it, where `eprintln`
/// would panic.
pub(crate) fn say(line: &str) {
    _ = writeln!(io::stderr(), "sticky-worker: {line}");
}

impl Patience {
    /// How long to wait now. Says `why` on standard error, at most once in 5 seconds.
    pub(crate) fn wait(&self, why: &str) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        if state.said.is_none_or(|said| now.duration_since(said) >= SAID_EVERY) {
            state.said = Some(now);
            say(why);
        }
        state.last = (state.last * 2).clamp(SHORTEST, LONGEST);
        state.last
    }

    /// The wait is over.
    pub(crate) fn reset(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last = Duration::ZERO;
    }
}

/// The time.
#[expect(clippy::disallowed_methods, reason = "the one clock of this crate's blocking part")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Sleeps in a blocking call.
#[expect(clippy::disallowed_methods, reason = "no event tells of what is waited for")]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_again() {
        let patience = Patience::default();
        let waits: Vec<_> = (0..6).map(|_| patience.wait("a test").as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 100, 100]);
        patience.reset();
        assert_eq!(patience.wait("a test").as_millis(), 10);
    }
}
