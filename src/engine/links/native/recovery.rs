//! Taking back what a worker did not pick up: from one that is gone, and from one that has stopped
//! reading what may go elsewhere.
//!
//! Each connection taken back needs a descriptor here. When there is none, the rest stays in the
//! channel, where it is safe, and is taken back later.

use std::io;
use std::mem;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};
use sticky_worker::message::{MAX_WORKER_MESSAGE, ToWorker};
use tracing::{info, warn};

use super::SavedChannel;
use crate::engine::{Connection, Engine};
use crate::logic::Worker;
use crate::logic::route::{InFlight, Returned};
use crate::logic::time::Time;
use crate::os::fdpass::{Buffer, Channel, Incoming};
use crate::os::kept::Keeper;
use crate::os::receive::Received;

/// When to try again after there was no descriptor.
const AGAIN: Duration = Duration::from_millis(20);

/// What could not be taken back yet.
#[derive(Debug, Default)]
pub(in crate::engine) struct Recovery {
    /// Channels of workers that are gone.
    abandoned: Vec<(Worker, Channel)>,
    /// Workers that have stopped reading.
    unrelieved: Vec<Worker>,
    /// When to try again.
    again: Option<Time>,
}

/// What could not be taken back yet, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedRecovery {
    abandoned: Vec<(Worker, SavedChannel)>,
    unrelieved: Vec<Worker>,
}

/// A message that a worker did not pick up.
#[derive(Debug)]
enum Unread {
    Connection(Connection),
    /// A connection for which there was no descriptor after all.
    Lost,
    Drain,
    Ping,
}

/// What was taken back at one go.
#[derive(Debug)]
struct Taken {
    messages: Vec<Unread>,
    /// Nothing is left in the channel.
    emptied: bool,
}

impl Recovery {
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedRecovery {
        let abandoned = self.abandoned.iter();
        let abandoned =
            abandoned.map(|(worker, channel)| (*worker, SavedChannel::save(channel, keeper)));
        SavedRecovery { abandoned: abandoned.collect(), unrelieved: self.unrelieved.clone() }
    }

    pub(in crate::engine) fn restore(now: Time, saved: SavedRecovery) -> io::Result<Self> {
        let SavedRecovery { abandoned, unrelieved } = saved;
        let abandoned = abandoned.into_iter();
        let abandoned = abandoned.map(|(worker, channel)| Ok((worker, channel.restore(worker)?)));
        let abandoned: Vec<_> = abandoned.collect::<io::Result<_>>()?;
        let left = !(abandoned.is_empty() && unrelieved.is_empty());
        Ok(Self { abandoned, unrelieved, again: left.then_some(now) })
    }

    /// When to call [`Engine::recover_rest`].
    pub(in crate::engine) fn due(&self) -> Option<Time> {
        self.again
    }

    /// How many channels may still hold connections of workers that are gone.
    pub(in crate::engine) fn abandoned(&self) -> usize {
        self.abandoned.len()
    }
}

impl Engine {
    /// Takes back what a worker which has stopped reading did not pick up.
    pub(in crate::engine) fn relieve_native(&mut self, worker: Worker) {
        let before = self.unread(worker).ok();
        let Some(link) = self.workers.get(worker).and_then(|live| live.link.native()) else {
            return;
        };
        let Taken { messages, emptied } = take_back(worker, &link.channel);
        let left = if emptied { 0 } else { self.unread(worker).unwrap_or(0) };
        // If it has picked something up meanwhile, it reads again, and nobody can tell which of the
        // messages these were.
        let sure = before == Some(messages.len() + left);
        info!(
            name: "messages_recovered", worker = worker.slot, count = messages.len(), left,
            "took {} messages back from {worker}, {left} left",
            messages.len()
        );
        let kinds = self.router.take_back(self.now, worker, messages.len(), left);
        for (message, kind) in messages.into_iter().zip(kinds) {
            let movable = sure && kind == InFlight::Movable;
            let how = if movable { Returned::Moved(worker) } else { Returned::Recovered };
            self.return_unread(worker, message, how);
        }
        if !emptied {
            self.native.recovery.unrelieved.push(worker);
            self.native.recovery.again = Some(self.now + AGAIN);
        }
        // As long as this one is unread, the worker still does not read.
        self.send_note(worker, &ToWorker::Ping);
    }

    /// Takes back what a worker which is gone did not pick up.
    pub(in crate::engine) fn recover_native(&mut self, worker: Worker, channel: Channel) {
        let Taken { messages, emptied } = take_back(worker, &channel);
        for message in messages {
            self.return_unread(worker, message, Returned::Recovered);
        }
        if !emptied {
            self.native.recovery.abandoned.push((worker, channel));
            self.native.recovery.again = Some(self.now + AGAIN);
        }
    }

    /// Goes on with what there was no descriptor for.
    pub(in crate::engine) fn recover_rest(&mut self) {
        if self.native.recovery.again.is_none_or(|again| self.now < again) {
            return;
        }
        self.native.recovery.again = None;
        for (worker, channel) in mem::take(&mut self.native.recovery.abandoned) {
            self.recover_native(worker, channel);
        }
        for worker in mem::take(&mut self.native.recovery.unrelieved) {
            if self.router.is_stalled(worker) {
                self.relieve_native(worker);
            }
        }
    }

    fn return_unread(&mut self, worker: Worker, message: Unread, how: Returned) {
        match message {
            Unread::Connection(connection) => self.handoff.take_back(connection, how),
            Unread::Drain => self.workers.drain_later(worker),
            Unread::Lost | Unread::Ping => {}
        }
    }
}

/// Takes back as much as there are descriptors for.
fn take_back(worker: Worker, channel: &Channel) -> Taken {
    let mut buffer = [0; MAX_WORKER_MESSAGE + 1];
    let mut messages = Vec::new();
    loop {
        match channel.take_back(&mut buffer) {
            Ok(Incoming::Message(received)) => messages.extend(unread(worker, &buffer, received)),
            Ok(Incoming::Nothing | Incoming::ShutDown) => {
                return Taken { messages, emptied: true };
            }
            Err(error) => {
                let full = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                if !full {
                    warn!(
                        name: "recovery_failed", worker = worker.slot,
                        "cannot take back what {worker} did not pick up: {error}"
                    );
                }
                return Taken { messages, emptied: !full };
            }
        }
    }
}

/// Reads a message of ours out of the worker's end of a channel.
fn unread(worker: Worker, buffer: &Buffer, mut received: Received) -> Option<Unread> {
    match ToWorker::parse(&buffer[..received.len.min(buffer.len())]) {
        Ok(Some(ToWorker::Conn { client, listener })) => {
            let Some(socket) = received.descriptors.pop() else {
                warn!(
                    name: "descriptor_lost", worker = worker.slot,
                    "a connection that {worker} did not pick up is lost: too many open files"
                );
                return Some(Unread::Lost);
            };
            let listener = listener.map(u32::from);
            let connection = Connection { listener, ..Connection::new(socket, client) };
            Some(Unread::Connection(connection))
        }
        Ok(Some(ToWorker::Drain)) => Some(Unread::Drain),
        Ok(Some(ToWorker::Ping)) => Some(Unread::Ping),
        Ok(None) | Err(_) => None,
    }
}
