//! Connections whose first bytes are awaited, each with a deadline.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};

use super::connection::{Connection, SavedConnection};
use super::tokens::Subject;
use crate::logic::route::Conn;
use crate::logic::route::head::{Growth, MAX_HEAD};
use crate::logic::time::Time;
use crate::os::kept::Keeper;
use crate::os::peek::{self, Peeked};

/// The head timeout while others wait for a place or for the end: enough for an honest client, and
/// little for those that only hold a place.
const HURRIED: Duration = Duration::from_secs(1);

/// A look that copies so many bytes again may follow the one before at once.
const CHEAP: usize = 4096;

/// A connection whose first bytes are awaited, and its place in the order of deadlines.
#[derive(Debug)]
pub(super) struct PendingConnection {
    pub(super) connection: Connection,
    /// Whether a byte of it was seen.
    pub(super) started: bool,
    since: Time,
    /// What the looks at its head have shown since it was judged; none if this program has not done that.
    growth: Option<Growth>,
    /// No look before this time: the last one was dear.
    rests_until: Time,
}

/// All connections whose first bytes are awaited.
#[derive(Debug)]
pub(super) struct Pending {
    connections: HashMap<Conn, PendingConnection>,
    by_age: BTreeSet<(Time, Conn)>,
    by_listener: BTreeSet<(u32, Conn)>,
    /// Those that have more bytes and rest before they are looked at again.
    resting: BTreeSet<(Time, Conn)>,
    timeout: Duration,
}

/// A pending connection in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedPending {
    conn: Conn,
    connection: SavedConnection,
    started: bool,
    since: Time,
}

impl PendingConnection {
    /// Starts to wait for the bytes of a connection, which is silent since `since`.
    pub(super) fn register(
        registry: &Registry,
        conn: Conn,
        connection: Connection,
        since: Time,
        started: bool,
    ) -> io::Result<Self> {
        let fd = connection.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), Subject::Pending(conn).into(), Interest::READABLE)?;
        let growth = Some(Growth::default());
        Ok(Self { connection, started, since, growth, rests_until: since })
    }

    /// Looks at what has come since the last time. Returns whether the connection is to be judged: what is
    /// new may decide about it, or nothing is new, or no more can come.
    ///
    /// Only what is new is read, or a client that sends a long head byte by byte would cost more with
    /// each. Where the rest has to be copied again, the connection rests in proportion to that.
    fn look(&mut self, now: Time, buffer: &mut [u8]) -> bool {
        if self.connection.prefaced {
            return true;
        }
        let Some(growth) = &mut self.growth else {
            self.growth = Some(Growth::default());
            return true;
        };
        let (socket, seen) = (self.connection.socket.as_fd(), growth.seen());
        let Ok((Peeked::Bytes(count), again)) = peek::peek_behind(socket, seen, buffer) else {
            return true;
        };
        self.started = true;
        let dear = if again { seen.saturating_sub(CHEAP) } else { 0 };
        self.rests_until = now + Duration::from_micros(dear as u64);
        count <= seen
            || growth.see(&buffer[seen..count])
            || !peek::has_room(&socket, count, MAX_HEAD)
    }

    /// Ends the events of a connection. They would go on after it was passed to a worker, since
    /// the registration belongs to the open socket and not to a descriptor (`epoll(7)`, Q6).
    pub(super) fn release(self, registry: &Registry) -> io::Result<Connection> {
        registry.deregister(&mut SourceFd(&self.connection.socket.as_raw_fd()))?;
        Ok(self.connection)
    }
}

impl Pending {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            connections: HashMap::new(),
            by_age: BTreeSet::new(),
            by_listener: BTreeSet::new(),
            resting: BTreeSet::new(),
            timeout,
        }
    }

    /// The time for first bytes from now on.
    pub(super) fn set_head_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn put(&mut self, conn: Conn, pending: PendingConnection) {
        self.by_age.insert((pending.since, conn));
        self.by_listener.extend(pending.connection.listener.map(|listener| (listener, conn)));
        self.connections.insert(conn, pending);
    }

    pub(super) fn take(&mut self, conn: Conn) -> Option<PendingConnection> {
        let pending = self.connections.remove(&conn)?;
        self.by_age.remove(&(pending.since, conn));
        self.resting.remove(&(pending.rests_until, conn));
        if let Some(listener) = pending.connection.listener {
            self.by_listener.remove(&(listener, conn));
        }
        Some(pending)
    }

    /// More bytes of a connection may be there. Returns whether it is to be judged now; one that has to rest
    /// before is [`Self::rested`] later.
    pub(super) fn grew(&mut self, now: Time, conn: Conn, buffer: &mut [u8]) -> bool {
        let Some(pending) = self.connections.get_mut(&conn) else { return false };
        let until = pending.rests_until;
        if now < until {
            self.resting.insert((until, conn));
            return false;
        }
        self.resting.remove(&(until, conn));
        pending.look(now, buffer)
    }

    /// One that has more bytes and has rested.
    pub(super) fn rested(&self, now: Time) -> Option<Conn> {
        self.resting.first().filter(|(until, _)| *until <= now).map(|(_, conn)| *conn)
    }

    /// When the first of them will have rested.
    pub(super) fn rest_ends(&self) -> Option<Time> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// When the first of them has waited too long.
    pub(super) fn deadline(&self, hurried: bool) -> Option<Time> {
        let timeout = if hurried { self.timeout.min(HURRIED) } else { self.timeout };
        self.by_age.first().map(|(since, _)| *since + timeout)
    }

    /// One that has waited too long.
    pub(super) fn overdue(&self, now: Time, hurried: bool) -> Option<Conn> {
        let (_, conn) = self.by_age.first()?;
        self.deadline(hurried).filter(|deadline| *deadline <= now).map(|_| *conn)
    }

    /// The listener that a connection came to.
    pub(super) fn listener(&self, conn: Conn) -> Option<u32> {
        self.connections.get(&conn)?.connection.listener
    }

    /// Whether it came by a Unix socket and has sent some of its head.
    pub(super) fn is_local(&self, conn: Conn) -> bool {
        let started = self.connections.get(&conn).filter(|pending| pending.started);
        started.is_some_and(|pending| {
            peek::is_unix(pending.connection.socket.as_fd()).unwrap_or(false)
        })
    }

    /// The peer of a connection whose PROXY header is still to come.
    pub(super) fn prefaced(&self, conn: Conn) -> Option<Option<SocketAddr>> {
        let connection = &self.connections.get(&conn)?.connection;
        connection.prefaced.then_some(connection.client)
    }

    /// Those that came to this listener.
    pub(super) fn of_listener(&self, number: u32) -> Vec<Conn> {
        let its = self.by_listener.range((number, Conn(0))..=(number, Conn(u64::MAX)));
        its.map(|(_, conn)| *conn).collect()
    }

    /// Writes them down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> Vec<SavedPending> {
        let save = |(conn, pending): (&Conn, &PendingConnection)| SavedPending {
            conn: *conn,
            connection: pending.connection.save(keeper),
            started: pending.started,
            since: pending.since,
        };
        self.connections.iter().map(save).collect()
    }

    /// Goes on to wait for those that were written down.
    pub(super) fn restore(
        registry: &Registry,
        timeout: Duration,
        saved: Vec<SavedPending>,
    ) -> io::Result<Self> {
        let mut pending = Self::new(timeout);
        for SavedPending { conn, connection, started, since } in saved {
            let connection = connection.restore()?;
            let again = PendingConnection::register(registry, conn, connection, since, started)?;
            // Keys may stand elsewhere now.
            pending.put(conn, PendingConnection { growth: None, ..again });
        }
        Ok(pending)
    }

    /// Those that have not sent a byte.
    pub(super) fn silent(&self) -> Vec<Conn> {
        let silent = self.connections.iter().filter(|(_, pending)| !pending.started);
        silent.map(|(conn, _)| *conn).collect()
    }
}
