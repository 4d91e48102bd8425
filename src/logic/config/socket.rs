//! The files of Unix sockets that `--listen` asks for.

/// Who may connect to them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SocketConfig {
    /// Their mode, if not what the umask of the supervisor makes it.
    pub mode: Option<u32>,
    /// Their user, if not that of the workers.
    pub uid: Option<u32>,
    /// Their group, if not that of the workers.
    pub gid: Option<u32>,
}
