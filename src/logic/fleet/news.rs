//! What is heard of one worker, what it means, and what is due.

use super::input::Exit;
use crate::logic::time::Time;

/// What is heard of a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// The process exists.
    Spawned,
    /// There is no process.
    SpawnFailed,
    /// It said `READY`.
    Ready,
    /// It wants no more connections and is about to exit.
    Leaving,
    /// It was reaped.
    Exited(Exit),
}

/// What the news mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// Nothing: they come too late or a second time.
    Nothing,
    /// There is a process.
    Born,
    /// It became ready.
    BecameReady,
    /// There never was a process.
    NotBorn,
    /// It exited before it was ready.
    DiedBooting(Exit),
    /// It wants no more connections.
    Leaves,
    /// It exited while it got connections, ready or draining.
    DiedReady(Exit),
    /// It exited after it said that it leaves.
    Left(Exit),
    /// It exited after TERM, ABRT or KILL, or in a stop after it was asked to.
    Ended,
    /// The same, and another worker has its slot.
    Drained(Exit),
}

/// What is due for a worker at some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// The end of one that was not ready in time.
    BootTimeout,
    /// It is as old as it may be.
    TooOld,
    /// The end of one that has not drained in time.
    DrainTimeout,
    /// The end of one that leaves and does not go.
    LeaveTimeout,
    /// TERM to one that was asked to end, and KILL at the time given.
    CloseTimeout(Option<Time>),
    /// KILL to one that did not end.
    Kill,
}

/// What a worker is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// There is no process yet.
    Spawning,
    /// It may become ready.
    Booting,
    /// It gets connections.
    Ready,
    /// It gets connections of its own keys.
    Draining,
    /// It gets none any more.
    Outgoing,
}
