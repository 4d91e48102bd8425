//! What a connection is, and a look at its first bytes, which leaves them where they are until they
//! are read on purpose.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::fstat;
use rustix::io::ioctl_fionread;
use socket2::{SockRef, Type};

pub use sticky_worker::room::{has_room, is_unix};

use super::listen::{Mode, set_number};
use crate::logic::route::returns::Progress;

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

/// Who is at the other end of what a worker gave back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A client: its address, or `None` over a Unix socket.
    Client(Option<SocketAddr>),
    /// Nobody any more.
    Gone,
}

/// A number that no other socket has while this one is open, wherever it is open: its inode.
pub fn identity(socket: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(fstat(socket)?.st_ino)
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

/// Likewise, for one who has seen the first `seen` bytes. Also tells whether these were copied again, as for
/// TCP before Linux 6.9; else what is in their place in `buffer` means nothing.
pub fn peek_behind(
    socket: BorrowedFd<'_>,
    seen: usize,
    buffer: &mut [u8],
) -> io::Result<(Peeked, bool)> {
    let begin_at =
        |byte: libc::c_int| set_number(&socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, byte);
    if seen == 0 || begin_at(i32::try_from(seen).map_err(io::Error::other)?).is_err() {
        return Ok((peek(socket, buffer)?, seen > 0));
    }
    let new = peek(socket, &mut buffer[seen..]);
    // Whoever looks next, or reads, begins where everybody does.
    begin_at(-1)?;
    Ok(match new? {
        Peeked::Bytes(count) => (Peeked::Bytes(seen + count), false),
        nothing => (nothing, false),
    })
}

/// Reads exactly as many bytes as fit into `buffer`, which a look has found to be there.
///
/// Errors are those of `recv(2)`, and `UnexpectedEof` if there are fewer.
pub fn consume(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let mut read = 0;
    while read < buffer.len() {
        match recv(socket.as_raw_fd(), &mut buffer[read..], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => read += count,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Who is at the other end, if the descriptor is a connection at all. It gets the mode that all
/// connections have.
pub fn peer_of(socket: &impl AsFd, mode: Mode) -> io::Result<Peer> {
    let socket = SockRef::from(socket);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("it is no stream socket"));
    }
    let client = match socket.peer_addr() {
        Ok(peer) => peer.as_socket(),
        // A reset leaves no trace of whom it came from.
        Err(error) if error.kind() == io::ErrorKind::NotConnected && !socket.is_listener()? => {
            return Ok(Peer::Gone);
        }
        Err(error) => return Err(error),
    };
    socket.set_nonblocking(mode == Mode::NonBlocking)?;
    Ok(Peer::Client(client))
}

/// How far the workers are with what the client has sent. Only TCP counts what has come (Linux 4.1).
pub fn progress(socket: BorrowedFd<'_>) -> Progress {
    // What cannot be asked for has nothing to read.
    let unread = ioctl_fionread(socket).unwrap_or(0);
    match bytes_received(socket) {
        Some(received) => Progress::Read(received.saturating_sub(unread)),
        None => Progress::Unread(unread),
    }
}

/// How many bytes have come to a TCP socket, `tcpi_bytes_received` of `linux/tcp.h`.
#[expect(unsafe_code, reason = "the struct of the C library ends before this field")]
fn bytes_received(socket: BorrowedFd<'_>) -> Option<u64> {
    const PLACE: usize = 128;
    let mut info = [0_u8; PLACE + size_of::<u64>()];
    let mut size = libc::socklen_t::try_from(info.len()).ok()?;
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let into = info.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `size` bytes, which `info` has, and both outlive the call.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, into, &raw mut size) };
    let is_whole = got == 0 && usize::try_from(size).is_ok_and(|size| size == info.len());
    let bytes = info.last_chunk().filter(|_| is_whole)?;
    Some(u64::from_ne_bytes(*bytes))
}

/// The port that a client connected to; a Unix socket has none.
pub fn local_port(socket: &impl AsFd) -> Option<u16> {
    Some(SockRef::from(socket).local_addr().ok()?.as_socket()?.port())
}
