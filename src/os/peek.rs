//! What a connection is, and a look at its first bytes, which leaves them where they are until they
//! are read on purpose.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::fstat;
use socket2::{Domain, SockRef, Type};

use super::listen::{Mode, set_number};

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

/// Whether more bytes can come before some are read, of which `seen` are there and `wanted` at most are of
/// interest.
///
/// What was only looked at stays in its buffer, and when that is full, nothing more comes. A buffer that is
/// too small is made larger first, as far as the host lets it. Where nobody can tell, there is room.
pub fn has_room(socket: BorrowedFd<'_>, seen: usize, wanted: usize) -> bool {
    // Packets take more room than their bytes.
    let enough = 2 * u32::try_from(wanted).unwrap_or(u32::MAX / 2);
    let room = || -> io::Result<bool> {
        let mut memory = Memory::of(socket)?;
        if is_unix(socket)? {
            // Senders have the bytes in their own buffers, which most likely are as large as this one, and
            // wait for three quarters of it to be free (`unix(7)`). The messages need some more.
            return Ok(seen < memory.send as usize / 4 * 3 / 4);
        }
        if memory.most < enough {
            // To want so much at once has the kernel see to room for it (`SO_RCVLOWAT` of `socket(7)`), up
            // to the most of `tcp_rmem` (`tcp(7)`). That stays when it is taken back.
            let wanted = i32::try_from(enough).map_err(io::Error::other)?;
            set_number(&socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, wanted)?;
            set_number(&socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1)?;
            memory = Memory::of(socket)?;
        }
        // A window is shut when less is free than a packet needs, measured at up to a fifth.
        Ok(memory.used < memory.most / 4 * 3)
    };
    room().unwrap_or(true)
}

/// Whether it is a Unix socket.
pub fn is_unix(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(SockRef::from(&socket).domain()? == Domain::UNIX)
}

/// What a socket holds in its buffers, and may hold (`SO_MEMINFO`, since Linux 4.12).
struct Memory {
    used: u32,
    most: u32,
    send: u32,
}

impl Memory {
    #[expect(unsafe_code, reason = "no crate has a getter for this option")]
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // SK_MEMINFO_RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF and others of `linux/sock_diag.h`.
        let mut numbers = [0_u32; 9];
        let size = libc::socklen_t::try_from(size_of_val(&numbers)).map_err(io::Error::other)?;
        let mut got = size;
        // SAFETY: the kernel writes at most `size` bytes, which `numbers` has, and both outlive the call.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                numbers.as_mut_ptr().cast(),
                &raw mut got,
            )
        };
        Errno::result(done)?;
        let [used, most, _, send, ..] = numbers;
        Ok(Self { used, most, send })
    }
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
pub fn peer_of(socket: &OwnedFd, mode: Mode) -> io::Result<Peer> {
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

/// The port that a client connected to; a Unix socket has none.
pub fn local_port(socket: &OwnedFd) -> Option<u16> {
    Some(SockRef::from(socket).local_addr().ok()?.as_socket()?.port())
}
