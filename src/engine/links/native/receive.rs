//! What workers say: read from their channels and told to the fleet and the router.
//!
//! A worker that says nonsense is told off in the log, at a limited rate, and that is all that
//! happens to it and to the others.

use std::io;

use sticky_worker::message::FromWorker;
use tracing::{debug, warn};

use crate::engine::{Channels, Connection, Engine};
use crate::logic::Worker;
use crate::logic::fleet::Input;
use crate::logic::route::Returned;
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

impl Engine {
    /// Reads what one worker has said.
    pub(in crate::engine) fn read_native(&mut self, worker: Worker, which: Channels) {
        let mut left = if which == Channels::All { MOST_QUEUED } else { BATCH };
        while left > 0 && !self.is_choked(worker) {
            let Some(live) = self.workers.get(worker) else { return };
            let Some(link) = live.link.native() else { return };
            match link.channel.receive(&mut self.native.buffer) {
                Ok(Incoming::Message(received)) => {
                    left = left.saturating_sub(1 + received.descriptors.len());
                    self.hear(worker, received);
                }
                Ok(Incoming::Nothing) => {
                    return self.workers.was_read(worker);
                }
                Ok(Incoming::ShutDown) => {
                    self.workers.was_read(worker);
                    self.end_unusable(worker, &io::ErrorKind::UnexpectedEof.into());
                    return;
                }
                Err(error) => {
                    self.workers.was_read(worker);
                    warn!(
                        name: "channel_read_failed", worker = worker.slot,
                        "cannot read the channel of {worker}: {error}"
                    );
                    return;
                }
            }
        }
    }

    /// Handles one message of a worker, which lies in the buffer.
    fn hear(&mut self, worker: Worker, mut received: Received) {
        let datagram = &self.native.buffer[..received.len.min(self.native.buffer.len())];
        let message = match FromWorker::parse(datagram) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(malformed) => return self.tell_off(worker, &malformed.to_string()),
        };
        let expected = usize::from(matches!(message, FromWorker::Back { .. }));
        if received.descriptors.len() > expected {
            self.tell_off(worker, "it sent descriptors that nobody asked for");
        }
        match message {
            FromWorker::Ready => self.fleet.handle(self.now, Input::Ready(worker)),
            FromWorker::Session(key) => self.hear_session(worker, key.as_bytes()),
            FromWorker::End(key) => self.router.forget(self.now, worker, key.as_bytes()),
            FromWorker::Closed(count) => self.hear_closed(worker, count),
            FromWorker::Back { next } => match received.descriptors.pop() {
                Some(socket) => self.hear_back(worker, socket, next),
                None if received.lost => {
                    warn!(
                        name: "descriptor_lost", worker = worker.slot,
                        "a connection that {worker} gave back is lost: too many open files"
                    );
                    self.hear_closed(worker, 1);
                }
                None => self.tell_off(worker, "BACK came without a connection"),
            },
            FromWorker::Pong => self.fleet.handle(self.now, Input::Pong(worker)),
        }
    }

    /// A worker gives a connection back, which may be anything in its hands: since it is not the
    /// worker's, or, with `next`, for its next request.
    ///
    /// It can give back no more than it was given, so it cannot fill the supervisor with
    /// connections of its own.
    fn hear_back(&mut self, worker: Worker, socket: Foreign, next: bool) {
        match peek::peer_of(&socket, Mode::Blocking) {
            Ok(_) if !self.router.closed(worker, 1) => {
                self.tell_off(worker, "it gave back more connections than it was given");
            }
            Ok(Peer::Gone) => debug!(
                name: "client_gone", worker = worker.slot,
                "a client is gone before {worker} gave its connection back"
            ),
            Ok(Peer::Client(peer)) => {
                let client = self.origins.client_of(&socket, peer);
                let connection = Connection::new(socket, client);
                if next {
                    self.handoff.take_next_request(connection);
                } else {
                    self.handoff.take_back(connection, Returned::Back(worker));
                }
            }
            Err(error) => self.tell_off(worker, &format!("BACK came with no connection: {error}")),
        }
    }
}
