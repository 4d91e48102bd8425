//! The flags about starting, replacing and stopping workers.

use std::time::Duration;

use crate::cli::values::{TimeOrNone, size, some_time, time, watch_time};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Worker lifecycle")]
pub(in crate::cli) struct LifeArgs {
    /// Time from a stop signal to SIGKILL
    ///
    /// On TERM, INT or QUIT the supervisor stops listening, tells workers to drain, and waits until
    /// no connection is open. Then, or for the last fifth of the time (5 s at most), workers get
    /// TERM, and KILL when the time is over. A second signal shortens it to 1 s, a third one to
    /// nothing. Node workers shut down as their app does, see sticky-run-node(7).
    #[arg(long, value_name = "TIME", env = "STICKY_GRACE", hide_env_values = true,
        default_value = "25s", value_parser = time)]
    pub(in crate::cli) grace: Duration,

    /// Time for a worker to become ready
    ///
    /// A worker that is not ready by then is terminated and started again. If no worker ever becomes
    /// ready, sticky-run gives up after 5 failed starts, with exit code 1.
    #[arg(long, value_name = "TIME", env = "STICKY_BOOT_TIMEOUT", hide_env_values = true,
        default_value = "60s", value_parser = some_time)]
    pub(in crate::cli) boot_timeout: Duration,

    /// How many workers to replace at the same time in a restart
    ///
    /// On HUP workers are replaced one after the other: when the successor of a worker is ready, the
    /// old worker drains: it gets no new sessions or other new keys, but still the connections of the
    /// keys that it owns. If a successor fails, the restart is abandoned and the remaining old workers
    /// stay. Workers that reach --max-lifetime, --max-lifetime-connections or --max-memory are
    /// replaced in the same way.
    #[arg(long, value_name = "N", env = "STICKY_RESTART_PARALLEL", hide_env_values = true,
        default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) restart_parallel: u16,

    /// How long a replaced worker may drain
    ///
    /// It is stopped as soon as it has no open connection and owns no key; after this time at the
    /// latest it gets TERM, and KILL after --grace. "none" lets it drain forever.
    #[arg(
        long,
        value_name = "TIME|none",
        env = "STICKY_DRAIN_TIMEOUT",
        hide_env_values = true,
        default_value = "30s"
    )]
    pub(in crate::cli) drain_timeout: TimeOrNone,

    /// How many workers may drain at the same time [default: as many as --workers]
    ///
    /// While so many drain, no worker is replaced. Workers that TTOU removes do not wait.
    #[arg(long, value_name = "N", env = "STICKY_MAX_DRAINING", hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) max_draining: Option<u16>,

    /// Replace workers that do not respond for this long [default: never]
    ///
    /// Workers are pinged twice in this time. One that does not answer is aborted (ABRT, and KILL
    /// after a quarter of the time, 5 s at most) and replaced. A Node worker answers from its event
    /// loop, so a loop that is blocked for longer counts as hung. At least 100ms.
    #[arg(long, value_name = "TIME", env = "STICKY_WATCHDOG", hide_env_values = true,
        value_parser = watch_time)]
    pub(in crate::cli) watchdog: Option<Duration>,

    /// Replace workers of this age [default: never]
    ///
    /// The age of each varies by a tenth, so that they are not all replaced at once. It counts from when
    /// the worker is ready.
    #[arg(long, value_name = "TIME", env = "STICKY_MAX_LIFETIME", hide_env_values = true,
        value_parser = some_time)]
    pub(in crate::cli) max_lifetime: Option<Duration>,

    /// Replace workers that have had this many connections [default: never]
    ///
    /// The number for each varies by a tenth, so that they are not all replaced at once. Where the
    /// limit is reached within a minute, it may be too low: replacement is then delayed by 100 ms, and
    /// twice as long each further time, up to 30 s.
    #[arg(long, value_name = "N", env = "STICKY_MAX_LIFETIME_CONNECTIONS", hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) max_lifetime_connections: Option<u64>,

    /// Replace workers that use more memory than this, such as 512MiB or 1.5GiB [default: never]
    ///
    /// KiB, MiB and GiB are powers of 1024; KB, MB and GB, or K, M and G, powers of 1000. This is the
    /// resident memory of the process itself, without its children, checked every 5 s. Where the limit
    /// is reached within a minute, replacement is delayed, by a second at most.
    #[arg(long, value_name = "SIZE", env = "STICKY_MAX_MEMORY", hide_env_values = true,
        value_parser = size)]
    pub(in crate::cli) max_memory: Option<u64>,
}
