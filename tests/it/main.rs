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
/// Bytes of clients.
mod bodies;
/// Workers on their way to being ready.
mod boot;
/// The table of bounds.
mod bounded;
/// Everything at once, at random.
mod chaos;
/// The configuration file, `--check`, and reading it anew.
mod config;
/// The examples of containers, and the static build.
mod container;
/// Workers that die.
mod crash;
/// What is left after many connections.
mod endurance;
/// The names of events in the log.
mod events;
/// The examples, as their READMEs say.
mod examples;
/// Too few descriptors.
mod exhaustion;
/// Headers in which proxies name their clients.
mod forwarded;
/// The manual page and the completions.
mod generated;
/// What a supervisor with `--user` cannot do any more, and says so.
mod given_up;
/// Headers of the PROXY protocol from a real HAProxy.
mod haproxy;
/// Placement without memory.
mod hash;
/// Request heads as they come over the wire.
mod heads;
/// Nobody outside and no worker inside can stop the supervisor.
mod hostile;
/// What it costs when nothing happens.
mod idle;
/// What a worker inherits.
mod inherit;
/// Connections that are kept open to workers of the crate.
mod kept;
/// Each source of keys with each placement.
mod keys;
/// Listening sockets, and what workers are told about them.
mod listeners;
/// What log lines look like.
mod logformat;
/// Logs that nobody reads.
mod logged;
/// Servers in Node, as they are.
mod node;
/// What workers write, with their slots in front.
mod output;
/// The supervisor as process 1.
mod pid1;
/// Who workers are, and what surrounds them.
mod privileges;
/// Headers of the PROXY protocol, by hand.
mod proxy_protocol;
/// Restarts with a command that does not work.
mod reload;
/// Restarts and upgrades under load.
mod rolling;
/// Sandboxes and roots that lack something.
mod sandbox;
/// More workers and fewer.
mod scale;
/// Signals besides those of a stop.
mod signals;
/// Clients that say nothing, or little.
mod silent;
/// The files of Unix sockets.
mod socket_files;
/// Real Socket.IO clients.
mod socketio;
/// Workers that have stopped reading.
mod stalled;
/// How it ends.
mod stop;
/// What systemd passes and is told.
mod systemd;
/// Each signal in each state.
mod table;
/// Upgrades in place that cannot be, and what those change that can.
mod upgrade;
/// The command line and the exit codes.
mod usage;
/// Workers that stand still.
mod watchdog;
/// Workers that reach a limit.
mod worn;
