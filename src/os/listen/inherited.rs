//! Listening sockets that were open when the supervisor started.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use nix::libc;
use nix::sys::statfs::{FsType, fstatfs};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use socket2::{Domain, Socket, Type};

use super::{ListenError, Listener, name_of};

/// The file system of process descriptors since Linux 6.9, `PID_FS_MAGIC` of `linux/magic.h`.
const PID_FS: FsType = FsType(0x5049_4446);

/// Takes over a socket that a service manager passed under this name.
pub(super) fn adopt_passed(fd: RawFd, name: &str) -> Result<Listener, ListenError> {
    let from = match name {
        "" => "(from systemd)".to_owned(),
        name => format!("(from systemd, name {name})"),
    };
    let name = format!("fd:{fd} {from}");
    let mut listener = adopt(fd).map_err(|error| ListenError::new(name, error))?;
    listener.about.name = format!("{} {from}", listener.about.name);
    Ok(listener)
}

/// The number that the kernel never gives to another process, the inode of its descriptor
/// (`LISTEN_PIDFDID` of `sd_listen_fds(3)`); none before Linux 6.9.
pub fn own_pidfd_id() -> Option<u64> {
    let own = File::from(pidfd_open(getpid(), PidfdFlags::empty()).ok()?);
    let has_numbers = fstatfs(own.as_fd()).ok()?.filesystem_type() == PID_FS;
    has_numbers.then_some(own.metadata().ok()?.ino())
}

/// Takes over a listening socket that was open when the supervisor started. It becomes non-blocking
/// for everybody who shares it.
pub(super) fn adopt(fd: RawFd) -> io::Result<Listener> {
    let socket = Socket::from(take_over(fd)?);
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(unfit("it is no listening stream socket"));
    }
    if ![Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&socket.domain()?) {
        return Err(unfit("it is neither a TCP nor a Unix socket"));
    }
    socket.set_nonblocking(true)?;
    let name = name_of(&socket.local_addr()?);
    let mut listener = Listener::new(socket, name);
    listener.about.shared = true;
    Ok(listener)
}

#[expect(unsafe_code, reason = "the user knows the descriptor by its number alone")]
fn take_over(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is only used to duplicate it, which fails if nothing is open there.
    let ours = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    if fd > libc::STDERR_FILENO {
        // SAFETY: the descriptor is open, the user gave it to this listener, and nothing else in
        // this process was opened before it. The first copy is closed here, so that the socket
        // closes with the listener.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Ok(ours)
}

fn unfit(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
