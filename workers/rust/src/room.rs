//! Whether a socket has room for more bytes, where those that are there are only looked at.
//!
//! What was only looked at stays in its buffer, and when that is full, nothing more comes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a socket holds in its buffers, and may hold (`SO_MEMINFO`, since Linux 4.12).
struct Memory {
    used: u32,
    most: u32,
    send: u32,
}

/// Whether more bytes can come before some are read, of which `seen` are there and `wanted` at most are of
/// interest.
///
/// A buffer that is too small is made larger first, as far as the host lets it. Where nobody can tell,
/// there is room. Behind urgent data there is none: no look goes further (`tcp(7)`), although a read does.
pub fn has_room(socket: &impl AsFd, seen: usize, wanted: usize) -> bool {
    let socket = socket.as_fd();
    let room = || -> io::Result<bool> {
        let mut urgent = [PollFd::new(socket, PollFlags::POLLPRI)];
        if poll(&mut urgent, PollTimeout::ZERO)? > 0 {
            return Ok(false);
        }
        let mut memory = Memory::of(socket)?;
        if is_unix(socket)? {
            // Senders have the bytes in their own buffers, which most likely are as large as this one, and
            // wait for three quarters of it to be free (`unix(7)`). The messages need some more.
            return Ok(seen < memory.send as usize / 4 * 3 / 4);
        }
        // Packets take more room than their bytes.
        let enough = i32::try_from(2 * wanted).map_err(io::Error::other)?;
        if memory.most < enough.unsigned_abs() {
            // To want so much at once has the kernel see to room for it (`SO_RCVLOWAT` of `socket(7)`), up
            // to the most of `tcp_rmem` (`tcp(7)`). That stays when it is taken back.
            want(socket, enough)?;
            want(socket, 1)?;
            memory = Memory::of(socket)?;
        }
        // A window is shut when less is free than a packet needs, measured at up to a fifth.
        Ok(memory.used < memory.most / 4 * 3)
    };
    room().unwrap_or(true)
}

/// Whether it is a Unix socket. Errors are those of `getsockopt(2)`.
pub fn is_unix(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(option::<libc::c_int>(socket, libc::SO_DOMAIN)? == libc::AF_UNIX)
}

impl Memory {
    fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // SK_MEMINFO_RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF and others of `linux/sock_diag.h`.
        let [used, most, _, send, ..] = option::<[u32; 9]>(socket, libc::SO_MEMINFO)?;
        Ok(Self { used, most, send })
    }
}

/// Has the socket be readable with so many bytes, and no fewer.
#[expect(unsafe_code, reason = "no crate has a setter for this option")]
fn want(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&bytes)).map_err(io::Error::other)?;
    let (number, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: the option takes an int, `bytes` is one and outlives the call.
    let set = unsafe {
        libc::setsockopt(number, level, libc::SO_RCVLOWAT, (&raw const bytes).cast(), size)
    };
    Errno::result(set)?;
    Ok(())
}

/// Numbers that `getsockopt(2)` tells; those that it does not are 0.
#[expect(unsafe_code, reason = "no crate has a getter for these options")]
fn option<T: Copy + Default>(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<T> {
    let mut value = MaybeUninit::new(T::default());
    let mut size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let (number, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    // SAFETY: the kernel writes at most `size` bytes, which `value` has, and both outlive the call. All
    // uses above are ints, or arrays of them, for which any bytes are fine.
    let value = unsafe {
        let got = libc::getsockopt(number, level, option, value.as_mut_ptr().cast(), &raw mut size);
        Errno::result(got)?;
        value.assume_init()
    };
    Ok(value)
}
