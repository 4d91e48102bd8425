//! The flags about how workers come and go.

use std::time::Duration;

use crate::cli::values::{TimeOrNone, size, some_time, time, watch_time};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Life of workers")]
pub(in crate::cli) struct LifeArgs {
    /// How long open connections and workers have to end after a stop signal
    ///
    /// On TERM, INT or QUIT the supervisor stops listening, tells workers to finish, and waits until
    /// no connection is open. Then, or when the last fifth of the time begins (5 s at most), workers
    /// get TERM, and at its end KILL. A second signal shortens this to 1 s, a third one to nothing.
    /// Node workers end in the way of their app, see sticky-run-node(7).
    #[arg(long, value_name = "TIME", env = "STICKY_GRACE", hide_env_values = true,
        default_value = "25s", value_parser = time)]
    pub(in crate::cli) grace: Duration,

    /// How long a worker has to become ready
    ///
    /// A worker that is not ready by then is ended and started again. If no worker ever becomes
    /// ready and one of them has failed 5 times, sticky-run gives up with exit code 1.
    #[arg(long, value_name = "TIME", env = "STICKY_BOOT_TIMEOUT", hide_env_values = true,
        default_value = "60s", value_parser = some_time)]
    pub(in crate::cli) boot_timeout: Duration,

    /// How many workers get a successor at the same time in a restart
    ///
    /// On HUP every worker is replaced, one after the other: its successor becomes ready, then the old
    /// worker drains: it gets no new sessions and no other new keys, but still the connections of
    /// its own. If a successor fails, all old workers that are left go on. Workers that reach
    /// --max-lifetime, --max-lifetime-connections or --max-memory are replaced in the same way.
    #[arg(long, value_name = "N", env = "STICKY_RESTART_PARALLEL", hide_env_values = true,
        default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) restart_parallel: u16,

    /// How long a worker that was replaced may drain
    ///
    /// It ends as soon as none of its connections is open and none of its keys is alive; at this
    /// time at the latest it gets TERM, and KILL after --grace. "none" lets it drain for ever.
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
    /// While so many do, no worker is replaced. Those of a slot that TTOU took away do not wait.
    #[arg(long, value_name = "N", env = "STICKY_MAX_DRAINING", hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) max_draining: Option<u16>,

    /// End workers that give no sign of life for so long [default: never]
    ///
    /// Workers are asked every half of this time whether they still answer. One that does not is
    /// aborted (ABRT, and KILL after a quarter of the time, 5 s at most) and replaced. A Node worker
    /// answers from its event loop, so a loop that is blocked for longer is its end. At least 100ms.
    #[arg(long, value_name = "TIME", env = "STICKY_WATCHDOG", hide_env_values = true,
        value_parser = watch_time)]
    pub(in crate::cli) watchdog: Option<Duration>,

    /// Replace workers that are as old as this [default: never]
    ///
    /// Give or take a tenth, so that not all are at once. It counts from when the worker is ready.
    #[arg(long, value_name = "TIME", env = "STICKY_MAX_LIFETIME", hide_env_values = true,
        value_parser = some_time)]
    pub(in crate::cli) max_lifetime: Option<Duration>,

    /// Replace workers that have had so many connections [default: never]
    ///
    /// Give or take a tenth, so that not all are at once. A worker that has had them within a minute
    /// goes on for 100 ms, which becomes twice as long each time, up to 30 s: the limit may be too low.
    #[arg(long, value_name = "N", env = "STICKY_MAX_LIFETIME_CONNECTIONS", hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) max_lifetime_connections: Option<u64>,

    /// Replace workers that hold more memory than this, such as 512MiB or 1.5GiB [default: never]
    ///
    /// KiB, MiB and GiB are powers of 1024; KB, MB and GB, or K, M and G, powers of 1000. It is the
    /// resident memory of the process itself, without its children, looked at every 5 s. A worker that
    /// holds as much within a minute goes on for a second at most.
    #[arg(long, value_name = "SIZE", env = "STICKY_MAX_MEMORY", hide_env_values = true,
        value_parser = size)]
    pub(in crate::cli) max_memory: Option<u64>,
}
