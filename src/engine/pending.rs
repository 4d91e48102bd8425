//! Connections whose first bytes are awaited, each with a deadline.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::Connection;
use super::tokens::Source;
use crate::logic::route::Conn;
use crate::logic::time::Time;

/// The head timeout while others wait for a place or for the end: enough for an honest client, and
/// little for those that only hold a place.
const HURRIED: Duration = Duration::from_secs(1);

/// A connection whose first bytes are awaited, and its place in the order of deadlines.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) connection: Connection,
    /// Whether a byte of it was seen.
    pub(super) started: bool,
    since: Time,
}

/// All connections whose first bytes are awaited.
#[derive(Debug)]
pub(super) struct Pending {
    waiters: HashMap<Conn, Waiter>,
    by_age: BTreeSet<(Time, Conn)>,
    timeout: Duration,
}

impl Waiter {
    /// Starts to wait for the bytes of a connection, which is silent since `since`.
    pub(super) fn register(
        registry: &Registry,
        conn: Conn,
        connection: Connection,
        since: Time,
        started: bool,
    ) -> io::Result<Self> {
        let fd = connection.socket.as_raw_fd();
        registry.register(&mut SourceFd(&fd), Source::Pending(conn).into(), Interest::READABLE)?;
        Ok(Self { connection, started, since })
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
        Self { waiters: HashMap::new(), by_age: BTreeSet::new(), timeout }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn put(&mut self, conn: Conn, waiter: Waiter) {
        self.by_age.insert((waiter.since, conn));
        self.waiters.insert(conn, waiter);
    }

    pub(super) fn take(&mut self, conn: Conn) -> Option<Waiter> {
        let waiter = self.waiters.remove(&conn)?;
        self.by_age.remove(&(waiter.since, conn));
        Some(waiter)
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

    /// Those that have not sent a byte.
    pub(super) fn silent(&self) -> Vec<Conn> {
        let silent = self.waiters.iter().filter(|(_, waiter)| !waiter.started);
        silent.map(|(conn, _)| *conn).collect()
    }
}
