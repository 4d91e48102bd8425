//! A channel as a byte stream with descriptors, `unix(7)`: what Node inherits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rustix::io::ioctl_fionread;
use rustix::net::{SendFlags, send};
use sendfd::SendWithFd;

use super::closing::{Foreign, Sender};
use super::receive::{Received, receive};
use crate::logic::Worker;

/// The supervisor's end of a stream to one worker, which may hold what that one has sent.
#[derive(Debug)]
pub struct Stream(Foreign<UnixStream>);

impl Stream {
    /// A new stream and the end that this worker inherits. Only the supervisor's end is
    /// non-blocking.
    pub fn pair(worker: Worker) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let ours = Self::from_end(ours, worker);
        ours.0.set_nonblocking(true)?;
        Ok((ours, theirs))
    }

    /// A stream to this worker from the supervisor's end.
    pub fn from_end(ours: OwnedFd, worker: Worker) -> Self {
        Self(Foreign::new(ours.into(), Sender::Worker(worker)))
    }

    /// Sends as many of these bytes as there is room for, the descriptor with the first of them, and
    /// returns how many. `WouldBlock` and `ETOOMANYREFS` are about room (`unix(7)`).
    pub fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        match descriptor {
            Some(descriptor) => self.0.send_with_fd(bytes, &[descriptor.as_raw_fd()]),
            None => Ok(send(&*self.0, bytes, SendFlags::NOSIGNAL)?),
        }
    }

    /// How many bytes there are to receive.
    pub fn queued(&self) -> io::Result<usize> {
        let queued = ioctl_fionread(&*self.0)?;
        usize::try_from(queued).map_err(io::Error::other)
    }

    /// Receives what is there: `None` when nothing is, no bytes at the end of the stream.
    ///
    /// The kernel never gives bytes after a descriptor at the same go, so a descriptor belongs to the
    /// bytes that it came with.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        receive(self.0.as_fd(), buffer, 0, self.0.sender())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_and_descriptors_come_together_and_then_the_end() {
        let (ours, theirs) = Stream::pair(Worker { slot: 0, generation: 0 }).unwrap();
        let mut theirs = UnixStream::from(theirs);
        let mut buffer = [0; 64];
        assert!(ours.receive(&mut buffer).unwrap().is_none());
        theirs.write_all(b"plain").unwrap();
        // What is received closes a little later, so it is not the stream itself.
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        theirs.send_with_fd(b"first", &[fd]).unwrap();
        theirs.send_with_fd(b"second", &[fd]).unwrap();
        assert_eq!(ours.queued().unwrap(), "plainfirstsecond".len());
        let mut bytes = Vec::new();
        let mut descriptors = Vec::new();
        while let Some(chunk) = ours.receive(&mut buffer).unwrap() {
            bytes.extend_from_slice(&buffer[..chunk.len]);
            descriptors.push(chunk.descriptors.len());
        }
        assert_eq!(bytes, b"plainfirstsecond");
        assert_eq!(descriptors.iter().sum::<usize>(), 2);
        assert!(descriptors.iter().all(|count| *count <= 1));
        assert_eq!(ours.send(b"answer", None).unwrap(), 6);
        theirs.read_exact(&mut buffer[..6]).unwrap();
        drop(theirs);
        assert_eq!(ours.receive(&mut buffer).unwrap().unwrap().len, 0);
    }
}
