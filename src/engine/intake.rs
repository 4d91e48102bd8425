//! Intake: the sockets of the connections that the supervisor holds, and what can be seen of them. What
//! becomes of them is decided elsewhere, by their numbers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::connection::{Connection, SavedConnection};
use super::origin::{Origins, Preface};
use super::tokens::Subject;
use crate::logic::core::{self, Arrived, Look, Seen};
use crate::logic::route::head::MAX_HEAD;
use crate::logic::route::returns::Progress;
use crate::logic::route::{Conn, ListenerId};
use crate::logic::time::Time;
use crate::os::kept::Keeper;
use crate::os::listen::held_back;
use crate::os::peek::{self, Peeked};

/// The sockets of all connections that are held.
#[derive(Debug)]
pub(super) struct Intake {
    sockets: BTreeMap<Conn, Entry>,
    /// The number of the last connection.
    last: u64,
    /// Where first bytes are peeked into.
    head: Box<[u8]>,
    pub(super) origins: Origins,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// The kernel may have held it back.
    is_deferred: bool,
    /// The loop tells when more of its bytes are there.
    is_watched: bool,
}

/// All of them in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedIntake {
    sockets: Vec<(Conn, SavedConnection)>,
    last: u64,
}

/// What waiting for more bytes came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Awaited {
    /// The loop will tell.
    Later,
    /// The socket has no room for more.
    NoRoom,
    /// It cannot be waited for.
    Gone,
}

impl Intake {
    pub(super) fn new(origins: Origins) -> Self {
        let head = vec![0; MAX_HEAD].into_boxed_slice();
        Self { sockets: BTreeMap::new(), last: 0, head, origins }
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedIntake {
        let save = |(conn, entry): (&Conn, &Entry)| (*conn, entry.connection.save(keeper));
        SavedIntake { sockets: self.sockets.iter().map(save).collect(), last: self.last }
    }

    /// Goes on with what was written down, and waits for nothing yet.
    pub(super) fn restore(origins: Origins, saved: SavedIntake) -> io::Result<Self> {
        let mut intake = Self { last: saved.last, ..Self::new(origins) };
        for (conn, connection) in saved.sockets {
            let connection = connection.restore()?;
            let entry = Entry { connection, is_deferred: false, is_watched: false };
            intake.sockets.insert(conn, entry);
        }
        Ok(intake)
    }

    /// How many connections there were so far.
    pub(super) fn connections(&self) -> u64 {
        self.last
    }

    pub(super) fn has(&self, conn: Conn) -> bool {
        self.sockets.contains_key(&conn)
    }

    /// Holds a connection, which the kernel may have held back. Returns its number and what is known of it.
    pub(super) fn hold(&mut self, connection: Connection, is_deferred: bool) -> (Conn, Arrived) {
        let arrived = Arrived {
            listener: connection.listener.map(ListenerId),
            client: connection.client.map(|client| client.ip()),
            is_unix: connection.client.is_none()
                && peek::is_unix(connection.socket.as_fd()).unwrap_or(false),
            is_prefaced: connection.prefaced,
            is_read: connection.head.is_some(),
        };
        self.last += 1;
        let conn = Conn(self.last);
        self.sockets.insert(conn, Entry { connection, is_deferred, is_watched: false });
        (conn, arrived)
    }

    pub(super) fn get_mut(&mut self, conn: Conn) -> Option<&mut Connection> {
        Some(&mut self.sockets.get_mut(&conn)?.connection)
    }

    /// Reads the PROXY header of a connection; none if that does not come, for a reason that was said.
    pub(super) fn read_preface(
        &mut self,
        now: Time,
        conn: Conn,
        last: bool,
    ) -> Option<core::Preface> {
        let connection = &mut self.sockets.get_mut(&conn)?.connection;
        match self.origins.read(now, connection, last) {
            Preface::Read(length) => {
                let client = connection.client.map(|client| client.ip());
                Some(core::Preface::Read { length, client })
            }
            Preface::Awaited(count) => Some(core::Preface::Awaited(count)),
            Preface::Missing => None,
        }
    }

    /// The PROXY header of a connection did not come in time.
    pub(super) fn preface_is_late(&mut self, now: Time, conn: Conn) {
        if let Some(entry) = self.sockets.get(&conn) {
            let why = "the header did not come in time";
            self.origins.say_missing(now, entry.connection.client, why);
        }
    }

    /// Looks at first bytes; none if there is nobody to serve.
    pub(super) fn look(&mut self, conn: Conn, look: Look) -> Option<Seen<'_>> {
        let Entry { connection, is_deferred, .. } = self.sockets.get(&conn)?;
        if let Some(head) = &connection.head {
            return Some(Seen { bytes: head, last: true, ..Seen::default() });
        }
        let (socket, buffer) = (connection.socket.as_fd(), &mut self.head);
        let (behind, is_behind) = match look {
            Look::Whole => (0, false),
            Look::Behind(seen) => (seen, true),
        };
        let (peeked, copied) = match peek::peek_behind(socket, behind, buffer) {
            Ok(found) => found,
            // Whoever has sent something is judged by it.
            Err(_) if is_behind => (Peeked::Nothing, false),
            Err(error) => {
                debug!(name: "client_gone", "a client left before its first bytes: {error}");
                return None;
            }
        };
        let count = match peeked {
            Peeked::Bytes(count) => count,
            Peeked::End if !is_behind => return None,
            Peeked::Nothing | Peeked::End => 0,
        };
        let silent_for = if count == 0 && *is_deferred && !is_behind {
            held_back(socket).unwrap_or_else(|error| {
                debug!(
                    name: "client_silence_unknown",
                    "cannot query how long a client has been silent: {error}"
                );
                Duration::ZERO
            })
        } else {
            Duration::ZERO
        };
        let last = is_behind && count > 0 && !peek::has_room(&socket, count, MAX_HEAD);
        let bytes = &self.head[behind.min(count)..count];
        Some(Seen { bytes, is_behind, last, copied, silent_for })
    }

    /// Waits for more bytes of a connection, of which so many are there.
    pub(super) fn wait(&mut self, registry: &Registry, conn: Conn, seen: usize) -> Awaited {
        let Some(entry) = self.sockets.get_mut(&conn) else { return Awaited::Gone };
        let socket = &entry.connection.socket;
        if seen > 0 && !peek::has_room(socket, seen, MAX_HEAD) {
            return Awaited::NoRoom;
        }
        if entry.is_watched {
            return Awaited::Later;
        }
        let token = Subject::Pending(conn).into();
        let fd = socket.as_raw_fd();
        match registry.register(&mut SourceFd(&fd), token, Interest::READABLE) {
            Ok(()) => {
                entry.is_watched = true;
                Awaited::Later
            }
            Err(error) => {
                warn!(
                    name: "connection_watch_failed",
                    "cannot watch a connection for its first bytes: {error}"
                );
                self.sockets.remove(&conn);
                Awaited::Gone
            }
        }
    }

    /// Waits for no more bytes of a connection. The events would go on after it was passed to a worker, since
    /// the registration belongs to the open socket and not to a descriptor (`epoll(7)`, Q6).
    pub(super) fn wait_no_more(&mut self, registry: &Registry, conn: Conn) {
        if let Some(entry) = self.sockets.get_mut(&conn)
            && entry.is_watched
        {
            entry.is_watched = false;
            let fd = entry.connection.socket.as_raw_fd();
            if let Err(error) = registry.deregister(&mut SourceFd(&fd)) {
                warn!(
                    name: "connection_watch_failed",
                    "cannot stop watching a connection: {error}"
                );
            }
        }
    }

    /// Hands a connection out, of which nothing is awaited any more.
    pub(super) fn take(&mut self, registry: &Registry, conn: Conn) -> Option<Connection> {
        self.wait_no_more(registry, conn);
        Some(self.sockets.remove(&conn)?.connection)
    }

    /// Holds a connection again under its number.
    pub(super) fn put_back(&mut self, conn: Conn, connection: Connection) {
        self.sockets.insert(conn, Entry { connection, is_deferred: false, is_watched: false });
    }

    /// How far the workers are with what the client of a connection has sent.
    pub(super) fn progress(&self, conn: Conn) -> Option<Progress> {
        let entry = self.sockets.get(&conn)?;
        Some(peek::progress(entry.connection.socket.as_fd()))
    }
}
