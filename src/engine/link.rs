//! Links: what connects the supervisor and a worker, one kind for each handoff.
//!
//! Everything that the rest of the engine asks of a worker's connection goes through here, to the
//! folder of its handoff.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use tracing::warn;

use super::native::NativeLink;
use super::{Channels, Connection, Engine};
use crate::logic::Worker;
use crate::logic::route::{Conn, Give};

/// What connects one worker.
#[derive(Debug)]
pub(super) enum Link {
    /// The handoff `channel`.
    Native(NativeLink),
}

impl Link {
    /// The end that the worker inherits.
    pub(super) fn workers_end(&self) -> BorrowedFd<'_> {
        match self {
            Self::Native(link) => link.channel.workers_end(),
        }
    }

    /// What a worker finds in its environment to use its end.
    pub(super) fn environment(&mut self) -> io::Result<Vec<(OsString, OsString)>> {
        match self {
            Self::Native(link) => link.environment(),
        }
    }
}

impl AsRawFd for Link {
    /// The supervisor's own end.
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Native(link) => link.channel.as_raw_fd(),
        }
    }
}

impl Engine {
    /// A link for a worker that is about to be started.
    pub(super) fn new_link(&self) -> io::Result<Link> {
        Ok(Link::Native(NativeLink::new()?))
    }

    /// Reads what workers have said.
    pub(super) fn read_channels(&mut self, which: Channels) {
        for slot in 0..self.workers.slots.len() {
            let readable = self.workers.slots[slot].as_ref().is_some_and(|live| live.readable);
            if readable || which == Channels::All {
                self.read_channel(slot, which);
            }
        }
    }

    /// Reads what the worker in one slot has said.
    pub(super) fn read_channel(&mut self, slot: usize, which: Channels) {
        match self.workers.slots[slot].as_ref().map(|live| &live.link) {
            Some(Link::Native(_)) => self.read_native(slot, which),
            None => {}
        }
    }

    /// Sends a connection to its worker; the supervisor's copy of the socket is closed with it.
    ///
    /// On an error it comes back with it.
    pub(super) fn send_connection(
        &mut self,
        _conn: Conn,
        connection: Connection,
        give: &Give,
    ) -> Result<(), (Connection, io::Error)> {
        let sent = match self.workers.get(give.worker).map(|live| &live.link) {
            Some(Link::Native(link)) => link.send(&connection),
            None => Err(io::Error::from_raw_os_error(nix::libc::ESRCH)),
        };
        sent.map_err(|error| (connection, error))
    }

    /// Tells a worker to finish what it has; returns whether that could be said.
    pub(super) fn tell_drain(&mut self, worker: Worker) -> bool {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => self.drain_native(worker),
            None => true,
        }
    }

    /// How much a worker has not picked up.
    pub(super) fn unread(&self, worker: Worker) -> io::Result<usize> {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(link)) => self.native.unread(link),
            None => Ok(0),
        }
    }

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    pub(super) fn relieve(&mut self, worker: Worker) {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => self.relieve_native(worker),
            None => {}
        }
    }

    /// Takes back what a worker which is gone did not pick up.
    pub(super) fn recover(&mut self, worker: Worker, link: Link) {
        match link {
            Link::Native(link) => self.recover_native(worker, link.channel),
        }
    }

    /// Has the loop tell what it has to tell of each channel.
    pub(super) fn watch_channels(&mut self) {
        for live in self.workers.slots.iter_mut().flatten() {
            let worker = live.worker;
            let registry = self.poll.registry();
            let watched = match &mut live.link {
                Link::Native(link) => {
                    link.watch(registry, worker.slot, self.router.is_wanted(worker))
                }
            };
            if let Err(error) = watched {
                warn!("cannot watch the channel of {worker}: {error}");
            }
        }
    }
}
