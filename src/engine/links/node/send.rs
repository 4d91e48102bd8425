//! Handing over: frames with descriptors go out, and each is kept until the worker has it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{Node, NodeLink, Payload, RETRY};
use crate::engine::Connection;
use crate::engine::connection::SavedConnection;
use crate::engine::connection::of;
use crate::engine::links::{NotSent, Said, Wires};
use crate::logic::Worker;
use crate::logic::quota::MAX_BUFFERED;
use crate::logic::route::{Reason, Returned};
use crate::logic::time::Time;
use crate::os::kept::Keeper;
use crate::protocol::node::{Target, ToNode};

/// The rest of a connection whose worker had no descriptor left for it.
const REST: Duration = Duration::from_millis(50);

/// Connections that did not arrive, until when each rests, and at whom it did not.
#[derive(Debug, Default)]
pub(super) struct Resting(VecDeque<(Time, Worker, Connection, Returned)>);

/// Those in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedResting(Vec<(Time, Worker, SavedConnection, Returned)>);

impl Resting {
    /// Writes them down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedResting {
        let resting = self.0.iter();
        let resting = resting.map(|(until, worker, connection, how)| {
            (*until, *worker, connection.save(keeper), *how)
        });
        SavedResting(resting.collect())
    }

    /// Goes on with those that were written down.
    pub(super) fn restore(SavedResting(resting): SavedResting) -> io::Result<Self> {
        let resting = resting.into_iter();
        let resting = resting.map(|(until, worker, connection, how)| {
            Ok((until, worker, connection.restore()?, how))
        });
        Ok(Self(resting.collect::<io::Result<_>>()?))
    }

    /// One rests until this time, which is not before that of any other.
    pub(super) fn push(
        &mut self,
        until: Time,
        worker: Worker,
        connection: Connection,
        how: Returned,
    ) {
        self.0.push_back((until, worker, connection, how));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first of them has rested.
    pub(super) fn ends(&self) -> Option<Time> {
        self.0.front().map(|(until, ..)| *until)
    }

    /// The first one, if it has rested by now.
    pub(super) fn pop(&mut self, now: Time) -> Option<(Worker, Connection, Returned)> {
        let (until, ..) = self.0.front()?;
        if *until > now {
            return None;
        }
        self.0.pop_front().map(|(_, worker, connection, how)| (worker, connection, how))
    }
}

impl NodeLink {
    /// Writes as much as there is room for.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.blocked
            && let Some(piece) = self.outbox.next()
        {
            let payload = piece.descriptor.map(|number| self.ledger.get(number));
            let descriptor = match payload {
                Some(None) => {
                    debug_assert!(false, "what is in the outbox is in the ledger");
                    None
                }
                Some(Some(payload)) => Some(payload.descriptor()),
                None => None,
            };
            match self.stream.send(piece.bytes, descriptor) {
                Ok(count) => self.outbox.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Node {
    /// Says something to a worker.
    pub(super) fn say<'a>(
        &mut self,
        worker: Worker,
        message: impl FnOnce(u32) -> ToNode<'a>,
        wires: &mut Wires,
    ) {
        let Some(link) = self.link(worker) else { return };
        let message = message(link.primary.seq());
        link.outbox.answer(message.encode(), None, &link.quota);
        self.flush(worker, wires);
        self.check_quota(worker, wires);
    }

    /// Answers a message with a descriptor, before anything else that waits to be said.
    pub(super) fn answer_handle(&mut self, worker: Worker, answer: ToNode<'_>, wires: &mut Wires) {
        let frame = answer.encode();
        let Some(link) = self.link(worker) else { return };
        link.outbox.answer_at_once(frame, &link.quota);
        self.flush(worker, wires);
        self.check_quota(worker, wires);
    }

    /// Says something to a worker that travels with a descriptor.
    pub(super) fn say_with<'a>(
        &mut self,
        worker: Worker,
        payload: Payload,
        message: impl FnOnce(u32) -> ToNode<'a>,
        wires: &mut Wires,
    ) {
        let Some(link) = self.link(worker) else { return };
        let seq = link.primary.seq();
        let number = link.ledger.enter(payload, None);
        link.outbox.answer(message(seq).encode(), Some(number), &link.quota);
        self.flush(worker, wires);
        self.check_quota(worker, wires);
    }

    /// Has a worker ended because of which too much is kept.
    pub(super) fn check_quota(&mut self, worker: Worker, wires: &mut Wires) {
        if self.link(worker).is_some_and(|link| link.quota.is_exceeded()) {
            let what = format!(
                "more than {} MiB wait because of it: answers that it does not read, connections that it \
                 hands back or sockets that it does not take",
                MAX_BUFFERED / 1024 / 1024
            );
            self.end_for(worker, what, wires);
        }
    }

    /// Sends a connection to its worker, if that one has a server for it, and is there at all.
    pub(super) fn send_connection(
        &mut self,
        mut connection: Connection,
        worker: Worker,
        reason: Reason,
        wires: &mut Wires,
    ) -> Result<(), (Connection, NotSent)> {
        let Some(link) = self.link(worker) else {
            return Err((connection, NotSent::NotServed));
        };
        let frame = if link.over { None } else { frame(link, &connection) };
        let Some((frame, answered)) = frame else {
            // It has just closed its last server, or its channel has ended.
            return Err((connection, NotSent::NotServed));
        };
        if let Some(head) = &mut connection.head {
            head.goes_to(&link.quota, &link.awaiting);
        }
        link.returnable += 1;
        let payload = Payload::Connection(connection.shared_with(worker), reason);
        let number = link.ledger.enter(payload, answered);
        link.outbox.push(frame, Some(number));
        self.flush(worker, wires);
        Ok(())
    }

    /// Writes to a worker as much as there is room for.
    pub(super) fn flush(&mut self, worker: Worker, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        let flushed = link.flush();
        link.watch(worker, wires);
        let Err(error) = flushed else { return };
        match error.raw_os_error() {
            Some(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM) => {
                self.retry_at = Some(wires.now + RETRY);
            }
            // Its end is about to be read, or its exit.
            Some(libc::EPIPE | libc::ECONNRESET) => self.return_payloads(worker, wires),
            _ => warn!(
                name: "channel_write_failed", worker = worker.slot,
                "cannot write to {worker}: {error}"
            ),
        }
    }

    /// Writes to all workers, after the kernel had no room at all.
    pub(super) fn retry_writing(&mut self, wires: &mut Wires) {
        if self.retry_at.is_some_and(|at| at <= wires.now) {
            self.retry_at = None;
            for worker in self.links.keys().copied().collect::<Vec<_>>() {
                self.flush(worker, wires);
            }
        }
    }

    /// The oldest descriptor has arrived.
    pub(super) fn on_arrived(&mut self, worker: Worker, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.outbox.acknowledged();
        match link.ledger.acknowledged() {
            Ok(settled) => {
                let is_connection = matches!(settled, Some(Payload::Connection(..)));
                // Nobody will tell when it ends if the worker does not count: then it counts no longer
                // than it takes to get there.
                if is_connection && !link.primary.has_preload() {
                    wires.say(worker, Said::Uncounted(1));
                }
                self.flush(worker, wires);
                wires.say(worker, Said::PickedUp);
            }
            Err(error) => wires.say(worker, Said::Violation(error.to_string())),
        }
    }

    /// So many of the oldest descriptors have arrived and were taken.
    pub(super) fn on_taken(&mut self, worker: Worker, count: u32, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        for _ in 0..count {
            link.outbox.acknowledged();
            if let Err(error) = link.ledger.taken() {
                return wires.say(worker, Said::Violation(error.to_string()));
            }
        }
        self.flush(worker, wires);
        wires.say(worker, Said::PickedUp);
    }

    /// The oldest descriptor has not arrived, only its message: the worker has too many.
    pub(super) fn on_lost(&mut self, worker: Worker, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.outbox.acknowledged();
        match link.ledger.lost() {
            Ok(Some(Payload::Connection(connection, reason))) => {
                wires.say(worker, Said::Uncounted(1));
                wires.say(worker, Said::PickedUp);
                let owned = reason == Reason::OwnedKey;
                let how = if owned { Returned::Recovered } else { Returned::Moved(worker) };
                self.resting.push(wires.now + REST, worker, connection, how);
                let what = "it has no descriptor left for a connection";
                wires.say(worker, Said::Violation(what.to_owned()));
            }
            Ok(Some(Payload::Udp { .. }) | None) => {}
            Err(error) => wires.say(worker, Said::Violation(error.to_string())),
        }
        self.flush(worker, wires);
    }

    /// A server took a connection, or did not.
    pub(super) fn on_answer(&mut self, worker: Worker, seq: u32, taken: bool, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        let counts = link.primary.has_preload();
        let Some(Payload::Connection(connection, _)) = link.ledger.answered(seq) else { return };
        // One that counts says itself when it has closed its copy.
        if !counts {
            wires.say(worker, Said::Uncounted(1));
        }
        if !taken {
            debug!(
                name: "connection_declined", worker = worker.slot,
                "{worker} did not take a connection {}",
                of(connection.client)
            );
            wires.say(worker, Said::Returned(connection, Returned::Back(worker)));
        }
        wires.say(worker, Said::PickedUp);
    }
}

/// The frame that goes with a connection, and the number under which it will be answered.
fn frame(link: &mut NodeLink, connection: &Connection) -> Option<(Vec<u8>, Option<u32>)> {
    if let Some(head) = &connection.head {
        let server = match connection.listener.and_then(|listener| link.primary.target(listener)) {
            Some(Target::Server(key)) => Some(key),
            Some(Target::Package(_)) | None => None,
        };
        let message = ToNode::Conn { head, server, port: connection.port() };
        return Some((message.encode(), None));
    }
    let seq = link.primary.seq();
    match link.primary.target(connection.listener?)? {
        Target::Server(key) => Some((ToNode::NewConn { seq, key }.encode(), Some(seq))),
        Target::Package(message) => Some((ToNode::Package(message).encode(), None)),
    }
}
