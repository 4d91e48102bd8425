//! The relay: what workers say to each other through the primary (`@socket.io/cluster-adapter`), and
//! the end of a worker.

use std::mem;
use std::rc::Rc;

use tracing::warn;

use super::{Node, NodeLink, Payload};
use crate::engine::links::{Said, Wires};
use crate::logic::Worker;
use crate::logic::core::Noted;
use crate::logic::route::Returned;
use crate::protocol::node::{Adapter, Ledger, Outbox, ToNode};

/// A connection that was on its way to so many workers when they ended may be what ends them.
const MOST_DEATHS: u8 = 3;
/// So many bytes may wait for a worker that does not read before what others say to it is dropped. It is
/// no less than two of the longest frames.
const MOST_WAITING: usize = 32 * 1024 * 1024;

impl Node {
    /// Passes a frame on as it is: to the worker whose question it answers, or to all others.
    pub(super) fn relay(
        &mut self,
        from: Worker,
        adapter: &Adapter,
        frame: &Rc<[u8]>,
        wires: &mut Wires,
    ) {
        if let Some(link) = self.link(from) {
            link.primary.note_adapter(adapter);
        }
        let asker = adapter.requester_uid.as_deref().and_then(|uid| self.with_adapter(uid));
        let others = self.links.keys().copied().filter(|worker| *worker != from);
        let to: Vec<_> = match asker {
            Some(asker) => vec![asker],
            None => others.collect(),
        };
        for worker in to {
            self.pass_on(worker, Rc::clone(frame), wires);
        }
    }

    /// The channel to a worker has ended: what did not arrive there comes back.
    pub(super) fn return_payloads(&mut self, worker: Worker, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.outbox = Outbox::default();
        link.over = true;
        let ledger = mem::take(&mut link.ledger);
        return_all(worker, ledger, wires);
    }

    /// Tells the others that a worker is gone.
    pub(super) fn send_farewell(&mut self, link: &NodeLink, wires: &mut Wires) {
        let farewell = link.primary.farewell(link.id);
        let others: Vec<_> = self.links.keys().copied().collect();
        for frame in farewell.iter().map(|message| Rc::from(message.encode())) {
            for other in &others {
                self.pass_on(*other, Rc::clone(&frame), wires);
            }
        }
    }

    /// Tells a worker that it gets no new keys any more. Without the preload nobody there hears it.
    pub(super) fn withdraw(&mut self, worker: Worker, wires: &mut Wires) -> Noted {
        if !self.has_preload(worker) {
            return Noted::NotHeard;
        }
        self.say(worker, |_| ToNode::SoftDrain, wires);
        Noted::Told
    }

    /// Asks a worker for a sign of life, if there is a preload to answer.
    pub(super) fn ping(&mut self, worker: Worker, wires: &mut Wires) -> Noted {
        if self.has_preload(worker) {
            self.say(worker, |_| ToNode::Ping, wires);
            return Noted::Told;
        }
        if !mem::replace(&mut self.unwatched, true) {
            warn!(
                name: "watchdog_ignored",
                "--watchdog has no effect on workers without the preload"
            );
        }
        Noted::NotHeard
    }

    /// Asks a worker to end: when its connections have, or at once. Node itself knows the first only.
    pub(super) fn close(&mut self, worker: Worker, at_once: bool, wires: &mut Wires) -> Noted {
        if self.links.get(&worker).is_some_and(|link| link.primary.hears_close()) {
            self.say(worker, |_| ToNode::Close { at_once }, wires);
        } else if at_once {
            return Noted::NotHeard;
        } else {
            self.say(worker, |seq| ToNode::Disconnect { seq }, wires);
        }
        Noted::Told
    }

    fn with_adapter(&self, uid: &str) -> Option<Worker> {
        let mut links = self.links.iter();
        links.find(|(_, link)| link.primary.has_adapter(uid)).map(|(worker, _)| *worker)
    }

    fn pass_on(&mut self, worker: Worker, frame: Rc<[u8]>, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        if link.outbox.cost() + frame.len() <= MOST_WAITING {
            link.dropped = false;
            link.outbox.push(frame, None);
            return self.flush(worker, wires);
        }
        if !mem::replace(&mut link.dropped, true) {
            warn!(
                name: "messages_dropped", worker = worker.slot,
                "{worker} does not read what other workers send to it: dropping that until it does"
            );
        }
    }
}

/// What was on its way to a worker that is gone comes back, unless it was so often that it may
/// be what ends them.
pub(super) fn return_all(worker: Worker, ledger: Ledger<Payload>, wires: &mut Wires) {
    for payload in ledger.into_payloads() {
        let Payload::Connection(mut connection, _) = payload else { continue };
        connection.deaths += 1;
        if connection.deaths < MOST_DEATHS {
            wires.say(worker, Said::Returned(connection, Returned::Recovered));
        } else {
            let client = connection.client.map_or_else(String::new, |client| client.to_string());
            warn!(
                name: "connection_dropped", worker = worker.slot, reason = "workers_exited", client,
                "connection dropped: {MOST_DEATHS} workers exited while it was on its way to them \
                 ({client}), the last one was {worker}"
            );
        }
    }
}
