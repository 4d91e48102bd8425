//! Limits: how many connections there may be, and how many keys are remembered.

use std::time::Duration;

use clap::value_parser;

use crate::cli::values::some_time;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitsArgs {
    /// How many connections may be open in all [default: no limit]
    ///
    /// Those in workers count, and those that the supervisor still holds. At the limit nobody is let
    /// in: further clients wait in the kernel's backlog until one of them is over, and are let in by
    /// then; when the backlog is full as well, they try again by themselves. Nobody is turned away but
    /// those who are still in the backlog when the address closes: in a stop, or by an upgrade without it.
    #[arg(long, value_name = "N", env = "STICKY_MAX_CONNECTIONS", hide_env_values = true,
        value_parser = value_parser!(u64).range(1..))]
    pub(in crate::cli) max_connections: Option<u64>,

    /// How many connections one worker may have open [default: no limit]
    ///
    /// At the limit a worker gets no more until one of them is over. New clients go to others, and
    /// wait when every worker is at its limit; clients whose key lives on this one wait for it. When too
    /// many wait for one worker, further ones that only it can serve are closed; when too many wait in
    /// all, clients wait in the kernel's backlog. Long polls and WebSockets count for as long as they
    /// last: allow for as many as a worker has clients.
    #[arg(long, value_name = "N", env = "STICKY_MAX_CONNECTIONS_PER_WORKER", hide_env_values = true,
        value_parser = value_parser!(u32).range(1..))]
    pub(in crate::cli) max_connections_per_worker: Option<u32>,

    /// How many announced keys, such as session ids, to remember
    ///
    /// The workers share it evenly. A worker that announces more forgets its longest unused ones.
    #[arg(
        long,
        value_name = "N",
        env = "STICKY_MAX_SESSIONS",
        hide_env_values = true,
        default_value_t = 1 << 20
    )]
    pub(in crate::cli) max_sessions: u32,

    /// When to forget an announced key that no client presents any more
    #[arg(long, value_name = "TIME", env = "STICKY_SESSION_IDLE", hide_env_values = true,
        default_value = "24h", value_parser = some_time)]
    pub(in crate::cli) session_idle: Duration,

    /// How many other keys, such as addresses and cookies, to remember
    ///
    /// At the limit the longest unused one is forgotten. --balance hash needs to remember none.
    #[arg(
        long,
        value_name = "N",
        env = "STICKY_MAX_KEYS",
        hide_env_values = true,
        default_value_t = 1 << 20
    )]
    pub(in crate::cli) max_keys: u32,

    /// When to forget any other key that no client presents any more
    #[arg(long, value_name = "TIME", env = "STICKY_KEY_IDLE", hide_env_values = true,
        default_value = "1h", value_parser = some_time)]
    pub(in crate::cli) key_idle: Duration,
}
