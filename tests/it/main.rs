//! sticky-run with real processes: one binary, which is also its own worker.

#![expect(clippy::disallowed_methods, reason = "tests have deadlines and an environment")]
#![allow(unreachable_pub, reason = "what the tests stand on is public to them")]

/// What the tests stand on: the supervisor as a child, clients, and the worker.
mod support;

/// Announced keys: the second look, who owns them, and when they are free.
mod announced;
/// Connections that workers give back.
mod back;
/// How connections without an owner are spread.
mod balance;
/// Placement without memory.
mod hash;
/// Request heads as they come over the wire.
mod heads;
/// Each source of keys with each placement.
mod keys;
/// Listening sockets, and what workers are told about them.
mod listeners;
/// Clients that say nothing, or little.
mod silent;
/// Workers that have stopped reading.
mod stalled;
/// The command line and the exit codes.
mod usage;
