//! sticky-run with real processes: one binary, which is also its own worker.

#![expect(clippy::disallowed_methods, reason = "tests have deadlines and an environment")]
#![allow(unreachable_pub, reason = "what the tests stand on is public to them")]

/// What the tests stand on: the supervisor as a child, clients, and the worker.
mod support;

/// Workers that misuse their channel.
mod abuse;
/// Bytes of clients.
mod bodies;
/// Workers on their way to being ready.
mod boot;
/// Workers that die.
mod crash;
/// What is left after many connections.
mod endurance;
/// Too few descriptors.
mod exhaustion;
/// What a worker inherits.
mod inherit;
/// How it ends.
mod stop;
/// The command line and the exit codes.
mod usage;
