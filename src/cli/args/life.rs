//! The flags about how workers come and go.

use std::time::Duration;

use crate::cli::values::{some_time, time};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Life of workers")]
pub(in crate::cli) struct LifeArgs {
    /// How long open connections and workers have to end after a stop signal
    ///
    /// On TERM, INT or QUIT the supervisor stops listening, tells workers to finish, and waits until
    /// no connection is open. Then, or when the last fifth of the time begins (5 s at most), workers
    /// get TERM, and at its end KILL. A second signal shortens this to 1 s, a third one to nothing.
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
}
