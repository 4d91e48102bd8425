//! What workers say, read from their channels.
//!
//! A worker that says nonsense is told off in the log, at a limited rate, and that is all that
//! happens to it and to the others.

use std::io;

use sticky_worker::message::FromWorker;
use tracing::warn;

use super::Native;
use crate::engine::Connection;
use crate::engine::links::handoff::{Channels, Turn};
use crate::engine::links::{Said, Wires};
use crate::logic::Worker;
use crate::os::closing::Foreign;
use crate::os::fdpass::Incoming;
use crate::os::listen::Mode;
use crate::os::peek::{self, Peer};
use crate::os::receive::Received;

/// Messages and descriptors read from one channel before others get their turn.
const BATCH: usize = 256;
/// More messages than a channel holds at once with the kernel's usual limits on buffers, so that
/// reading everything that is there by now ends even while the worker goes on writing.
const MOST_QUEUED: usize = 8192;

/// How many messages and descriptors may be read in a turn.
pub(super) fn most(which: Channels) -> usize {
    match which {
        Channels::Readable => BATCH,
        Channels::All => MOST_QUEUED,
    }
}

impl Native {
    /// Reads one message of a worker. Returns whether there may be another one.
    pub(super) fn read(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        let worker = turn.worker;
        if turn.left == 0 || wires.is_choked(worker, turn.most_unclosed) {
            return false;
        }
        let Some(channel) = self.channels.get(&worker) else { return false };
        match channel.receive(&mut self.buffer) {
            Ok(Incoming::Message(received)) => {
                turn.left = turn.left.saturating_sub(1 + received.descriptors.len());
                self.hear(worker, received, wires);
                return true;
            }
            Ok(Incoming::Nothing) => {}
            Ok(Incoming::ShutDown) => {
                wires.say(worker, Said::shut_down(&io::ErrorKind::UnexpectedEof.into()))
            }
            Err(error) => {
                warn!(
                    name: "channel_read_failed", worker = worker.slot,
                    "cannot read the channel of {worker}: {error}"
                );
            }
        }
        wires.was_read(worker);
        false
    }

    /// Handles one message of a worker, which lies in the buffer.
    fn hear(&mut self, worker: Worker, mut received: Received, wires: &mut Wires) {
        let datagram = &self.buffer[..received.len.min(self.buffer.len())];
        let message = match FromWorker::parse(datagram) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(malformed) => return wires.say(worker, Said::Violation(malformed.to_string())),
        };
        let expected = usize::from(matches!(message, FromWorker::Back { .. }));
        if received.descriptors.len() > expected {
            let what = "it sent descriptors that nobody asked for";
            wires.say(worker, Said::Violation(what.to_owned()));
        }
        wires.say(
            worker,
            match message {
                FromWorker::Ready => Said::Ready,
                FromWorker::Session(key) => Said::Announced(key.as_bytes().into()),
                FromWorker::End(key) => Said::Forgotten(key.as_bytes().into()),
                FromWorker::Closed(count) => Said::Closed(count),
                FromWorker::Back { next } => match received.descriptors.pop() {
                    Some(socket) => given_back(socket, next),
                    None if received.lost => {
                        warn!(
                            name: "descriptor_lost", worker = worker.slot,
                            "a connection that {worker} returned is lost: too many open files"
                        );
                        Said::Closed(1)
                    }
                    None => Said::Violation("BACK came without a connection".to_owned()),
                },
                FromWorker::Pong => Said::Pong,
            },
        );
    }
}

/// A worker gives a connection back, which may be anything in its hands: since it is not the
/// worker's, or, with `next`, for its next request.
fn given_back(socket: Foreign, next: bool) -> Said {
    let connection = match peek::peer_of(&socket, Mode::Blocking) {
        Ok(Peer::Gone) => None,
        Ok(Peer::Client(peer)) => Some(Connection::new(socket, peer)),
        Err(error) => return Said::Violation(format!("BACK came with no connection: {error}")),
    };
    Said::GivenBack { connection, next, is_closed: false }
}
