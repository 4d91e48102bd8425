//! A connection while it is with the supervisor.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::upgrade::{Keeper, Kept};
use crate::logic::burden::{Burden, Part};
use crate::os::peek;

/// A connection while it is with the supervisor.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
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
    /// The connection is a part of what is kept because of that worker, if that is still there.
    _part: Option<Part>,
}

/// What a connection costs that a worker hands back, besides its head, in bytes.
const HANDED_BACK: usize = 1024;

impl Head {
    /// Of a connection that is kept because of this worker from now on.
    pub(super) fn new(bytes: Vec<u8>, burden: &Burden) -> Self {
        let part = Some(burden.add(bytes.len() + HANDED_BACK));
        Self { bytes: bytes.into(), _part: part }
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
    client: Option<SocketAddr>,
    prefaced: bool,
    listener: Option<u32>,
    head: Option<ByteBuf>,
    deaths: u8,
}

impl Connection {
    /// One from this client, of which nothing else is known.
    pub(super) fn new(socket: OwnedFd, client: Option<SocketAddr>) -> Self {
        Self { socket, client, prefaced: false, listener: None, head: None, deaths: 0 }
    }

    /// The port that the client connected to.
    pub(super) fn port(&self) -> Option<u16> {
        peek::local_port(&self.socket)
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedConnection {
        SavedConnection {
            socket: keeper.keep(&self.socket),
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
            socket: self.socket.take_over()?,
            client: self.client,
            prefaced: self.prefaced,
            listener: self.listener,
            head: self.head.map(|head| Head { bytes: head.into_vec().into(), _part: None }),
            deaths: self.deaths,
        })
    }
}
