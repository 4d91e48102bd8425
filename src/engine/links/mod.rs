//! Links: what connects the supervisor and a worker, one kind for each handoff.
//!
//! Everything that the rest of the engine asks of a worker's connection goes through here, to the
//! folder of its handoff.

pub(super) mod channels;
pub(super) mod native;
pub(super) mod node;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use self::native::{NativeLink, SavedChannel};
use self::node::{NodeLink, SavedNodeLink};
use crate::engine::links::channels::ChannelEvent;
use crate::engine::{Channels, Connection, Engine};
use crate::logic::Worker;
use crate::logic::fleet::Input;
use crate::logic::route::{Assignment, Health};
use crate::os::kept::{Keeper, Shared};
use crate::os::spawn::Launch;

/// What connects one worker.
#[derive(Debug)]
pub(in crate::engine) enum Link {
    /// The handoff `channel`.
    Native(NativeLink),
    /// The handoff `node`.
    Node(Box<NodeLink>),
}

/// What connects one worker, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) enum SavedLink {
    /// The handoff `channel`.
    Native(SavedChannel),
    /// The handoff `node`.
    Node(Box<SavedNodeLink>),
}

impl SavedLink {
    /// The link that was written down.
    pub(in crate::engine) fn restore(
        self,
        worker: Worker,
        shared: &mut Shared,
    ) -> io::Result<Link> {
        Ok(match self {
            Self::Native(saved) => Link::Native(NativeLink::restore(&saved, worker)?),
            Self::Node(saved) => Link::Node(Box::new(NodeLink::restore(*saved, worker, shared)?)),
        })
    }
}

impl Link {
    /// Writes it down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedLink {
        match self {
            Self::Native(link) => SavedLink::Native(link.save(keeper)),
            Self::Node(link) => SavedLink::Node(Box::new(link.save(keeper))),
        }
    }

    /// The end that the worker inherits.
    pub(in crate::engine) fn workers_end(&self) -> BorrowedFd<'_> {
        match self {
            Self::Native(link) => link.channel.workers_end(),
            Self::Node(link) => link.workers_end(),
        }
    }

    /// The link of a worker that speaks the native protocol.
    pub(in crate::engine) fn native(&self) -> Option<&NativeLink> {
        match self {
            Self::Native(link) => Some(link),
            Self::Node(_) => None,
        }
    }

    /// The link of a Node worker.
    pub(in crate::engine) fn node(&self) -> Option<&NodeLink> {
        match self {
            Self::Native(_) => None,
            Self::Node(link) => Some(link),
        }
    }

    /// The link of a Node worker.
    pub(in crate::engine) fn node_mut(&mut self) -> Option<&mut NodeLink> {
        match self {
            Self::Native(_) => None,
            Self::Node(link) => Some(link),
        }
    }

    /// The worker has inherited its end.
    pub(in crate::engine) fn inherited(&mut self) {
        match self {
            // It stays open here, for the day when something has to be taken back from it.
            Self::Native(_) => {}
            Self::Node(link) => link.inherited(),
        }
    }
}

impl AsRawFd for Link {
    /// The supervisor's own end.
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Native(link) => link.channel.as_raw_fd(),
            Self::Node(link) => link.as_raw_fd(),
        }
    }
}

impl Engine {
    /// A link for a worker that is about to be started.
    pub(in crate::engine) fn new_link(&self, worker: Worker) -> io::Result<Link> {
        Ok(match &self.node {
            Some(_) => Link::Node(Box::new(self.new_node_link(worker)?)),
            None => Link::Native(NativeLink::new(worker)?),
        })
    }

    /// Tells a worker that is about to be started about its end.
    pub(in crate::engine) fn prepare(
        &mut self,
        worker: Worker,
        link: &Link,
        launch: &mut Launch,
    ) -> io::Result<()> {
        match link {
            Link::Native(link) => link.prepare(&self.config.route.keys, launch),
            Link::Node(link) => self.prepare_node(worker, link, launch),
        }
    }

    /// Hears what there is to tell of channels by now.
    pub(in crate::engine) fn hear_channels(&mut self) {
        match self.workers.channels.look() {
            Ok(events) => events.into_iter().for_each(|event| self.channel_event(event)),
            Err(error) => warn!(
                name: "channels_poll_failed",
                "cannot look which channels have something to read: {error}"
            ),
        }
    }

    fn channel_event(&mut self, event: ChannelEvent) {
        let ChannelEvent { worker, readable, writable } = event;
        if readable {
            self.workers.became_readable(worker);
        }
        let link = self.workers.get_mut(worker).and_then(|live| live.link.node_mut());
        if let Some(link) = link.filter(|_| writable) {
            link.became_writable();
            self.flush_node(worker);
        }
    }

    /// Whether some worker does not tell which of its connections are open.
    pub(in crate::engine) fn is_blind(&self) -> bool {
        self.workers.all().any(|live| live.link.node().is_some_and(|link| !link.is_counting()))
    }

    /// Whether any worker may still serve a connection that came back.
    pub(in crate::engine) fn leads_anywhere(&self, connection: &Connection) -> bool {
        self.node.as_ref().is_none_or(|node| node.leads_anywhere(connection))
    }

    /// A worker takes connections from now on.
    pub(in crate::engine) fn begin_placing(&mut self, worker: Worker) {
        if let Some(link) = self.workers.get_mut(worker).and_then(|live| live.link.node_mut()) {
            link.forget_listeners();
            self.tell_router_listeners(worker);
            self.spare_unused_ports();
        }
    }

    /// Reads what workers have said.
    pub(in crate::engine) fn read_channels(&mut self, which: Channels) {
        if which == Channels::All {
            self.hear_channels();
        }
        for worker in self.workers.to_read() {
            self.read_channel(worker, which);
        }
    }

    /// Reads what one worker has said.
    pub(in crate::engine) fn read_channel(&mut self, worker: Worker, which: Channels) {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => self.read_native(worker, which),
            Some(Link::Node(_)) => self.read_node(worker, which),
            None => {}
        }
    }

    /// Sends a connection to its worker. The supervisor's copy of the socket is closed as soon as
    /// nothing more can become of it.
    ///
    /// On an error the connection comes back with it.
    pub(in crate::engine) fn send_connection(
        &mut self,
        connection: Connection,
        give: &Assignment,
    ) -> Result<(), (Connection, io::Error)> {
        let sent = match self.workers.get(give.worker).map(|live| &live.link) {
            Some(Link::Native(link)) => link.send(&connection),
            Some(Link::Node(_)) => {
                self.send_to_node(connection, *give);
                return Ok(());
            }
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        };
        sent.map_err(|error| (connection, error))
    }

    /// Tells a worker to finish what it has; returns whether that could be said.
    pub(in crate::engine) fn tell_drain(&mut self, worker: Worker) -> bool {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => self.drain_native(worker),
            Some(Link::Node(_)) => {
                self.close_node(worker, false);
                true
            }
            None => true,
        }
    }

    /// Asks a worker to end by itself.
    pub(in crate::engine) fn tell_close(&mut self, worker: Worker, at_once: bool) {
        match self.workers.get(worker).map(|live| &live.link) {
            // It waits for TERM.
            Some(Link::Native(_)) => self.fleet.handle(self.now, Input::HandlesTerm(worker)),
            Some(Link::Node(_)) => self.close_node(worker, at_once),
            None => {}
        }
    }

    /// Tells a worker that it gets no new keys any more.
    pub(in crate::engine) fn tell_withdrawn(&mut self, worker: Worker) {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => {
                let told = self.drain_native(worker);
                if !told {
                    self.workers.drain_later(worker);
                }
            }
            Some(Link::Node(_)) => self.withdraw_node(worker),
            None => {}
        }
    }

    /// Asks a worker for a sign of life; returns whether it is one that answers.
    pub(in crate::engine) fn send_ping(&mut self, worker: Worker) -> bool {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => {
                self.ping_native(worker);
                true
            }
            Some(Link::Node(_)) => self.ping_node(worker),
            None => true,
        }
    }

    /// Whether a worker tells which of its connections are open.
    pub(in crate::engine) fn tells_its_end(&self, worker: Worker) -> bool {
        let link = self.workers.get(worker).and_then(|live| live.link.node());
        link.is_none_or(NodeLink::is_counting)
    }

    /// How much a worker has not picked up.
    pub(in crate::engine) fn unread(&self, worker: Worker) -> io::Result<usize> {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(link)) => self.native.unread(link),
            Some(Link::Node(link)) => Ok(link.in_flight()),
            None => Ok(0),
        }
    }

    /// How many connections are kept here until their workers have them: none with the handoff
    /// `channel`, where this is not to cost anything for each connection.
    pub(in crate::engine) fn on_their_way(&self) -> usize {
        if self.node.is_none() {
            return 0;
        }
        self.workers.all().filter_map(|live| live.link.node()).map(NodeLink::kept).sum()
    }

    /// Looks at the workers that seem to have no room, before new connections pass them over.
    pub(in crate::engine) fn look_at_full(&mut self) {
        for worker in self.router.full() {
            self.look_at(worker);
        }
    }

    /// Looks how much a worker has not picked up.
    pub(in crate::engine) fn look_at(&mut self, worker: Worker) {
        let unread = self.unread(worker).unwrap_or_else(|error| {
            warn!(
                name: "channel_query_failed", worker = worker.slot,
                "cannot look at the channel of {worker}: {error}"
            );
            usize::MAX
        });
        match self.router.note_unread(self.now, worker, unread) {
            Health::Unchanged => {}
            Health::Stalled => {
                warn!(
                    name: "worker_stalled", worker = worker.slot,
                    "{worker} has stopped reading its channel: its own clients wait for it, others \
                     go elsewhere"
                );
                self.relieve(worker);
            }
            Health::Resumed => info!(
                name: "worker_recovered", worker = worker.slot,
                "{worker} reads its channel again"
            ),
        }
    }

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    pub(in crate::engine) fn relieve(&mut self, worker: Worker) {
        match self.workers.get(worker).map(|live| &live.link) {
            Some(Link::Native(_)) => self.relieve_native(worker),
            // It may have read a part of what is in its stream, so nothing can be taken back.
            Some(Link::Node(_)) => {}
            None => {}
        }
    }

    /// Takes back what a worker which is gone did not pick up.
    pub(in crate::engine) fn recover(&mut self, worker: Worker, link: Link) {
        match link {
            Link::Native(link) => self.recover_native(worker, link.channel),
            Link::Node(link) => self.recover_node(worker, *link),
        }
    }

    /// Has the loop tell when those native workers pick something up of which that matters.
    pub(in crate::engine) fn watch_channels(&mut self) {
        if self.node.is_none() {
            self.workers.watch_natives(self.router.watched());
        }
    }
}
