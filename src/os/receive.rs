//! `recvmsg(2)` with all that can come along with bytes, `unix(7)`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::libc;

use super::closing::{Foreign, Sender};

/// The most descriptors that one message can carry (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;
/// Capacity for that many, so that the kernel never has to drop some for want of room, and for what else
/// a worker can ask for on its end of a channel, where its messages are taken back.
const CONTROL_SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS)) + 1024;
/// A descriptor of the process that sent a message, which comes to whoever has set `SO_PASSPIDFD`.
const SCM_PIDFD: libc::c_int = 4;

/// What was received at one go: a datagram, or a part of a stream.
#[derive(Debug)]
pub struct Received {
    /// Its length in bytes; only as many as fit into the buffer are kept of a datagram.
    pub len: usize,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: Vec<Foreign>,
    /// Some descriptors were lost, since this process has too many.
    pub lost: bool,
}

/// Where the kernel puts what comes along.
#[repr(C)]
union Control {
    _aligned: libc::cmsghdr,
    bytes: [MaybeUninit<u8>; CONTROL_SPACE],
}

/// Receives what is there, without waiting. `None` when nothing is.
#[expect(unsafe_code, reason = "rustix drops what it does not know, and nix what is not whole")]
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: libc::c_int,
    sender: Sender,
) -> io::Result<Option<Received>> {
    let mut control = Control { bytes: [MaybeUninit::uninit(); CONTROL_SPACE] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = MaybeUninit::<libc::msghdr>::zeroed();
    // SAFETY: zeros are valid for all its fields.
    let header = unsafe { header.assume_init_mut() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_SPACE as _;
    let flags = flags | libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the buffers are as long as is said, and they outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), header, flags) };
    let Ok(len) = usize::try_from(len) else {
        let error = io::Error::last_os_error();
        let nothing = error.kind() == io::ErrorKind::WouldBlock;
        return if nothing { Ok(None) } else { Err(error) };
    };
    // SAFETY: the kernel has filled the header and what it leads to.
    let descriptors = unsafe { descriptors(header, sender) };
    Ok(Some(Received { len, descriptors, lost: header.msg_flags & libc::MSG_CTRUNC != 0 }))
}

/// The descriptors that came along. Those of processes, which nobody here wants, are closed.
///
/// # Safety
///
/// The header is one that `recvmsg(2)` has just filled in.
#[expect(unsafe_code, reason = "control messages lie where the last one says")]
unsafe fn descriptors(header: &libc::msghdr, sender: Sender) -> Vec<Foreign> {
    let mut all = Vec::new();
    // SAFETY: the header is whole, and so is each message in it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: likewise; the end is null.
    while let Some(message) = unsafe { next.as_ref() } {
        let is_rights = message.cmsg_type == libc::SCM_RIGHTS;
        if message.cmsg_level == libc::SOL_SOCKET && (is_rights || message.cmsg_type == SCM_PIDFD) {
            // SAFETY: it only counts.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            let len: usize = message.cmsg_len as _;
            // SAFETY: it is a place in the message.
            let first = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for place in 0..len.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: so many numbers are there; those of what could not be opened are negative.
                let number = unsafe { ptr::read_unaligned(first.add(place)) };
                // SAFETY: the kernel has just opened it for this process.
                let descriptor = (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) });
                let foreign = descriptor.filter(|_| is_rights);
                all.extend(foreign.map(|descriptor| Foreign::new(descriptor, sender)));
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    all
}
