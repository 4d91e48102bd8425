//! Where connections come from: the PROXY headers that trusted peers send before their clients' bytes.
//!
//! A header is peeked at until it is whole, as the bytes of clients are, and then read, so that the
//! worker finds what the client has sent and nothing else. That happens once: a connection that comes
//! back from a worker has none any more, and its client is remembered.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use tracing::{debug, warn};

use super::Connection;
use crate::logic::config::ProxyConfig;
use crate::logic::origin::ProxyClients;
use crate::logic::origin::proxy::{self, Client, Header, MAX_HEADER};
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::peek::{Peeked, consume, identity, peek};

/// Who has to send a PROXY header, and what those said that came.
#[derive(Debug)]
pub(super) struct Origins {
    config: ProxyConfig,
    told: ProxyClients,
    /// Where headers are peeked into.
    buffer: Box<[u8; MAX_HEADER]>,
    closed: Throttle,
}

/// What became of the PROXY header of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preface {
    /// It is read, so many bytes; none if there is none to read.
    Read(usize),
    /// So many bytes of it are there.
    Awaited(usize),
    /// It will not come, so the connection is over.
    Missing,
}

impl Origins {
    pub(super) fn new(config: ProxyConfig) -> Self {
        Self {
            config,
            told: ProxyClients::default(),
            buffer: Box::new([0; MAX_HEADER]),
            closed: Throttle::default(),
        }
    }

    /// Writes down what headers said.
    pub(super) fn save(&self) -> ProxyClients {
        self.told.clone()
    }

    /// Goes on with what was written down.
    pub(super) fn restore(config: ProxyConfig, told: ProxyClients) -> Self {
        Self { told, ..Self::new(config) }
    }

    /// Holds for the connections that are accepted from now on.
    pub(super) fn adopt(&mut self, config: ProxyConfig) {
        self.config = config;
    }

    /// Whether a connection that this peer has opened begins with a PROXY header.
    pub(super) fn is_prefaced(&self, peer: Option<SocketAddr>) -> bool {
        self.config.protocol && self.config.trust.covers(peer.map(|peer| peer.ip()))
    }

    /// The client of a connection that comes back from a worker, whose peer is this one.
    pub(super) fn client_of(
        &self,
        socket: &impl AsFd,
        peer: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        if self.told.is_empty() {
            return peer;
        }
        let told = identity(socket.as_fd()).ok().and_then(|socket| self.told.recall(socket));
        told.unwrap_or(peer)
    }

    /// Reads the PROXY header of a connection, if that is still to come. An error is a reason to close
    /// it; one that is gone without a byte is none to speak of.
    fn try_to_read(&mut self, connection: &mut Connection, last: bool) -> Result<Preface, String> {
        if !connection.prefaced {
            return Ok(Preface::Read(0));
        }
        let socket = connection.socket.as_fd();
        let count = match peek(socket, &mut self.buffer[..]) {
            Ok(Peeked::Bytes(count)) => count,
            Ok(Peeked::Nothing) => 0,
            Ok(Peeked::End) => return Ok(Preface::Missing),
            Err(error) => {
                debug!(name: "client_gone", "a proxy left before its PROXY header: {error}");
                return Ok(Preface::Missing);
            }
        };
        let (length, client) = match proxy::read(&self.buffer[..count]) {
            Header::Incomplete if last => {
                return Err("it ends within the header".to_owned());
            }
            Header::Incomplete => return Ok(Preface::Awaited(count)),
            Header::Wrong(why) => return Err(why.to_string()),
            Header::Whole(length, client) => (length, client),
        };
        let consumed = consume(socket, &mut self.buffer[..length]);
        consumed.map_err(|error| format!("the header cannot be read: {error}"))?;
        connection.prefaced = false;
        match client {
            Client::Peer => {}
            Client::Address(client) => connection.client = Some(client),
            Client::Unix => connection.client = None,
        }
        if let Ok(socket) = identity(socket) {
            self.told.remember(socket, connection.client);
        }
        Ok(Preface::Read(length))
    }

    /// Reads the PROXY header of a connection, if that is still to come; `last` says that no more
    /// bytes will.
    pub(super) fn read(&mut self, now: Time, connection: &mut Connection, last: bool) -> Preface {
        self.try_to_read(connection, last).unwrap_or_else(|why| {
            self.say_missing(now, connection.client, &why);
            Preface::Missing
        })
    }

    /// Says in the log why a connection of this peer is closed, at a limited rate.
    pub(super) fn say_missing(&mut self, now: Time, peer: Option<SocketAddr>, why: &str) {
        if let Some(before) = self.closed.allow(now) {
            let peer = peer.map(|peer| peer.to_string());
            warn!(
                name: "connection_dropped", client = peer.as_deref(), reason = "proxy_header",
                error = why, suppressed = before,
                "connection dropped: the trusted peer {} has to send a PROXY header first: {why}; \
                 enable it there, or do not --trust that peer ({before} earlier ones not shown)",
                peer.as_deref().unwrap_or("unix")
            );
        }
    }
}
