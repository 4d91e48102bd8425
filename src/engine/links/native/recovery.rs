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

use super::{Native, SavedChannel};
use crate::engine::Connection;
use crate::engine::links::handoff::{Handoff, TakenBack, Unread};
use crate::engine::links::{Said, Wires};
use crate::logic::Worker;
use crate::logic::route::Returned;
use crate::logic::time::Time;
use crate::os::fdpass::{Buffer, Channel, Incoming};
use crate::os::kept::Keeper;
use crate::os::receive::Received;

/// When to try again after there was no descriptor.
const AGAIN: Duration = Duration::from_millis(20);

/// What could not be taken back yet.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Channels of workers that are gone.
    abandoned: Vec<(Worker, Channel)>,
    /// Workers that have stopped reading.
    unrelieved: Vec<Worker>,
    /// When to try again.
    again: Option<Time>,
}

/// What could not be taken back yet, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedRecovery {
    abandoned: Vec<(Worker, SavedChannel)>,
    unrelieved: Vec<Worker>,
}

/// What was taken back at one go.
#[derive(Debug)]
struct Taken {
    messages: Vec<Unread>,
    /// Nothing is left in the channel.
    emptied: bool,
}

impl Recovery {
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedRecovery {
        let abandoned = self.abandoned.iter();
        let abandoned =
            abandoned.map(|(worker, channel)| (*worker, SavedChannel::save(channel, keeper)));
        SavedRecovery { abandoned: abandoned.collect(), unrelieved: self.unrelieved.clone() }
    }

    pub(super) fn restore(now: Time, saved: SavedRecovery) -> io::Result<Self> {
        let SavedRecovery { abandoned, unrelieved } = saved;
        let abandoned = abandoned.into_iter();
        let abandoned = abandoned.map(|(worker, channel)| Ok((worker, channel.restore(worker)?)));
        let abandoned: Vec<_> = abandoned.collect::<io::Result<_>>()?;
        let left = !(abandoned.is_empty() && unrelieved.is_empty());
        Ok(Self { abandoned, unrelieved, again: left.then_some(now) })
    }

    /// When to [`expire`](Self::expire).
    pub(super) fn due(&self) -> Option<Time> {
        self.again
    }

    /// How many channels may still hold connections of workers that are gone.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.len()
    }

    /// Takes back what a worker which is gone did not pick up.
    pub(super) fn abandon(&mut self, worker: Worker, channel: Channel, wires: &mut Wires) {
        let Taken { messages, emptied } = take_back(worker, &channel);
        for message in messages {
            if let Unread::Connection(connection) = message {
                wires.say(worker, Said::Returned(connection, Returned::Recovered));
            }
        }
        if !emptied {
            self.abandoned.push((worker, channel));
            self.again = Some(wires.now + AGAIN);
        }
    }

    /// Goes on with what there was no descriptor for.
    pub(super) fn expire(&mut self, wires: &mut Wires) {
        if self.again.is_none_or(|again| wires.now < again) {
            return;
        }
        self.again = None;
        for (worker, channel) in mem::take(&mut self.abandoned) {
            self.abandon(worker, channel, wires);
        }
        for worker in mem::take(&mut self.unrelieved) {
            wires.say(worker, Said::Unrelieved);
        }
    }
}

impl Native {
    /// Takes back what a worker which has stopped reading did not pick up.
    pub(super) fn relieve(&mut self, now: Time, worker: Worker) -> Option<TakenBack> {
        let before = self.unread(worker).ok();
        let Taken { messages, emptied } = take_back(worker, self.channels.get(&worker)?);
        let left = if emptied { 0 } else { self.unread(worker).unwrap_or(0) };
        // If it has picked something up meanwhile, it reads again, and nobody can tell which of the
        // messages these were.
        let is_sure = before == Some(messages.len() + left);
        info!(
            name: "messages_recovered", worker = worker.slot, count = messages.len(), left,
            "recovered {} messages that {worker} did not read, {left} left",
            messages.len()
        );
        if !emptied {
            self.recovery.unrelieved.push(worker);
            self.recovery.again = Some(now + AGAIN);
        }
        Some(TakenBack { messages, left, is_sure })
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
                        "cannot recover what {worker} did not read: {error}"
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
                    "a connection that {worker} did not read is lost: too many open files"
                );
                return Some(Unread::Nothing);
            };
            let listener = listener.map(u32::from);
            let connection = Connection { listener, ..Connection::new(socket, client) };
            Some(Unread::Connection(connection))
        }
        Ok(Some(ToWorker::Drain)) => Some(Unread::Drain),
        Ok(Some(ToWorker::Ping)) => Some(Unread::Nothing),
        Ok(None) | Err(_) => None,
    }
}
