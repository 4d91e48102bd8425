//! A look at the first bytes of a connection, which leaves them where they are.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// What a look found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peeked {
    /// This many bytes, at the beginning of the buffer.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The client has closed the connection without a byte.
    End,
}

/// Copies the bytes that have arrived into `buffer` and leaves them in the socket.
///
/// The socket may be in blocking mode and stays so. Errors are those of `recv(2)`, among them
/// `ECONNRESET` of a client that is gone.
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Peeked> {
    match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Ok(Peeked::End),
        Ok(count) => Ok(Peeked::Bytes(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Peeked::Nothing),
        Err(errno) => Err(errno.into()),
    }
}
