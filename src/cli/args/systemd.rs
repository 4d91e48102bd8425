//! The flags about systemd and what is like it.

use crate::cli::values::ListenFds;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service manager")]
pub(in crate::cli) struct SystemdArgs {
    /// Whether to take the listening sockets that a service manager passes (LISTEN_FDS)
    ///
    /// systemd passes the sockets of a .socket unit and says so in the environment, see
    /// sd_listen_fds(3). They take the place of the default of --listen; what --listen names is
    /// opened besides. "auto" takes them if LISTEN_PID says that they are for this process. "any" takes
    /// them also if a wrapper, such as a shell that is still there, made that another process. systemd
    /// sends its signals to the wrapper then, so one that can should end with "exec sticky-run".
    ///
    /// Workers do not see these variables. NOTIFY_SOCKET and WATCHDOG_USEC are heeded too, see
    /// sd_notify(3): sticky-run tells when the first worker is ready, when it reloads and stops, how
    /// many workers are ready, and that it is alive.
    #[arg(
        long,
        value_name = "WHICH",
        env = "STICKY_LISTEN_FDS",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub(in crate::cli) listen_fds: ListenFds,
}
