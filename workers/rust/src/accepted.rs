//! A connection beside its socket: what blocking and asynchronous ones have in common.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::core::{Core, Open};
use crate::head::MAX_HEAD;
use crate::keepalive::{Kept, Look};
use crate::outbox::Ticket;
use crate::peek;
use crate::room::has_room;

/// What is known of a connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) client: Option<SocketAddr>,
    pub(crate) listener: Option<u16>,
    pub(crate) open: Open,
}

impl Accepted {
    /// Of a connection to the listener of this process.
    pub(crate) fn alone(client: Option<SocketAddr>) -> Self {
        Self { client, listener: Some(0), open: Open::alone() }
    }

    /// Looks at everything that is there, which is nothing at the end of file: see [`Kept::look`].
    pub(crate) fn look(&self, kept: &mut Kept, bytes: &[u8], may_wait: bool) -> Look {
        match self.open.looking(self.client.is_some()).filter(|_| !bytes.is_empty()) {
            Some(looking) => kept.look(bytes, &looking, may_wait),
            None => {
                kept.set_free();
                Look::Read
            }
        }
    }

    /// Announces what is about to be given out. The ticket is to be sent before the client can know it.
    pub(crate) fn announce(
        &self,
        kept: &Kept,
        buffers: &[IoSlice<'_>],
    ) -> Option<(&Arc<Core>, Ticket)> {
        self.open.announce(kept, buffers, self.client.is_some())
    }
}

/// Whether no more comes than so many bytes before some are read, so that the server is to see them.
pub(crate) fn is_all(socket: &impl AsFd, count: usize) -> bool {
    peek::has_ended(socket) || !has_room(socket, count, MAX_HEAD)
}

/// The parts of these buffers that are their first so many bytes.
pub(crate) fn parts<'a>(
    buffers: &'a [IoSlice<'a>],
    count: usize,
) -> impl Iterator<Item = &'a [u8]> {
    let mut left = count;
    buffers.iter().map(move |buffer| {
        let part = &buffer[..left.min(buffer.len())];
        left -= part.len();
        part
    })
}
