//! The events of one worker, its transitions and its timeouts.

use super::input::Exit;
use crate::logic::time::Time;

/// An event of a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProcessEvent {
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

/// What an event means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Transition {
    /// Nothing: it comes too late or a second time.
    Ignored,
    /// There is a process.
    Started,
    /// It became ready.
    BecameReady,
    /// There never was a process.
    SpawnFailed,
    /// It exited before it was ready.
    ExitedBooting(Exit),
    /// It wants no more connections.
    Leaving,
    /// It exited while it got connections, ready or draining.
    ExitedReady(Exit),
    /// It exited after it said that it leaves.
    Left(Exit),
    /// It exited after TERM, ABRT or KILL, or in a stop after it was asked to.
    Terminated,
    /// The same, and another worker has its slot.
    Drained(Exit),
}

/// A timeout of a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expiry {
    /// It was not ready in time.
    BootTimeout,
    /// It is as old as it may be.
    Lifetime,
    /// It has not drained in time.
    DrainTimeout,
    /// It said that it leaves and has not exited.
    LeaveTimeout,
    /// It was asked to exit and has not: TERM now, and KILL at the time given.
    ExitTimeout(Option<Time>),
    /// It had TERM and has not exited: KILL.
    Kill,
}

/// The state of a worker, as far as the fleet needs it.
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
    Exiting,
}
