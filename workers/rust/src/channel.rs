//! The socket of the channel: one datagram in, one datagram out, descriptors beside them.
//!
//! Nothing here waits except [`Channel::wait`], and nothing sets `O_NONBLOCK`: the supervisor holds
//! the same open file description and would be changed with it, so every call says `MSG_DONTWAIT`.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::message::MAX_MESSAGE;

/// The most that one message can carry (`SCM_MAX_FD`), so that room for them is never what lacks.
const MAX_FDS: usize = 253;

/// What one look at the channel brought.
pub(crate) enum Received {
    /// A datagram.
    Datagram {
        /// Its length in the buffer; longer than [`MAX_MESSAGE`] when it was cut.
        length: usize,
        /// The first descriptor that came with it.
        fd: Option<OwnedFd>,
        /// Whether descriptors came that could not be taken.
        lost: bool,
    },
    /// Nothing there now.
    Empty,
    /// The supervisor is gone.
    End,
    /// The process has no free descriptor number: nothing was taken from the channel.
    Starved,
}

/// How a datagram went out.
pub(crate) enum Sent {
    /// It is in the kernel.
    Done,
    /// No room; writability of the socket tells when there is.
    Full,
    /// The kernel is short of something else; try again after a while.
    Later,
    /// The supervisor is gone.
    Gone,
}

/// What [`Channel::wait`] waits for.
pub(crate) enum Until {
    /// A datagram or the end of file.
    Readable,
    /// Room for a datagram.
    Writable,
}

pub(crate) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Takes one datagram out of the channel. One byte of the buffer beyond a full message shows
    /// that a datagram was too long.
    ///
    /// The caller takes care that no two threads of this process are in here at once.
    pub(crate) fn receive(&self, buffer: &mut [u8; MAX_MESSAGE + 1]) -> io::Result<Received> {
        // At the limit of descriptors recvmsg consumes the message and destroys the connection in it
        // (unix(7), MSG_CTRUNC), so a number is held and let go just before.
        match fcntl(&self.socket, FcntlArg::F_DUPFD_CLOEXEC(0)) {
            Ok(reserved) => drop(owned(reserved)),
            Err(Errno::EMFILE) => return Ok(Received::Starved),
            Err(errno) => return Err(errno.into()),
        }
        match self.receive_now(buffer) {
            Err(Errno::EAGAIN) => Ok(Received::Empty),
            // A supervisor that dies with unread messages of ours leaves this error once, before
            // those of its own that are still here.
            Err(Errno::ECONNRESET) => match self.receive_now(buffer) {
                Err(Errno::EAGAIN | Errno::ECONNRESET) => Ok(Received::End),
                other => Ok(other?),
            },
            other => Ok(other?),
        }
    }

    fn receive_now(&self, buffer: &mut [u8; MAX_MESSAGE + 1]) -> nix::Result<Received> {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut into = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut into, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        let lost = message.flags.contains(MsgFlags::MSG_CTRUNC);
        let mut fds = Vec::new();
        // nix shows nothing of truncated control data. It held a single descriptor, which is gone: a
        // supervisor sends one, and there was room for more.
        if let Ok(controls) = message.cmsgs() {
            for control in controls {
                if let ControlMessageOwned::ScmRights(numbers) = control {
                    fds.extend(numbers.into_iter().map(owned));
                }
            }
        }
        match message.bytes {
            0 => Ok(Received::End),
            length => Ok(Received::Datagram { length, fd: fds.into_iter().next(), lost }),
        }
    }

    /// Puts one datagram into the channel, with a descriptor if one is given.
    pub(crate) fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<Sent> {
        let fds = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
        let from = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            return match sendmsg::<()>(
                self.socket.as_raw_fd(),
                &from,
                rights.as_slice(),
                flags,
                None,
            ) {
                Ok(_) => Ok(Sent::Done),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Ok(Sent::Full),
                Err(Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => Ok(Sent::Later),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Ok(Sent::Gone),
                Err(errno) => Err(errno.into()),
            };
        }
    }

    /// Waits for the channel, at most this long; a signal handler does not end the wait.
    pub(crate) fn wait(&self, until: Until, limit: Option<Duration>) -> io::Result<()> {
        let flags = match until {
            Until::Readable => PollFlags::POLLIN,
            Until::Writable => PollFlags::POLLOUT,
        };
        let limit = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
        });
        loop {
            match poll(&mut [PollFd::new(self.socket.as_fd(), flags)], limit) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(feature = "tokio")]
impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes hold of a number that a system call has just given to this process.
#[expect(unsafe_code, reason = "the system calls return plain numbers")]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers pass numbers that fcntl or recvmsg returned as new, once each.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
