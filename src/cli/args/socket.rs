//! The flags about the files of Unix sockets.

use crate::cli::values::file_mode;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Unix sockets")]
pub(in crate::cli) struct SocketArgs {
    /// The mode of the Unix sockets of --listen, such as 660 [default: what the umask leaves of 777]
    ///
    /// To connect, a process needs write permission on the socket. The socket never has more permissions
    /// than these, not even for a moment.
    #[arg(long, value_name = "OCTAL", env = "STICKY_SOCKET_MODE", hide_env_values = true,
        value_parser = file_mode)]
    pub(in crate::cli) socket_mode: Option<u32>,

    /// The owner of the Unix sockets of --listen [default: the user of the workers]
    ///
    /// A name in /etc/passwd, or a number. Without --socket-group, they get the user's group too.
    #[arg(long, value_name = "NAME|UID", env = "STICKY_SOCKET_USER", hide_env_values = true)]
    pub(in crate::cli) socket_user: Option<String>,

    /// The group of the Unix sockets of --listen [default: the group of the workers]
    ///
    /// A name in /etc/group, or a number. For a proxy that runs as another user:
    /// --socket-mode 660 --socket-group www-data. Without root, only a group of your own can be given.
    #[arg(long, value_name = "NAME|GID", env = "STICKY_SOCKET_GROUP", hide_env_values = true)]
    pub(in crate::cli) socket_group: Option<String>,
}
