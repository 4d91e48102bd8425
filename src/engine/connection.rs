//! A connection while it is with the supervisor.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::logic::Worker;
use crate::logic::quota::{Charge, Quota};
use crate::os::closing::{Foreign, Sender};
use crate::os::kept::{Keeper, Kept};
use crate::os::peek;

/// The socket of a connection.
#[derive(Debug)]
pub(super) enum Socket {
    /// No worker has had it, or none had the time to do anything with it.
    Own(OwnedFd),
    /// A worker has had it, or its client may have sent descriptors along: its close may wait.
    Foreign(Foreign),
}

/// A connection while it is with the supervisor.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// The address of its client, unless that came over a Unix socket.
    pub(super) client: Option<SocketAddr>,
    /// A PROXY header is still to come; until then the client is the proxy.
    pub(super) prefaced: bool,
    /// The number of the listener that it came from, unless a worker gave it back.
    pub(super) listener: Option<u32>,
    /// What a worker has read of it already.
    pub(super) head: Option<Head>,
    /// How many workers have died while it was on its way to them.
    pub(super) deaths: u8,
}

/// What a worker has read of a connection before it handed that back.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Box<[u8]>,
    /// The connection is a part of what is kept because of a worker: of that one, until it is known which
    /// one it goes to. None of those that an earlier program kept.
    part: Option<Charge>,
}

/// What a connection costs that a worker hands back, besides its head, in bytes.
const HANDED_BACK: usize = 1024;

impl Head {
    /// Of a connection that is kept because of this worker from now on.
    pub(super) fn new(bytes: Vec<u8>, burden: &Quota) -> Self {
        let part = Some(burden.charge(bytes.len() + HANDED_BACK));
        Self { bytes: bytes.into(), part }
    }

    /// The connection goes to a worker, because of which it is kept from now on, unless that one has handed
    /// it back itself.
    pub(super) fn goes_to(&mut self, own: &Quota, awaiting: &Quota) {
        if self.part.as_ref().is_none_or(|part| !part.is_of(own)) {
            self.part = Some(awaiting.charge(self.bytes.len() + HANDED_BACK));
        }
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A connection in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedConnection {
    socket: Kept,
    #[serde(default)]
    sender: Option<Sender>,
    client: Option<SocketAddr>,
    prefaced: bool,
    listener: Option<u32>,
    head: Option<ByteBuf>,
    deaths: u8,
}

impl Socket {
    /// One that this sender has had, if there is one.
    fn of(socket: OwnedFd, sender: Option<Sender>) -> Self {
        match sender {
            Some(sender) => Self::Foreign(Foreign::new(socket, sender)),
            None => Self::Own(socket),
        }
    }

    /// The same, of which a worker decides from now on how long its close takes.
    fn shared_with(self, worker: Worker) -> Self {
        match self {
            Self::Own(socket) => Self::of(socket, Some(Sender::Worker(worker))),
            Self::Foreign(_) => self,
        }
    }

    fn sender(&self) -> Option<Sender> {
        match self {
            Self::Own(_) => None,
            Self::Foreign(socket) => Some(socket.sender()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(socket) => socket.as_fd(),
            Self::Foreign(socket) => socket.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl From<OwnedFd> for Socket {
    fn from(socket: OwnedFd) -> Self {
        Self::Own(socket)
    }
}

impl From<Foreign> for Socket {
    fn from(socket: Foreign) -> Self {
        Self::Foreign(socket)
    }
}

impl Connection {
    /// One from this client, of which nothing else is known.
    pub(super) fn new(socket: impl Into<Socket>, client: Option<SocketAddr>) -> Self {
        let socket = socket.into();
        Self { socket, client, prefaced: false, listener: None, head: None, deaths: 0 }
    }

    /// The same connection, which stays here while a worker has it too: that one may close it first, and have
    /// the last close wait.
    pub(super) fn shared_with(self, worker: Worker) -> Self {
        Self { socket: self.socket.shared_with(worker), ..self }
    }

    /// The port that the client connected to.
    pub(super) fn port(&self) -> Option<u16> {
        peek::local_port(&self.socket)
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedConnection {
        SavedConnection {
            socket: keeper.keep(&self.socket),
            sender: self.socket.sender(),
            client: self.client,
            prefaced: self.prefaced,
            listener: self.listener,
            head: self.head.as_ref().map(|head| ByteBuf::from(head.to_vec())),
            deaths: self.deaths,
        }
    }
}

impl SavedConnection {
    /// The connection that was written down.
    pub(super) fn restore(self) -> io::Result<Connection> {
        Ok(Connection {
            socket: Socket::of(self.socket.take_over()?, self.sender),
            client: self.client,
            prefaced: self.prefaced,
            listener: self.listener,
            head: self.head.map(|head| Head { bytes: head.into_vec().into(), part: None }),
            deaths: self.deaths,
        })
    }
}

/// Whose a connection is, for the log.
pub(super) fn of(client: Option<SocketAddr>) -> String {
    client.map_or("of a Unix socket".to_owned(), |client| format!("of {client}"))
}
