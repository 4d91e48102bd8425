//! sticky-run with real processes: one binary, which is also its own worker.

#![expect(clippy::disallowed_methods, reason = "tests have deadlines and an environment")]
#![allow(unreachable_pub, reason = "what the tests stand on is public to them")]

/// What the tests stand on: the supervisor as a child, clients, and the worker.
mod support;

/// Workers on their way to being ready.
mod boot;
/// The examples, as their READMEs say.
mod examples;
/// The manual page and the completions.
mod generated;
/// Real Socket.IO clients.
mod socketio;
/// The command line and the exit codes.
mod usage;
