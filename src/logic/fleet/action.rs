//! What the fleet wants done.

use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::logic::Worker;

/// Something to be done by the engine, in the order in which it is handed out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Start the process; the answer is `Spawned` or `SpawnFailed`.
    Spawn(Worker),
    /// Give it connections from now on: it became ready.
    Place(Worker),
    /// Give it no connections with new keys any more, but still those of its own keys: its successor
    /// is ready or its slot is gone. Said at most once, of a worker that was placed.
    Withdraw(Worker),
    /// Give it no connection any more. Said once of every worker that was a process, ready or not:
    /// when it leaves, before its `Terminate`, `Abort` or `Kill`, or when it exited by itself.
    Retire(Worker),
    /// Tell it `DRAIN`.
    Drain(Worker),
    /// Ask it to end by itself; the answer is `HandlesTerm`, `Leaving`, its exit, or none. With `at_once`,
    /// whatever is still open. Only with [`ends_itself`](super::FleetConfig::ends_itself).
    Close {
        /// The worker.
        worker: Worker,
        /// It shall not wait for its connections.
        at_once: bool,
    },
    /// Ask it for a sign of life; the answer is `Pong`.
    Ping(Worker),
    /// ABRT to the leader of its process group: it gave no sign of life.
    Abort(Worker),
    /// TERM to the leader of its process group.
    Terminate(Worker),
    /// KILL to its process group.
    Kill(Worker),
    /// From now on there are so many slots, numbered from 0.
    Resized(u16),
    /// Stop accepting.
    CloseListeners,
    /// Write this to the log.
    Report(Event),
    /// Leave. The last action there is.
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
