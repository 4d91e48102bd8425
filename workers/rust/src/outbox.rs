//! What the worker still has to say: messages in their order, and the count of closed connections.
//!
//! Every message goes through here, so that an `END` that found no room can never be overtaken by a
//! later `SESSION` of the same key. Whoever needs to know that a message is in the kernel keeps its
//! [`Ticket`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::channel::{Channel, Sent};
use crate::error::Error;
use crate::message::FromWorker;

/// The place of a message in the order of all messages, counted from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ticket(u64);

/// How far a flush came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flushed {
    /// All is said.
    Everything,
    /// The channel is full; go on when it is writable.
    Full,
    /// The kernel is short of memory or the like; go on after a while.
    Later,
}

#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Messages that found no room yet, oldest first.
    queue: VecDeque<Outgoing>,
    /// How many messages were ever queued.
    queued: u64,
    /// Connections closed since the last `CLOSED` went out.
    closed: u32,
    /// Whether the supervisor is gone; nothing is kept then.
    gone: bool,
}

struct Outgoing {
    message: FromWorker,
    fd: Option<OwnedFd>,
}

impl Outbox {
    /// Queues a message behind all others.
    pub(crate) fn push(&self, message: FromWorker, fd: Option<OwnedFd>) -> Ticket {
        let mut state = self.lock();
        state.queued += 1;
        if !state.gone {
            state.queue.push_back(Outgoing { message, fd });
        }
        Ticket(state.queued)
    }

    /// Counts one connection as closed; whether it is the first since the last `CLOSED`.
    pub(crate) fn count_closed(&self) -> bool {
        let mut state = self.lock();
        state.closed = state.closed.saturating_add(1);
        state.closed == 1
    }

    /// Sends the queued messages as far as there is room, without waiting.
    pub(crate) fn flush(&self, channel: &Channel) -> Result<Flushed, Error> {
        self.lock().flush_queue(channel)
    }

    /// Sends the queued messages and the count of closed connections, without waiting.
    pub(crate) fn flush_all(&self, channel: &Channel) -> Result<Flushed, Error> {
        let mut state = self.lock();
        match state.flush_queue(channel)? {
            Flushed::Everything => state.flush_closed(channel),
            short => Ok(short),
        }
    }

    /// Whether the message of this ticket is in the kernel; an error when nobody will read it.
    pub(crate) fn is_sent(&self, ticket: Ticket) -> Result<bool, Error> {
        let state = self.lock();
        if state.gone {
            return Err(Error::SupervisorGone);
        }
        Ok(ticket.0 <= state.queued - state.queue.len() as u64)
    }

    /// A poisoned lock still guards a whole state: every change below is complete before anything
    /// that could panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flush_queue(&mut self, channel: &Channel) -> Result<Flushed, Error> {
        while let Some(next) = self.queue.front() {
            let fd = next.fd.as_ref().map(AsFd::as_fd);
            let sent = channel.send(&next.message.encode(), fd);
            match self.settle(sent)? {
                Flushed::Everything => drop(self.queue.pop_front()),
                short => return Ok(short),
            }
        }
        Ok(Flushed::Everything)
    }

    fn flush_closed(&mut self, channel: &Channel) -> Result<Flushed, Error> {
        if self.closed == 0 || self.gone {
            return Ok(Flushed::Everything);
        }
        let sent = channel.send(&FromWorker::Closed(self.closed).encode(), None);
        let flushed = self.settle(sent)?;
        if flushed == Flushed::Everything {
            self.closed = 0;
        }
        Ok(flushed)
    }

    fn settle(&mut self, sent: std::io::Result<Sent>) -> Result<Flushed, Error> {
        match sent.map_err(Error::io("send to the supervisor"))? {
            Sent::Done => Ok(Flushed::Everything),
            Sent::Full => Ok(Flushed::Full),
            Sent::Later => Ok(Flushed::Later),
            Sent::Gone => {
                self.gone = true;
                self.queue.clear();
                Ok(Flushed::Everything)
            }
        }
    }
}
