//! What workers say: read from their channels and told to the fleet and the router.
//!
//! A worker that says nonsense is told off in the log, at a limited rate, and that is all that
//! happens to it and to the others.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{SockRef, Type};
use sticky_worker::message::{FromWorker, MAX_MESSAGE};
use tracing::warn;

use super::workers::MOST_QUEUED;
use super::{Channels, Connection, Engine};
use crate::logic::Worker;
use crate::logic::fleet::Input;
use crate::logic::route::Returned;
use crate::os::fdpass::{Incoming, Received};

/// Messages read from one channel before others get their turn.
const BATCH: usize = 256;

impl Engine {
    /// Reads what workers have said.
    pub(super) fn read_channels(&mut self, which: Channels) {
        for slot in 0..self.workers.slots.len() {
            let Some(live) = &self.workers.slots[slot] else { continue };
            match which {
                Channels::Readable if live.readable => self.read_channel(slot, BATCH),
                Channels::Readable => {}
                Channels::All => self.read_channel(slot, MOST_QUEUED),
            }
        }
    }

    /// Reads at most so many messages of the worker in one slot.
    pub(super) fn read_channel(&mut self, slot: usize, most: usize) {
        for _ in 0..most {
            let Some(live) = &mut self.workers.slots[slot] else { return };
            let worker = live.worker;
            match live.channel.receive(&mut self.workers.buffer) {
                Ok(Incoming::Message(received)) => self.hear(worker, received),
                Ok(Incoming::Nothing) => {
                    live.readable = false;
                    return;
                }
                Ok(Incoming::ShutDown) => {
                    live.readable = false;
                    self.end_shut_down(worker);
                    return;
                }
                Err(error) => {
                    live.readable = false;
                    warn!("cannot read the channel of {worker}: {error}");
                    return;
                }
            }
        }
    }

    /// Handles one message of a worker, which lies in the buffer.
    fn hear(&mut self, worker: Worker, mut received: Received) {
        let datagram = &self.workers.buffer[..received.len.min(MAX_MESSAGE + 1)];
        let message = match FromWorker::parse(datagram) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(malformed) => return self.tell_off(worker, &malformed.to_string()),
        };
        let expected = usize::from(message == FromWorker::Back);
        if received.descriptors.len() > expected {
            self.tell_off(worker, "it sent descriptors that nobody asked for");
        }
        match message {
            FromWorker::Ready => self.fleet.handle(self.now, Input::Ready(worker)),
            FromWorker::Session(key) => self.hear_session(worker, key.as_bytes()),
            FromWorker::End(key) => self.router.end(self.now, worker, key.as_bytes()),
            FromWorker::Closed(count) => {
                if !self.router.closed(worker, count) {
                    self.tell_off(worker, "it closed more connections than it was given");
                }
            }
            FromWorker::Back => match received.descriptors.pop() {
                Some(socket) => self.hear_back(worker, socket),
                None if received.lost => {
                    warn!("a connection that {worker} gave back is lost: too many open files");
                }
                None => self.tell_off(worker, "BACK came without a connection"),
            },
            FromWorker::Pong => {}
        }
    }

    fn hear_session(&mut self, worker: Worker, key: &[u8]) {
        if !self.fleet.is_ready(worker) {
            self.tell_off(worker, "SESSION came before READY");
        } else if let Err(owned) = self.router.session(self.now, worker, key) {
            self.tell_off(worker, &format!("SESSION for a key that is not its own: {owned}"));
        }
    }

    /// A worker gives a connection back, which may be anything in its hands.
    ///
    /// It can give back no more than it was given, so it cannot fill the supervisor with
    /// connections of its own.
    fn hear_back(&mut self, worker: Worker, socket: OwnedFd) {
        match client_of(&socket) {
            Ok(_) if !self.router.closed(worker, 1) => {
                self.tell_off(worker, "it gave back more connections than it was given");
            }
            Ok(client) => {
                let connection = Connection { socket, client, listener: None };
                self.handoff.take_back(connection, Returned::Back(worker));
            }
            Err(error) => self.tell_off(worker, &format!("BACK came with no connection: {error}")),
        }
    }

    /// Ends a worker with which nothing can be exchanged any more.
    pub(super) fn end_shut_down(&mut self, worker: Worker) {
        self.tell_off(worker, "it shut its channel down, so it is ended");
        self.workers.kill(worker);
    }

    /// Says in the log what a worker did wrong, at a limited rate.
    fn tell_off(&mut self, worker: Worker, what: &str) {
        let now = self.now;
        if let Some(Some(live)) = self.workers.slots.get_mut(usize::from(worker.slot))
            && let Some(before) = live.told_off.say(now)
        {
            warn!("{worker} misuses its channel: {what} ({before} earlier ones not shown)");
        }
    }
}

/// The address of the client, if the descriptor is a connection at all. Another worker gets it in
/// blocking mode, as everybody does.
fn client_of(socket: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(socket);
    if socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("it is no stream socket"));
    }
    let client = socket.peer_addr()?.as_socket();
    socket.set_nonblocking(false)?;
    Ok(client)
}
