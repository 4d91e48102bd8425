//! The flags about the files of Unix sockets.

use crate::cli::values::file_mode;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Unix sockets")]
pub(in crate::cli) struct SocketArgs {
    /// The mode of the Unix sockets of --listen, such as 660 [default: what the umask leaves of 777]
    ///
    /// To connect, a process needs the right to write to the socket. The socket never has more rights
    /// than these, not even for a moment.
    #[arg(long, value_name = "OCTAL", env = "STICKY_SOCKET_MODE", hide_env_values = true,
        value_parser = file_mode)]
    pub(in crate::cli) socket_mode: Option<u32>,

    /// The user whose the Unix sockets of --listen are [default: that of the workers]
    ///
    /// A name in /etc/passwd, or a number. Without --socket-group, they get the user's group too.
    #[arg(long, value_name = "NAME|UID", env = "STICKY_SOCKET_USER", hide_env_values = true)]
    pub(in crate::cli) socket_user: Option<String>,

    /// The group of the Unix sockets of --listen [default: that of the workers]
    ///
    /// A name in /etc/group, or a number. For a proxy in front that is another user:
    /// --socket-mode 660 --socket-group www-data. Who is not root can give a group that it is in itself.
    #[arg(long, value_name = "NAME|GID", env = "STICKY_SOCKET_GROUP", hide_env_values = true)]
    pub(in crate::cli) socket_group: Option<String>,
}
