//! Finds the channel that the supervisor left in the environment, or says why there is none.

use std::ffi::OsString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::fstat;

use crate::error::EnvironmentError;
use crate::keys::Keys;
use crate::message::{ENV_CHANNEL, ENV_CHANNEL_INODE, ENV_CHANNEL_KEYS, ENV_PROTOCOL, PROTOCOL};

/// The channel of this process: a copy of the announced descriptor. Both are close-on-exec then, so
/// that a child of the worker does not keep the channel open.
pub(crate) fn channel() -> Result<OwnedFd, EnvironmentError> {
    channel_of(variable)
}

/// What the supervisor places connections by, if it takes them back for their next request.
pub(crate) fn keys() -> Option<Keys> {
    Keys::parse(variable(ENV_CHANNEL_KEYS)?.to_str()?)
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn channel_of(
    variable: impl Fn(&'static str) -> Option<OsString>,
) -> Result<OwnedFd, EnvironmentError> {
    let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
    let value = text(ENV_CHANNEL).ok_or(EnvironmentError::Unset)?;
    let Some(fd) = value.parse().ok().filter(|fd: &RawFd| *fd >= 0) else {
        let expected = "the number of a descriptor";
        return Err(EnvironmentError::Variable { name: ENV_CHANNEL, value, expected });
    };
    let value = text(ENV_CHANNEL_INODE).unwrap_or_default();
    let Ok(inode) = value.parse() else {
        let expected = "the number of an inode";
        return Err(EnvironmentError::Variable { name: ENV_CHANNEL_INODE, value, expected });
    };
    let found = own(fd, inode)?;
    let version = text(ENV_PROTOCOL).unwrap_or_default();
    if version != PROTOCOL.to_string() {
        return Err(EnvironmentError::Protocol(version));
    }
    Ok(found)
}

/// Copies the descriptor if it is the socket with this inode.
#[expect(unsafe_code, reason = "the descriptor is known by its number alone")]
fn own(fd: RawFd, inode: u64) -> Result<OwnedFd, EnvironmentError> {
    // SAFETY: nothing is read or written through it before fstat has shown it to be open and to be
    // the announced socket, which nobody in this process closes; system calls on a closed number
    // fail with EBADF.
    let announced = unsafe { BorrowedFd::borrow_raw(fd) };
    let broken = |errno: Errno| EnvironmentError::Channel { fd, source: errno.into() };
    match fstat(announced) {
        Ok(status) if status.st_ino == inode => {}
        Ok(_) | Err(Errno::EBADF) => return Err(EnvironmentError::Inherited(fd)),
        Err(errno) => return Err(broken(errno)),
    }
    let kind = getsockopt(&announced, sockopt::SockType).map_err(broken)?;
    if kind != SockType::SeqPacket {
        return Err(broken(Errno::EPROTOTYPE));
    }
    fcntl(announced, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(broken)?;
    let source = |source: io::Error| EnvironmentError::Channel { fd, source };
    announced.try_clone_to_owned().map_err(source)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{AddressFamily, SockFlag, socketpair};

    use super::*;

    fn look(
        channel: Option<&str>,
        inode: &str,
        version: &str,
    ) -> Result<OwnedFd, EnvironmentError> {
        channel_of(|name| match name {
            ENV_CHANNEL => channel.map(OsString::from),
            ENV_CHANNEL_INODE => Some(inode.into()),
            ENV_PROTOCOL => Some(version.into()),
            _ => None,
        })
    }

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
    }

    #[test]
    fn the_announced_socket_is_found() {
        let (_supervisor, worker) = pair();
        let inode = fstat(&worker).unwrap().st_ino;
        let found = look(Some(&worker.as_raw_fd().to_string()), &inode.to_string(), "1").unwrap();
        assert_eq!(fstat(&found).unwrap().st_ino, inode);
    }

    #[test]
    fn alone_is_told_from_broken() {
        let (supervisor, worker) = pair();
        let fd = worker.as_raw_fd().to_string();
        let inode = fstat(&worker).unwrap().st_ino.to_string();
        let other = fstat(&supervisor).unwrap().st_ino.to_string();
        let alone = |found: Result<_, EnvironmentError>| found.unwrap_err().is_alone();
        assert!(alone(look(None, "", "")));
        assert!(alone(look(Some(&fd), &other, "1")), "a grandchild with another file there");
        assert!(alone(look(Some("1000000"), &inode, "1")), "a grandchild with nothing there");
        assert!(!alone(look(Some("three"), &inode, "1")));
        assert!(!alone(look(Some("-1"), &inode, "1")));
        assert!(!alone(look(Some(&fd), "", "1")));
        assert!(!alone(look(Some(&fd), &inode, "2")));
    }

    #[test]
    fn a_socket_of_another_kind_is_no_channel() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let inode = fstat(&stream).unwrap().st_ino.to_string();
        let error = look(Some(&stream.as_raw_fd().to_string()), &inode, "1").unwrap_err();
        assert!(matches!(error, EnvironmentError::Channel { .. }));
    }
}
