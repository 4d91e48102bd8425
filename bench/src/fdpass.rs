//! A message with one descriptor over a channel (SCM_RIGHTS, unix(7)), with nothing around it.
//!
//! Straight `libc`, because the safe wrappers allocate for every message and the floor must not.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Control data with room for one descriptor, laid out as cmsg(3) wants it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: RawFd,
}

/// What `receive` does when there is no message yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Sleeps until there is one.
    Yes,
    /// Returns `WouldBlock`.
    No,
}

/// Sends one message with one descriptor; sleeps while the channel is full. The error is that of
/// sendmsg(2).
#[expect(unsafe_code, reason = "sendmsg(2) takes pointers")]
pub fn send(channel: impl AsFd, bytes: &[u8], passed: impl AsFd) -> io::Result<()> {
    let mut control = control_for(passed.as_fd().as_raw_fd());
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let message = message(&mut part, &mut control);
    // SAFETY: every pointer in `message` leads to a local or to `bytes`, all of which outlive the
    // call, and sendmsg only reads them.
    let sent = unsafe { libc::sendmsg(channel.as_fd().as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message and the descriptor that came with it. Zero bytes are the end of the
/// channel. The error is that of recvmsg(2), or `InvalidData` when descriptors were lost.
#[expect(unsafe_code, reason = "recvmsg(2) takes pointers and makes a descriptor")]
pub fn receive(
    channel: impl AsFd,
    buffer: &mut [u8],
    wait: Wait,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = control_for(-1);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = message(&mut part, &mut control);
    let flags = libc::MSG_CMSG_CLOEXEC | if wait == Wait::No { libc::MSG_DONTWAIT } else { 0 };
    // SAFETY: every pointer in `message` leads to a local or to `buffer`, all of which outlive the
    // call and are borrowed by nobody else, with their true lengths beside them.
    let size = unsafe { libc::recvmsg(channel.as_fd().as_raw_fd(), &mut message, flags) };
    // A negative size is the only one that does not fit.
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a descriptor was lost on its way"));
    }
    let rights = message.msg_controllen > 0
        && (control.header.cmsg_level, control.header.cmsg_type)
            == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    // SAFETY: the kernel has just made this descriptor for this process, and nobody else knows it.
    let passed = rights.then(|| unsafe { OwnedFd::from_raw_fd(control.fd) });
    Ok((size, passed))
}

#[expect(unsafe_code, reason = "the C structures have private padding on some platforms")]
fn control_for(fd: RawFd) -> Control {
    // SAFETY: a cmsghdr is three integers, for which zero is a value.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = control_length() as _;
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    Control { header, fd }
}

#[expect(unsafe_code, reason = "the C structures have private padding on some platforms")]
fn message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zero and null are values.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut *control).cast();
    message.msg_controllen = control_length() as _;
    message
}

/// Without the padding at the end, where a second descriptor would find room.
const fn control_length() -> usize {
    mem::offset_of!(Control, fd) + size_of::<RawFd>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn channel() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    /// The reading end of a pipe that holds `text`.
    fn pipe_of(text: &str) -> io::PipeReader {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        reader
    }

    #[test]
    fn bytes_and_descriptor_arrive_together() {
        let (ours, theirs) = channel();
        send(&ours, b"CONN", pipe_of("one")).unwrap();
        send(&ours, b"CONN listener=1", pipe_of("two")).unwrap();
        for (bytes, text) in [(&b"CONN"[..], "one"), (b"CONN listener=1", "two")] {
            let mut buffer = [0; 64];
            let (size, passed) = receive(&theirs, &mut buffer, Wait::Yes).unwrap();
            let mut read = String::new();
            File::from(passed.unwrap()).read_to_string(&mut read).unwrap();
            assert_eq!((&buffer[..size], read.as_str()), (bytes, text));
        }
    }

    #[test]
    fn an_empty_channel_would_block_and_a_closed_one_ends() {
        let (ours, theirs) = channel();
        let mut buffer = [0; 64];
        let empty = receive(&theirs, &mut buffer, Wait::No).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(ours);
        let (size, passed) = receive(&theirs, &mut buffer, Wait::Yes).unwrap();
        assert_eq!((size, passed.is_none()), (0, true));
    }

    #[test]
    fn a_message_without_a_descriptor_has_none() {
        let (ours, theirs) = channel();
        File::from(ours).write_all(b"PING").unwrap();
        let mut buffer = [0; 64];
        let (size, passed) = receive(&theirs, &mut buffer, Wait::Yes).unwrap();
        assert_eq!((&buffer[..size], passed.is_none()), (&b"PING"[..], true));
    }
}
