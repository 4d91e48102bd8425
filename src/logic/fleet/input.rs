//! The configuration and the inputs of the fleet.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::Worker;

/// What a fleet is made from. The default is what the flags mean when none is given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct FleetConfig {
    /// How many slots there are.
    pub workers: u16,
    /// How long a worker may take from its spawn to its `READY`.
    pub boot_timeout: Duration,
    /// How long a stop may take, from the first stop signal to the KILL; and a worker that has
    /// drained, from TERM to KILL.
    pub grace: Duration,
    /// How long a worker may drain. `None` for ever.
    pub drain_timeout: Option<Duration>,
    /// How many slots get a new worker at the same time. 0 counts as 1.
    pub restart_parallel: u16,
    /// No worker is replaced while so many drain. 0 counts as 1.
    pub max_draining: u16,
    /// How long a worker may take to answer a `Ping`. `None` if none is sent.
    pub watchdog: Option<Duration>,
    /// Whether workers exit by themselves when they have drained, as Node does. Others
    /// wait for TERM.
    pub exits_when_drained: bool,
    /// When a ready worker is replaced, varied by a tenth.
    pub lifetime: Option<Duration>,
    /// The seed of the jitter of restarts and lifetimes.
    pub seed: u64,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            boot_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(25),
            drain_timeout: Some(Duration::from_secs(30)),
            restart_parallel: 1,
            max_draining: u16::MAX,
            watchdog: None,
            exits_when_drained: false,
            lifetime: None,
            seed: 0,
        }
    }
}

/// What has happened, or what the operator wants.
///
/// What is said of a worker that is gone or never was is ignored.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
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
    /// It was asked to exit and has its own handler for TERM. Counts only
    /// of one that was asked.
    HandlesTerm(Worker),
    /// It was reaped, and what was left of its process group has been killed.
    Exited(Worker, Exit),
    /// So many connections are open at workers or held by the supervisor. Counts only after `Stop`.
    Open(u64),
    /// It answered a `Ping`.
    Pong(Worker),
    /// Nothing of it is open, nothing is queued for it, and it owns no key. Counts only of a
    /// draining one.
    Drained(Worker),
    /// It has reached a limit and is to be replaced. Counts only of the ready one of a slot.
    Recycle(Worker, Limit),
    /// HUP came: every worker is to be replaced.
    Restart,
    /// TTIN came: one slot more.
    More,
    /// TTOU came: one slot less.
    Fewer,
    /// TERM, INT or QUIT came.
    Stop,
}

/// Which of its limits a worker has reached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Limit {
    /// It had as many connections as it may have in its life.
    Connections,
    /// It holds more memory than it may.
    Memory,
    /// It is older than it may be. The fleet finds this out by itself.
    Lifetime,
}

impl Limit {
    /// Its word in a log for machines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Memory => "memory",
            Self::Lifetime => "lifetime",
        }
    }

    /// The flag that sets the limit.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Connections => "--max-lifetime-connections",
            Self::Memory => "--max-memory",
            Self::Lifetime => "--max-lifetime",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it reached {}", self.flag())
    }
}

/// How a process ended, as `waitpid(2)` reports it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
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
