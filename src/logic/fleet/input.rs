//! What the fleet is told.

use std::fmt;
use std::time::Duration;

use crate::logic::Worker;

/// What a fleet is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FleetConfig {
    /// How many slots there are.
    pub workers: u16,
    /// How long a worker may take from its spawn to its `READY`.
    pub boot_timeout: Duration,
    /// How long a stop may take, from the first stop signal to the KILL.
    pub grace: Duration,
    /// The seed of the jitter of restarts.
    pub seed: u64,
}

/// A fact or a wish from outside.
///
/// What is said of a worker that is not the present one of its slot is ignored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// The process exists.
    Spawned(Worker),
    /// No process came to be. Only before `Spawned`: later, its end is an `Exited`.
    SpawnFailed(Worker),
    /// It said `READY`.
    Ready(Worker),
    /// It wants no more connections and is about to exit by itself, such as a Node worker that has
    /// disconnected. Counts only of a ready one.
    Leaving(Worker),
    /// It was reaped, and what was left of its process group has been killed.
    Exited(Worker, Exit),
    /// So many connections are open at workers or held by the supervisor. Counts only after `Stop`.
    Open(u64),
    /// TERM or INT came.
    Stop,
}

/// How a process ended, as `waitpid(2)` tells it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_whether_it_was_a_code_or_a_signal() {
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
        assert_eq!(Exit::Signal(9).to_string(), "signal 9");
    }
}
