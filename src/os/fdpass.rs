//! A channel as a socket: datagrams with descriptors, `unix(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::fstat;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sendfd::SendWithFd;
use sticky_worker::message::MAX_WORKER_MESSAGE;

use super::closing::{Foreign, Sender};
use super::receive::{self, Received};
use crate::logic::Worker;

/// Both ends of the channel to one worker.
///
/// The worker's end stays open here too, so that what a dead worker did not pick up can be read
/// back from it. Both ends may hold what the worker has sent.
#[derive(Debug)]
pub struct Channel {
    ours: Foreign<UnixDatagram>,
    theirs: Foreign,
}

/// What a receive came to.
#[derive(Debug)]
pub enum Incoming {
    /// A datagram, its bytes in the buffer.
    Message(Received),
    /// Nothing there.
    Nothing,
    /// The other side has shut the channel down for writing.
    ShutDown,
}

/// Where the bytes of a datagram go, of whichever side: one more than allowed, so that a longer one is
/// seen.
pub type Buffer = [u8; MAX_WORKER_MESSAGE + 1];

impl Channel {
    /// A new channel for this worker. Only the supervisor's own end is non-blocking: the flag of the
    /// worker's end is shared with the worker.
    pub fn new(worker: Worker) -> io::Result<Self> {
        let (ours, theirs) = pair()?;
        ours.set_nonblocking(true)?;
        Ok(Self::from_ends(ours.into(), theirs, worker))
    }

    /// A channel from its two ends: the supervisor's own and the worker's.
    pub fn from_ends(ours: OwnedFd, theirs: OwnedFd, worker: Worker) -> Self {
        let sender = Sender::Worker(worker);
        let ours = Foreign::new(ours.into(), sender);
        Self { ours, theirs: Foreign::new(theirs, sender) }
    }

    /// The end that the worker inherits.
    pub fn workers_end(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// What tells the worker's end from any other socket: its inode.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(fstat(self.theirs.as_fd())?.st_ino)
    }

    /// Sends a datagram, with a descriptor or without. `WouldBlock` and `ETOOMANYREFS` are about
    /// room (`unix(7)`).
    pub fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        match descriptor {
            Some(descriptor) => self.ours.send_with_fd(message, &[descriptor.as_raw_fd()])?,
            None => self.ours.send(message)?,
        };
        Ok(())
    }

    /// Receives the next datagram of the worker.
    pub fn receive(&self, buffer: &mut Buffer) -> io::Result<Incoming> {
        receive(self.ours.as_fd(), buffer, self.ours.sender())
    }

    /// Takes back the next datagram that the worker has not picked up.
    ///
    /// `EMFILE` and `ENFILE` mean that there is no free descriptor; the datagram stays where it is
    /// then. Receiving it all the same would lose the connection in it (`recvmsg(2)`, `MSG_CTRUNC`).
    pub fn take_back(&self, buffer: &mut Buffer) -> io::Result<Incoming> {
        drop(self.theirs.try_clone()?);
        receive(self.theirs.as_fd(), buffer, self.theirs.sender())
    }

    /// How many bytes of kernel memory hold what the worker has not picked up (`SIOCOUTQ`).
    pub fn unread_bytes(&self) -> io::Result<usize> {
        unread_bytes(&self.ours)
    }

    /// What the kernel charges for one message, in the unit of [`Self::unread_bytes`]. It differs
    /// between kernels, so it is measured on a channel of its own. A descriptor costs nothing there,
    /// and none is sent: other processes of the same user may already have as many in flight as are
    /// allowed (`ETOOMANYREFS`), which is no reason not to start.
    pub fn charge(message: &[u8]) -> io::Result<usize> {
        let (ours, _theirs) = pair()?;
        ours.send(message)?;
        let charge = unread_bytes(&ours)?;
        if charge == 0 {
            return Err(io::Error::other(
                "the kernel does not tell what a channel holds (SIOCOUTQ)",
            ));
        }
        Ok(charge)
    }
}

impl AsRawFd for Channel {
    /// The supervisor's own end.
    fn as_raw_fd(&self) -> RawFd {
        self.ours.as_raw_fd()
    }
}

fn pair() -> io::Result<(UnixDatagram, OwnedFd)> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((ours.into(), theirs))
}

#[expect(unsafe_code, reason = "ioctl(2) has no safe wrapper")]
fn unread_bytes(ours: &UnixDatagram) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, and `bytes` is one that outlives the call.
    let done = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut Buffer, sender: Sender) -> io::Result<Incoming> {
    // So that a datagram which is too long shows.
    let Some(received) = receive::receive(socket, buffer, libc::MSG_TRUNC, sender)? else {
        return Ok(Incoming::Nothing);
    };
    if received.len == 0 && received.descriptors.is_empty() && is_shut_down(socket)? {
        return Ok(Incoming::ShutDown);
    }
    Ok(Incoming::Message(received))
}

/// Tells the end of a channel from a datagram of no bytes.
fn is_shut_down(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut asked = [PollFd::new(&socket, PollFlags::RDHUP)];
    Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::thread;

    use super::*;
    use crate::os::closing;

    const WORKER: Worker = Worker { slot: 0, generation: 0 };

    fn message(incoming: io::Result<Incoming>) -> Received {
        match incoming {
            Ok(Incoming::Message(received)) => received,
            other => panic!("no message but {other:?}"),
        }
    }

    fn of_worker(channel: &Channel) -> UnixDatagram {
        UnixDatagram::from(channel.theirs.try_clone().unwrap())
    }

    #[test]
    fn what_was_sent_is_counted_and_can_be_taken_back() {
        let charge = Channel::charge(&[b'x'; 128]).unwrap();
        let channel = Channel::new(WORKER).unwrap();
        for text in [&b"CONN one"[..], b"CONN two", &[b'x'; 128]] {
            channel.send(text, Some(channel.theirs.as_fd())).unwrap();
        }
        assert_eq!(channel.unread_bytes().unwrap(), 3 * charge);
        let mut buffer = [0; MAX_WORKER_MESSAGE + 1];
        let first = message(channel.take_back(&mut buffer));
        assert_eq!((&buffer[..first.len], first.descriptors.len()), (&b"CONN one"[..], 1));
        assert_eq!(channel.unread_bytes().unwrap(), 2 * charge);
    }

    #[test]
    fn many_descriptors_and_long_datagrams_arrive_and_are_closed() {
        let channel = Channel::new(WORKER).unwrap();
        let worker = of_worker(&channel);
        let fd = channel.theirs.as_raw_fd();
        worker.send_with_fd(&[b'x'; 20_000], &[fd; 253]).unwrap();
        let mut buffer = [0; MAX_WORKER_MESSAGE + 1];
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let received = message(channel.receive(&mut buffer));
        assert_eq!((received.len, received.descriptors.len(), received.lost), (20_000, 253, false));
        drop(received);
        while closing::awaiting(channel.ours.sender()) > 0 {
            thread::yield_now();
        }
        // Other tests of this process open and close descriptors meanwhile, but far fewer.
        assert!(open() < before + 100);
    }

    #[test]
    fn an_empty_datagram_is_not_the_end_and_a_shut_down_is() {
        let channel = Channel::new(WORKER).unwrap();
        let worker = of_worker(&channel);
        let mut buffer = [0; MAX_WORKER_MESSAGE + 1];
        assert!(matches!(channel.receive(&mut buffer), Ok(Incoming::Nothing)));
        worker.send(b"").unwrap();
        assert_eq!(message(channel.receive(&mut buffer)).len, 0);
        worker.shutdown(Shutdown::Write).unwrap();
        assert!(matches!(channel.receive(&mut buffer), Ok(Incoming::ShutDown)));
    }
}
