//! A look at what a socket holds without reading it, and what else is asked of a socket that is about
//! to go elsewhere.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::unistd::dup3_raw;

use crate::head::MAX_HEAD;

thread_local! {
    /// Where looks put what they see; a thread has one look at a time.
    static SEEN: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_HEAD].into());
}

/// How a look waits, in a socket in blocking mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Not at all.
    #[cfg(feature = "tokio")]
    Never,
    /// Until anything is there, as a read does.
    ForAnything,
    /// Until there are more than so many bytes.
    ForMoreThan(usize),
}

/// Shows what can be read, which is nothing at the end of file, and leaves it there.
pub(crate) fn peek<T>(
    socket: &impl AsFd,
    wait: Wait,
    look: impl FnOnce(&[u8]) -> T,
) -> io::Result<T> {
    SEEN.with_borrow_mut(|seen| {
        let (flags, most) = match wait {
            #[cfg(feature = "tokio")]
            Wait::Never => (MsgFlags::MSG_DONTWAIT, seen.len()),
            Wait::ForAnything => (MsgFlags::empty(), seen.len()),
            Wait::ForMoreThan(count) => (MsgFlags::MSG_WAITALL, (count + 1).min(seen.len())),
        };
        let flags = flags | MsgFlags::MSG_PEEK;
        let count = recv(socket.as_fd().as_raw_fd(), &mut seen[..most], flags)?;
        Ok(look(&seen[..count]))
    })
}

/// Whether the client will send no more than is there.
pub(crate) fn has_ended(socket: &impl AsFd) -> bool {
    let ended = PollFlags::from_bits_retain(libc::POLLRDHUP);
    let mut asked = [PollFd::new(socket.as_fd(), ended)];
    poll(&mut asked, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Whether something can still be sent; not after `shutdown(2)`.
pub(crate) fn can_send(socket: &impl AsFd) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(socket.as_fd().as_raw_fd(), &[], flags)?;
    Ok(())
}

/// Makes a socket blocking, for all who have it.
pub(crate) fn make_blocking(socket: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Whether calls on a socket wait.
pub(crate) fn is_blocking(socket: &impl AsFd) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    Ok(!flags.contains(OFlag::O_NONBLOCK))
}

/// A socket whose other end is closed.
pub(crate) fn dead_end() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?.0)
}

/// Puts a dead end in the place of a socket that is no longer of this process, so that whoever still
/// has its number, and shuts it down for example, does nothing to it.
#[expect(unsafe_code, reason = "the number stays with its owner")]
pub(crate) fn replace(socket: &impl AsFd, dead_end: OwnedFd) -> io::Result<()> {
    // SAFETY: the number is that of an open descriptor. Its owner keeps it, since the second one that
    // is returned is let go of; that a socket becomes another one breaks nothing in memory.
    let same = unsafe { dup3_raw(dead_end, socket.as_fd().as_raw_fd(), OFlag::O_CLOEXEC)? };
    let _number = same.into_raw_fd();
    Ok(())
}
