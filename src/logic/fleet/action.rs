//! What the fleet wants done.

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::logic::Worker;

/// Something to be done by the engine, in the order in which it is handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Start the process; the answer is `Spawned` or `SpawnFailed`.
    Spawn(Worker),
    /// It became ready: connections may go there.
    AddBackend(Worker),
    /// It gets no new keys any more: its successor is ready or its slot is gone. At most once, of a
    /// worker that was added.
    DrainBackend(Worker),
    /// Send it no connection any more. Once for every worker that was a process, ready or not: when it
    /// leaves, before its `Terminate`, `Abort` or `Kill`, or when it exited by itself.
    RemoveBackend(Worker),
    /// Send it `DRAIN`.
    Drain(Worker),
    /// Ask it to exit by itself; the answer is `HandlesTerm`, `Leaving`, its exit, or none. With `at_once`,
    /// whatever is still open. Only with [`exits_when_drained`](super::FleetConfig::exits_when_drained).
    RequestExit {
        /// The worker.
        worker: Worker,
        /// Without waiting for its connections.
        at_once: bool,
    },
    /// Ask whether it responds; the answer is `Pong`.
    Ping(Worker),
    /// ABRT to the leader of its process group: it does not respond.
    Abort(Worker),
    /// TERM to the leader of its process group.
    Terminate(Worker),
    /// KILL to its process group.
    Kill(Worker),
    /// From now on there are so many slots, numbered from 0.
    Resized(u16),
    /// Stop accepting.
    CloseListeners,
    /// Log this.
    Report(Event),
    /// Finish. The last action there is.
    Finish(Outcome),
}

/// How it all ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// Stopped as asked: exit code 0.
    Stopped,
    /// No worker ever became ready: exit code 1.
    NeverReady,
}
