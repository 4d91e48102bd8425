//! The limits of connections and remembered keys.

use std::time::Duration;

use clap::value_parser;

use crate::cli::values::some_time;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitsArgs {
    /// How many connections may be open in total [default: no limit]
    ///
    /// Connections in workers count, and those that the supervisor still holds. At the limit no more
    /// are accepted: clients wait in the kernel's backlog until a connection closes; when the backlog
    /// is full as well, TCP has them retry. Nobody is refused, except those in the backlog when the
    /// address is closed: in a stop, or by an upgrade that no longer listens there.
    #[arg(long, value_name = "N", env = "STICKY_MAX_CONNECTIONS", hide_env_values = true,
        value_parser = value_parser!(u64).range(1..))]
    pub(in crate::cli) max_connections: Option<u64>,

    /// How many connections one worker may have open [default: no limit]
    ///
    /// At the limit a worker gets no more until one of them closes. New clients go to other workers,
    /// and are queued when every worker is at its limit; clients whose key this worker owns are queued
    /// for it. When the queue of a worker is full, further connections that only it can serve are
    /// closed; when too many are queued in total, clients wait in the kernel's backlog. Long polls and
    /// WebSockets count for as long as they last: allow for as many as a worker has clients.
    #[arg(long, value_name = "N", env = "STICKY_MAX_CONNECTIONS_PER_WORKER", hide_env_values = true,
        value_parser = value_parser!(u32).range(1..))]
    pub(in crate::cli) max_connections_per_worker: Option<u32>,

    /// How many announced keys, such as session ids, to remember
    ///
    /// Workers have equal shares. When a worker announces more, its least recently used keys are forgotten.
    #[arg(
        long,
        value_name = "N",
        env = "STICKY_MAX_SESSIONS",
        hide_env_values = true,
        default_value_t = 1 << 20
    )]
    pub(in crate::cli) max_sessions: u32,

    /// How long to remember an announced key that no client presents
    #[arg(long, value_name = "TIME", env = "STICKY_SESSION_IDLE", hide_env_values = true,
        default_value = "24h", value_parser = some_time)]
    pub(in crate::cli) session_idle: Duration,

    /// How many other keys, such as addresses and cookies, to remember
    ///
    /// At the limit the least recently used one is forgotten. --balance hash needs to remember none.
    #[arg(
        long,
        value_name = "N",
        env = "STICKY_MAX_KEYS",
        hide_env_values = true,
        default_value_t = 1 << 20
    )]
    pub(in crate::cli) max_keys: u32,

    /// How long to remember any other key that no client presents
    #[arg(long, value_name = "TIME", env = "STICKY_KEY_IDLE", hide_env_values = true,
        default_value = "1h", value_parser = some_time)]
    pub(in crate::cli) key_idle: Duration,
}
