//! What PROXY headers said about connections, for those that come back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How many connections are remembered.
const REMEMBERED: usize = 16 * 1024;

/// The clients of connections that had a PROXY header, by the identity of their sockets.
///
/// The header is read once and gone. A worker that gives a connection back sends the socket alone,
/// whose peer is the proxy.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ProxyClients {
    clients: BTreeMap<u64, Option<SocketAddr>>,
}

impl ProxyClients {
    /// Whether no header has said anything yet.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Remembers the client of a connection; one may have no address.
    ///
    /// Sockets get rising numbers, so the one that is forgotten for a new one is the oldest.
    pub fn remember(&mut self, socket: u64, client: Option<SocketAddr>) {
        if self.clients.len() >= REMEMBERED && !self.clients.contains_key(&socket) {
            self.clients.pop_first();
        }
        self.clients.insert(socket, client);
    }

    /// What the header of this connection said, if it had one and that is not too long ago.
    pub fn recall(&self, socket: u64) -> Option<Option<SocketAddr>> {
        self.clients.get(&socket).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connections_are_remembered() {
        let client = |socket: u64| Some(SocketAddr::from(([192, 0, 2, 1], socket as u16)));
        let mut clients = ProxyClients::default();
        let sockets = 10..10 + 2 * REMEMBERED as u64;
        sockets.clone().for_each(|socket| clients.remember(socket, client(socket)));
        clients.remember(sockets.end - 1, None);
        assert_eq!(clients.clients.len(), REMEMBERED);
        assert_eq!(clients.recall(10), None);
        assert_eq!(clients.recall(sockets.end - 2), Some(client(sockets.end - 2)));
        assert_eq!(clients.recall(sockets.end - 1), Some(None));
    }
}
