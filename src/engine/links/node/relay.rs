//! The relay: what workers say to each other through the primary (`@socket.io/cluster-adapter`), and
//! the end of a worker.

use std::mem;
use std::rc::Rc;

use tracing::warn;

use super::{NodeLink, Parcel};
use crate::engine::Engine;
use crate::logic::Worker;
use crate::logic::fleet::Input;
use crate::logic::route::Returned;
use crate::protocol::node::{Adapter, Ledger, Outbox, ToNode};

/// A connection that was on its way to so many workers when they ended may be what ends them.
const MOST_DEATHS: u8 = 3;
/// So many bytes may wait for a worker that does not read before what others say to it is dropped. It is
/// no less than two of the longest frames.
pub(in crate::engine) const MOST_WAITING: usize = 32 * 1024 * 1024;

impl Engine {
    /// Passes a frame on as it is: to the worker whose question it answers, or to all others.
    pub(in crate::engine) fn relay(&mut self, from: Worker, adapter: &Adapter, frame: &Rc<[u8]>) {
        if let Some(link) = self.node_link(from) {
            link.primary.note_adapter(adapter);
        }
        let asker = adapter.requester_uid.as_deref().and_then(|uid| self.with_adapter(uid));
        let others = self.workers.live().into_iter().filter(|worker| *worker != from);
        let to: Vec<_> = match asker {
            Some(asker) => vec![asker],
            None => others.collect(),
        };
        for worker in to {
            self.pass_on(worker, Rc::clone(frame));
        }
    }

    /// The channel to a worker has ended: takes back what did not arrive there.
    pub(in crate::engine) fn take_back_parcels(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        link.outbox = Outbox::default();
        link.over = true;
        let ledger = mem::take(&mut link.ledger);
        self.take_back_all(worker, ledger);
    }

    /// Takes back what was on its way to a worker that is gone, unless it was so often that it may
    /// be what ends them.
    fn take_back_all(&mut self, worker: Worker, ledger: Ledger<Parcel>) {
        for parcel in ledger.into_parcels() {
            let Parcel::Connection(mut connection, _) = parcel else { continue };
            connection.deaths += 1;
            if connection.deaths < MOST_DEATHS {
                self.handoff.take_back(connection, Returned::Recovered);
            } else {
                let client =
                    connection.client.map_or_else(String::new, |client| client.to_string());
                warn!(
                    name: "connection_dropped", worker = worker.slot, reason = "workers_exited",
                    client,
                    "closing a connection of {client}: {MOST_DEATHS} workers ended while it was on \
                     its way to them, the last one was {worker}"
                );
            }
        }
    }

    /// Takes back what did not arrive at a worker that is gone, and tells the others.
    pub(in crate::engine) fn recover_node(&mut self, worker: Worker, link: NodeLink) {
        self.look_for_unused_ports_later();
        let farewell = link.primary.farewell(link.id);
        let frames = farewell.iter().map(|message| Rc::from(message.encode()));
        let frames: Vec<Rc<[u8]>> = frames.collect();
        for frame in frames {
            for other in self.workers.live() {
                self.pass_on(other, Rc::clone(&frame));
            }
        }
        self.take_back_all(worker, link.ledger);
    }

    /// Tells a worker that it gets no new keys any more. Without the preload nobody there hears it.
    pub(in crate::engine) fn withdraw_node(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        link.withdrawn = true;
        if link.primary.has_preload() {
            self.say(worker, |_| ToNode::SoftDrain);
        }
    }

    /// Asks a worker for a sign of life; false if there is no preload to answer.
    pub(in crate::engine) fn ping_node(&mut self, worker: Worker) -> bool {
        let answers = self.node_link(worker).is_some_and(|link| link.primary.has_preload());
        if answers {
            self.say(worker, |_| ToNode::Ping);
        } else if !mem::replace(&mut self.node_mut().unwatched, true) {
            warn!(
                name: "watchdog_ignored",
                "the watchdog cannot see whether workers without the preload are stuck"
            );
        }
        answers
    }

    /// Asks a worker to end: when its connections have, or at once. Node itself knows the first only.
    pub(in crate::engine) fn close_node(&mut self, worker: Worker, at_once: bool) {
        if self.node_link(worker).is_some_and(|link| link.primary.hears_close()) {
            self.say(worker, |_| ToNode::Close { at_once });
        } else if at_once {
            self.fleet.handle(self.now, Input::HandlesTerm(worker));
        } else {
            self.say(worker, |seq| ToNode::Disconnect { seq });
        }
    }

    fn with_adapter(&self, uid: &str) -> Option<Worker> {
        let mut live = self.workers.all();
        let has = |link: &NodeLink| link.primary.has_adapter(uid);
        live.find(|live| live.link.node().is_some_and(has)).map(|live| live.worker)
    }

    fn pass_on(&mut self, worker: Worker, frame: Rc<[u8]>) {
        let Some(link) = self.node_link(worker) else { return };
        if link.outbox.cost() + frame.len() <= MOST_WAITING {
            link.dropped = false;
            link.outbox.push(frame, None);
            return self.flush_node(worker);
        }
        if !mem::replace(&mut link.dropped, true) {
            warn!(
                name: "messages_dropped", worker = worker.slot,
                "{worker} does not read what others say to it: dropping that until it does"
            );
        }
    }
}
