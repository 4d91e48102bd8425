//! Handing over: frames with descriptors go out, and each is kept until the worker has it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{NodeLink, Parcel};
use crate::engine::connection::SavedConnection;
use crate::engine::intake::of;
use crate::engine::{Connection, Engine};
use crate::logic::Worker;
use crate::logic::burden::MOST_KEPT;
use crate::logic::route::{Assignment, Reason, Returned};
use crate::logic::time::Time;
use crate::os::kept::Keeper;
use crate::protocol::node::{ToNode, Way};

/// The rest of a connection whose worker had no descriptor left for it.
const REST: Duration = Duration::from_millis(50);

/// Connections that did not arrive.
#[derive(Debug, Default)]
pub(in crate::engine) struct Resting(VecDeque<(Time, Connection, Returned)>);

/// Those in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedResting(Vec<(Time, SavedConnection, Returned)>);

impl Resting {
    /// Writes them down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedResting {
        let resting = self.0.iter();
        let resting =
            resting.map(|(until, connection, how)| (*until, connection.save(keeper), *how));
        SavedResting(resting.collect())
    }

    /// Goes on with those that were written down.
    pub(in crate::engine) fn restore(SavedResting(resting): SavedResting) -> io::Result<Self> {
        let resting = resting.into_iter();
        let resting =
            resting.map(|(until, connection, how)| Ok((until, connection.restore()?, how)));
        Ok(Self(resting.collect::<io::Result<_>>()?))
    }

    /// One rests until this time, which is not before that of any other.
    pub(in crate::engine) fn push(&mut self, until: Time, connection: Connection, how: Returned) {
        self.0.push_back((until, connection, how));
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first of them has rested.
    pub(in crate::engine) fn ends(&self) -> Option<Time> {
        self.0.front().map(|(until, ..)| *until)
    }

    fn pop(&mut self, now: Time) -> Option<(Connection, Returned)> {
        let (until, ..) = self.0.front()?;
        if *until > now {
            return None;
        }
        self.0.pop_front().map(|(_, connection, how)| (connection, how))
    }
}

impl NodeLink {
    /// Writes as much as there is room for.
    pub(in crate::engine) fn flush(&mut self) -> io::Result<()> {
        while !self.blocked
            && let Some(piece) = self.outbox.next()
        {
            let parcel = piece.descriptor.map(|number| self.ledger.get(number));
            let descriptor = match parcel {
                Some(None) => {
                    debug_assert!(false, "what is in the outbox is in the ledger");
                    None
                }
                Some(Some(parcel)) => Some(parcel.descriptor()),
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

impl Engine {
    /// Says something to a worker.
    pub(in crate::engine) fn say<'a>(
        &mut self,
        worker: Worker,
        message: impl FnOnce(u32) -> ToNode<'a>,
    ) {
        let Some(link) = self.node_link(worker) else { return };
        let message = message(link.primary.seq());
        link.outbox.answer(message.encode(), None, &link.burden);
        self.flush_node(worker);
        self.judge_burden(worker);
    }

    /// Answers a message with a descriptor, before anything else that waits to be said.
    pub(in crate::engine) fn answer_handle(&mut self, worker: Worker, answer: ToNode<'_>) {
        let Some(link) = self.node_link(worker) else { return };
        link.outbox.answer_at_once(answer.encode(), &link.burden);
        self.flush_node(worker);
        self.judge_burden(worker);
    }

    /// Says something to a worker that travels with a descriptor.
    pub(in crate::engine) fn say_with<'a>(
        &mut self,
        worker: Worker,
        parcel: Parcel,
        message: impl FnOnce(u32) -> ToNode<'a>,
    ) {
        let Some(link) = self.node_link(worker) else { return };
        let seq = link.primary.seq();
        let number = link.ledger.enter(parcel, None);
        link.outbox.answer(message(seq).encode(), Some(number), &link.burden);
        self.flush_node(worker);
        self.judge_burden(worker);
    }

    /// Ends a worker because of which too much is kept.
    pub(in crate::engine) fn judge_burden(&mut self, worker: Worker) {
        if self.node_link(worker).is_some_and(|link| link.burden.is_too_much()) {
            let what = format!(
                "more than {} MiB wait because of it: answers that it does not read, connections that it \
                 hands back or sockets that it does not take",
                MOST_KEPT / 1024 / 1024
            );
            self.end_node_for(worker, &what);
        }
    }

    /// What was read of a connection is kept because of the worker that it waits for. Whether that is not
    /// too much.
    pub(in crate::engine) fn may_wait(
        &mut self,
        connection: &mut Connection,
        owner: Worker,
    ) -> bool {
        let (Some(head), Some(link)) = (&mut connection.head, self.node_link(owner)) else {
            return true;
        };
        head.goes_to(&link.burden, &link.awaiting);
        !link.awaiting.is_too_much()
    }

    /// Sends a connection to its worker.
    pub(in crate::engine) fn send_to_node(&mut self, mut connection: Connection, give: Assignment) {
        let worker = give.worker;
        let Some(link) = self.node_link(worker) else { return };
        let frame = if link.over { None } else { frame(link, &connection) };
        let Some((frame, answered)) = frame else {
            // It has just closed its last server, or its channel has ended.
            self.router.closed(worker, 1);
            self.look_at(worker);
            self.handoff.take_back(connection, Returned::Recovered);
            return;
        };
        if let Some(head) = &mut connection.head {
            head.goes_to(&link.burden, &link.awaiting);
        }
        link.returnable += 1;
        let parcel = Parcel::Connection(connection.shared_with(worker), give);
        let number = link.ledger.enter(parcel, answered);
        link.outbox.push(frame, Some(number));
        self.flush_node(worker);
    }

    /// Writes to a worker as much as there is room for.
    pub(in crate::engine) fn flush_node(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        let flushed = link.flush();
        self.workers.watch_node(worker);
        let Err(error) = flushed else { return };
        match error.raw_os_error() {
            Some(libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM) => {
                self.node_mut().retry_at = Some(self.now + super::RETRY);
            }
            // Its end is about to be read, or its exit.
            Some(libc::EPIPE | libc::ECONNRESET) => self.take_back_parcels(worker),
            _ => warn!(
                name: "channel_write_failed", worker = worker.slot,
                "cannot write to {worker}: {error}"
            ),
        }
    }

    /// Writes to all workers, after the kernel had no room at all.
    pub(in crate::engine) fn retry_writing(&mut self) {
        let now = self.now;
        if self.node().retry_at.is_some_and(|at| at <= now) {
            self.node_mut().retry_at = None;
            for worker in self.workers.live() {
                self.flush_node(worker);
            }
        }
    }

    /// Routes connections again that did not arrive.
    pub(in crate::engine) fn route_rested(&mut self) {
        let now = self.now;
        while let Some((connection, how)) = self.node_mut().resting.pop(now) {
            self.handoff.take_back(connection, how);
        }
    }

    /// The oldest descriptor has arrived.
    pub(in crate::engine) fn hear_arrived(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        link.outbox.acknowledged();
        match link.ledger.acknowledged() {
            Ok(settled) => {
                let connection = matches!(settled, Some(Parcel::Connection(..)));
                self.arrived(worker, u32::from(connection));
                self.flush_node(worker);
                self.look_at(worker);
            }
            Err(error) => self.tell_off(worker, &error.to_string()),
        }
    }

    /// Connections are with a worker. Nobody will tell when they end if it does not count: then they
    /// count no longer than it takes to get there.
    fn arrived(&mut self, worker: Worker, count: u32) {
        if self.node_link(worker).is_some_and(|link| !link.primary.has_preload()) {
            self.router.closed(worker, count);
        }
    }

    /// So many of the oldest descriptors have arrived and were taken.
    pub(in crate::engine) fn hear_taken(&mut self, worker: Worker, count: u32) {
        let Some(link) = self.node_link(worker) else { return };
        for _ in 0..count {
            link.outbox.acknowledged();
            if let Err(error) = link.ledger.taken() {
                return self.tell_off(worker, &error.to_string());
            }
        }
        self.flush_node(worker);
        self.look_at(worker);
    }

    /// The oldest descriptor has not arrived, only its message: the worker has too many.
    pub(in crate::engine) fn hear_lost(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        link.outbox.acknowledged();
        match link.ledger.lost() {
            Ok(Some(Parcel::Connection(connection, give))) => {
                self.router.closed(worker, 1);
                self.look_at(worker);
                let owned = give.reason == Reason::OwnedKey;
                let how = if owned { Returned::Recovered } else { Returned::Moved(worker) };
                let until = self.now + REST;
                self.node_mut().resting.push(until, connection, how);
                self.tell_off(worker, "it has no descriptor left for a connection");
            }
            Ok(Some(Parcel::Udp { .. }) | None) => {}
            Err(error) => self.tell_off(worker, &error.to_string()),
        }
        self.flush_node(worker);
    }

    /// A server took a connection, or did not.
    pub(in crate::engine) fn hear_answer(&mut self, worker: Worker, seq: u32, taken: bool) {
        let Some(link) = self.node_link(worker) else { return };
        let counts = link.primary.has_preload();
        let Some(Parcel::Connection(connection, _)) = link.ledger.answered(seq) else { return };
        // One that counts says itself when it has closed its copy.
        if !counts {
            self.router.closed(worker, 1);
        }
        if !taken {
            debug!(
                name: "connection_declined", worker = worker.slot,
                "{worker} does not take a connection {}",
                of(connection.client)
            );
            self.handoff.take_back(connection, Returned::Back(worker));
        }
        self.look_at(worker);
    }
}

/// The frame that goes with a connection, and the number under which it will be answered.
fn frame(link: &mut NodeLink, connection: &Connection) -> Option<(Vec<u8>, Option<u32>)> {
    if let Some(head) = &connection.head {
        let server = match connection.listener.and_then(|listener| link.primary.way(listener)) {
            Some(Way::Server(key)) => Some(key),
            Some(Way::Package(_)) | None => None,
        };
        let message = ToNode::Conn { head, server, port: connection.port() };
        return Some((message.encode(), None));
    }
    let seq = link.primary.seq();
    match link.primary.way(connection.listener?)? {
        Way::Server(key) => Some((ToNode::NewConn { seq, key }.encode(), Some(seq))),
        Way::Package(message) => Some((ToNode::Package(message).encode(), None)),
    }
}
