//! A supervisor without policy: one end of a channel, and clients that it hands over.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use sendfd::{RecvWithFd, SendWithFd};
use sticky_worker::message::{MAX_MESSAGE, MAX_WORKER_MESSAGE, ToWorker};

/// Far more than anything here takes; a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Supervisor {
    /// The socket, used as a datagram socket: the calls are the same for both kinds.
    end: UnixDatagram,
    listener: TcpListener,
}

/// A supervisor and the worker's end of its channel.
pub(crate) fn supervisor() -> (Supervisor, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let end = UnixDatagram::from(ours);
    end.set_read_timeout(Some(DEADLINE)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (Supervisor { end, listener }, theirs)
}

impl Supervisor {
    /// Sends these bytes with these descriptors.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[RawFd]) {
        assert_eq!(self.end.send_with_fd(bytes, fds).unwrap(), bytes.len());
    }

    pub(crate) fn say(&self, message: &ToWorker) {
        self.send(message.encode(&mut [0; MAX_MESSAGE]), &[]);
    }

    /// A client with a connection to the supervisor, and that connection.
    pub(crate) fn client(&self) -> (TcpStream, TcpStream, SocketAddr) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (accepted, address) = self.listener.accept().unwrap();
        (client, accepted, address)
    }

    /// Hands a new client's connection to the worker; returns the client's side.
    pub(crate) fn hand_over(&self) -> TcpStream {
        let (client, accepted, address) = self.client();
        let message = ToWorker::Conn { client: Some(address), listener: Some(0) };
        self.send(message.encode(&mut [0; MAX_MESSAGE]), &[accepted.as_raw_fd()]);
        client
    }

    /// The next message of the worker, with the number of a descriptor that came with it.
    pub(crate) fn next_with_fd(&self) -> (String, Option<RawFd>) {
        let mut bytes = [0; MAX_WORKER_MESSAGE];
        let mut fds = [-1; 2];
        let (length, count) = loop {
            match self.end.recv_with_fd(&mut bytes, &mut fds) {
                // By the SIGCHLD of a child that ended while its parent still blocked signals.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received.unwrap(),
            }
        };
        let line = String::from_utf8(bytes[..length].to_vec()).unwrap();
        (line.trim_end().into(), (count > 0).then_some(fds[0]))
    }

    pub(crate) fn next(&self) -> String {
        self.next_with_fd().0
    }

    /// Reads `CLOSED` messages up to this sum.
    pub(crate) fn closed(&self, sum: u32) {
        let mut found = 0;
        while found < sum {
            let line = self.next();
            let count = line.strip_prefix("CLOSED ").unwrap_or_else(|| panic!("got {line:?}"));
            found += count.parse::<u32>().unwrap();
        }
        assert_eq!(found, sum);
    }

    /// Whether the worker has said nothing that is still unread.
    pub(crate) fn is_quiet(&self) -> bool {
        self.end.set_nonblocking(true).unwrap();
        let quiet = self.end.recv(&mut [0; MAX_MESSAGE]);
        self.end.set_nonblocking(false).unwrap();
        matches!(quiet, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Waits for something, with a deadline.
#[expect(clippy::disallowed_methods, reason = "a test has a deadline and looks again")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never came: {what}");
        std::thread::yield_now();
    }
}

/// What a client reads up to the end of its connection.
pub(crate) fn read_all(mut client: &TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// Takes hold of a descriptor that came with a message.
#[expect(unsafe_code, reason = "sendfd returns plain numbers")]
pub(crate) fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the number is new in this process and passed on once.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}
