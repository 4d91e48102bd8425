//! The flags about systemd and similar service managers.

use crate::cli::values::ListenFds;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Service manager")]
pub(in crate::cli) struct SystemdArgs {
    /// Whether to use the listening sockets that a service manager passes (LISTEN_FDS)
    ///
    /// systemd passes the sockets of a .socket unit and says so in the environment, see
    /// sd_listen_fds(3). They replace the default of --listen; addresses of --listen are opened as
    /// well. "auto" uses them if LISTEN_PID is this process. "any" also uses them if LISTEN_PID is a
    /// wrapper, such as a shell that has not exited. systemd sends its signals to the wrapper then, so
    /// end it with "exec sticky-run" where you can.
    ///
    /// Workers do not get these variables. NOTIFY_SOCKET and WATCHDOG_USEC are supported too, see
    /// sd_notify(3): sticky-run reports when the first worker is ready, when it reloads and stops, how
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
