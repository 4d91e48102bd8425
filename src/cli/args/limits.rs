//! Limits: how much the supervisor remembers.

use std::time::Duration;

use crate::cli::values::some_time;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(in crate::cli) struct LimitsArgs {
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
