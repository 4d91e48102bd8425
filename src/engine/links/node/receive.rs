//! What Node workers say: read from their channels and told to the fleet and the router.
//!
//! A worker that says nonsense is told off in the log, at a limited rate; one whose channel cannot be
//! read any further is ended. Nothing else happens to it, and nothing to the others.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::engine::connection::Head;
use crate::engine::{Channels, Connection, Engine};
use crate::logic::Worker;
use crate::logic::config::PackageConfig;
use crate::logic::fleet::Input;
use crate::logic::time::Time;
use crate::os::clock;
use crate::os::closing::Foreign;
use crate::os::listen::Mode;
use crate::os::peek::{self, Peer};
use crate::os::receive::Received;
use crate::protocol::node::{Cut, FromNode, MOST_WHOLE, Package, ToNode};

/// A mebibyte.
const MIB: usize = 1024 * 1024;
/// For so long one channel is read before others get their turn.
const TURN: Duration = Duration::from_micros(500);
/// One message can take longer. After this time a worker rests.
const DEAR: Duration = Duration::from_millis(5);
/// It may take one part in so many of the time.
const SHARE: u32 = 5;
/// More bytes than a channel holds with the kernel's usual limits on buffers.
const MOST_QUEUED: usize = MIB;
/// The most descriptors that wait for their frames; Node sends one with the first byte of a frame.
const MOST_DESCRIPTORS: usize = 4;

impl Engine {
    /// Reads what one worker has said: all that lies in its channel by now, or for a short time. One whose
    /// messages take long to understand rests after that.
    pub(in crate::engine) fn read_node(&mut self, worker: Worker, which: Channels) {
        if self.workers.get(worker).is_none_or(|live| live.ended) {
            return self.workers.was_read(worker);
        }
        if which == Channels::Readable && self.workers.rests(self.now, worker) {
            return;
        }
        let began = clock::now();
        match which {
            Channels::All => {
                let queued = self.queued(worker).min(MOST_QUEUED);
                self.read_pieces(worker, queued, None);
            }
            Channels::Readable => self.read_pieces(worker, usize::MAX, Some(began + TURN)),
        }
        let spent = clock::now() - began;
        if spent > DEAR {
            self.workers.rest(worker, began + spent * SHARE);
        }
    }

    /// Reads so many bytes at least, if there are as many, unless the time is over before.
    fn read_pieces(&mut self, worker: Worker, mut left: usize, until: Option<Time>) {
        // Some may be left of an earlier turn.
        while self.hear_frames(worker, until) {
            if left == 0 {
                return;
            }
            if is_over(until) || self.is_choked(worker) {
                break;
            }
            let Some((count, is_last)) = self.read_piece(worker) else { return };
            left = if is_last { 0 } else { left.saturating_sub(count) };
        }
        self.workers.became_readable(worker);
    }

    /// How many bytes lie in a channel.
    fn queued(&mut self, worker: Worker) -> usize {
        let queued = self.node_link(worker).map(|link| link.stream.queued());
        queued.transpose().ok().flatten().unwrap_or(MOST_QUEUED)
    }

    /// Reads a piece of what lies in a channel; returns how long it is and whether nothing is left, or none if
    /// nothing was.
    fn read_piece(&mut self, worker: Worker) -> Option<(usize, bool)> {
        let live = self.workers.get_mut(worker).filter(|live| !live.ended)?;
        let link = live.link.node_mut()?;
        let node = self.node.as_mut().expect("a Node worker has its handoff");
        match link.stream.receive(&mut node.buffer) {
            Ok(Some(received)) if received.len > 0 => {
                let count = received.len;
                link.frames.extend(&node.buffer[..count]);
                // The kernel stops at a descriptor; without one, a part of the buffer is all there was.
                let is_last = count < node.buffer.len() && received.descriptors.is_empty();
                if is_last {
                    self.workers.was_read(worker);
                }
                self.keep_descriptors(worker, received);
                return Some((count, is_last));
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                self.workers.was_read(worker);
                return None;
            }
            Err(error) => debug!(
                name: "channel_read_failed", worker = worker.slot,
                "cannot read the channel of {worker}: {error}"
            ),
        }
        self.workers.was_read(worker);
        self.hear_end(worker);
        None
    }

    fn keep_descriptors(&mut self, worker: Worker, received: Received) {
        let Some(link) = self.node_link(worker) else { return };
        link.descriptors.extend(received.descriptors);
        let too_many = link.descriptors.len() > MOST_DESCRIPTORS;
        link.descriptors.truncate(MOST_DESCRIPTORS);
        if received.lost {
            warn!(
                name: "descriptor_lost", worker = worker.slot,
                "a descriptor that {worker} sent is lost: too many open files"
            );
        } else if too_many {
            self.tell_off(worker, "it sent descriptors that nobody asked for");
        }
    }

    /// Hears what is there as whole messages. False if the time was over before, or if nothing is to be heard
    /// of this worker any more.
    fn hear_frames(&mut self, worker: Worker, until: Option<Time>) -> bool {
        loop {
            let live = self.workers.get_mut(worker).filter(|live| !live.ended);
            let Some(link) = live.and_then(|live| live.link.node_mut()) else { return false };
            match link.frames.next_frame() {
                Ok(Some(Cut::Frame(frame))) => self.hear_frame(worker, frame),
                Ok(Some(Cut::Skipped { length, carries })) => {
                    self.hear_skipped(worker, length, carries);
                }
                Ok(None) => return true,
                Err(error) => self.end_node_for(worker, &error.to_string()),
            }
            if is_over(until) {
                return false;
            }
        }
    }

    /// A message was too long. If it came with a descriptor, the worker waits to hear of that before it says
    /// anything more.
    fn hear_skipped(&mut self, worker: Worker, length: usize, carries: bool) {
        let (length, most) = (length.div_ceil(MIB), MOST_WHOLE / MIB);
        let what = format!("a message of {length} MiB is dropped, they may have {most} MiB");
        self.tell_off(worker, &what);
        let Some(link) = self.node_link(worker) else { return };
        if carries {
            link.descriptors.pop_front();
            self.answer_handle(worker, ToNode::HandleAck);
        }
    }

    /// Ends a worker for what it did. What was on its way to it goes to others.
    pub(in crate::engine) fn end_node_for(&mut self, worker: Worker, what: &str) {
        self.end_for(worker, what);
        self.hear_end(worker);
    }

    fn hear_frame(&mut self, worker: Worker, frame: Rc<[u8]>) {
        match FromNode::parse(&frame) {
            FromNode::Online => self.hear_online(worker),
            FromNode::Query(query) => self.answer_query(worker, query),
            FromNode::Listening => self.hear_listening(worker),
            FromNode::Close { key } => self.close_server(worker, &key),
            FromNode::ExitedAfterDisconnect { seq } => self.hear_leaving(worker, seq),
            FromNode::Reply { ack, accepted } => {
                self.hear_answer(worker, ack, accepted != Some(false));
            }
            FromNode::HandleAck => self.hear_arrived(worker),
            FromNode::HandleNack => self.hear_lost(worker),
            FromNode::Taken { count, closed } => {
                self.hear_finished(worker, closed);
                self.hear_taken(worker, count);
            }
            FromNode::Handle(inner) => self.hear_handle(worker, *inner),
            FromNode::SocketNotifyClose { key } => {
                self.say(worker, |_| ToNode::AllClosed { key: &key });
            }
            FromNode::SocketGetCount { key } => {
                self.say(worker, |_| ToNode::SocketCount { key: &key, count: 0 });
            }
            FromNode::Session { key } => self.hear_session(worker, &key),
            FromNode::End { key } => self.router.forget(self.now, worker, &key),
            FromNode::StickySessionClose => self.hear_package_close(worker),
            FromNode::Hello { version } => self.hear_preload(worker, version),
            FromNode::HandlesTerm => {
                self.fleet.handle(self.now, Input::HandlesTerm(worker));
            }
            FromNode::Package { name, message } => self.hear_package(worker, &name, message),
            FromNode::Closed { count } => self.hear_finished(worker, count),
            FromNode::TooLong(what, most) => {
                self.end_node_for(worker, &format!("its {what} is longer than {most} bytes"));
            }
            FromNode::Adapter(adapter) => self.relay(worker, &adapter, &frame),
            FromNode::Streams => self.say_streams(worker),
            FromNode::Quiet => self.router.sessions_over(worker),
            FromNode::Busy => self.router.sessions_resumed(worker),
            FromNode::Pong => self.fleet.handle(self.now, Input::Pong(worker)),
            FromNode::Unheard { name, message } => self.say_unheard(worker, &name, &message),
            FromNode::User if self.is_without_preload(worker) => {
                self.say_unheard(worker, "", "");
            }
            FromNode::Handback { .. } | FromNode::OtherInternal | FromNode::User => {
                debug!(
                    name: "message_ignored", worker = worker.slot,
                    "{worker} says something that is for nobody here"
                );
            }
        }
    }

    fn is_without_preload(&mut self, worker: Worker) -> bool {
        self.node_link(worker).is_some_and(|link| !link.primary.has_preload())
    }

    /// An app says something to a primary that is not there, and may wait for the answer.
    fn say_unheard(&mut self, worker: Worker, name: &str, message: &str) {
        if mem::replace(&mut self.node_mut().unheard, true) {
            return;
        }
        let name = if name.is_empty() { "the app" } else { name };
        warn!(
            name: "message_unheard", worker = worker.slot, from = name,
            "nobody hears what {name} in {worker} says to its primary: {message}; no code of a \
             primary runs here, see Messages in sticky-run-node(7)"
        );
    }

    /// What comes over such a stream stays where it is.
    fn say_streams(&mut self, worker: Worker) {
        if mem::replace(&mut self.node_mut().streams, true) {
            return;
        }
        warn!(
            name: "requests_fixed", worker = worker.slot,
            "{worker} serves HTTP on streams of its own, such as TLS that the app ends itself: a \
             request there which belongs to another worker cannot go on to it; use --by ip, or end \
             TLS in front"
        );
    }

    /// The worker has disconnected, and ends when it has nothing left to do.
    fn hear_leaving(&mut self, worker: Worker, ack: u32) {
        self.say(worker, |seq| ToNode::Ack { ack, seq });
        info!(name: "worker_leaving", worker = worker.slot, "{worker} leaves: it has disconnected");
        self.fleet.handle(self.now, Input::Leaving(worker));
    }

    fn hear_preload(&mut self, worker: Worker, version: u32) {
        if let Some(link) = self.node_link(worker) {
            link.primary.meet_preload(version);
        }
    }

    /// The channel has ended: the worker has disconnected or is gone.
    fn hear_end(&mut self, worker: Worker) {
        self.take_back_parcels(worker);
        self.fleet.handle(self.now, Input::Leaving(worker));
    }

    /// Node has booted. A worker whose package the user named takes connections from now on.
    fn hear_online(&mut self, worker: Worker) {
        let package = self.node().package.clone();
        // What an earlier Node on this channel had not taken is not this one's.
        self.take_back_parcels(worker);
        self.router.reset_open(worker);
        let Some(link) = self.node_link(worker) else { return };
        (link.over, link.returnable) = (false, 0);
        link.primary.boot();
        if let Some(package) = package {
            link.primary.use_package(package);
            self.fleet.handle(self.now, Input::Ready(worker));
        }
        self.tell_router_listeners(worker);
    }

    /// A package of a worker takes connections.
    fn hear_package(&mut self, worker: Worker, name: &str, message: Option<String>) {
        let is_given = !self.node().ports.given().is_empty();
        if self.node().config.package != PackageConfig::Reported {
            return;
        }
        let Some(package) = Package::new(name, message) else {
            return self.tell_off(worker, &format!("it uses a package that is not known: {name}"));
        };
        if !is_given {
            warn!(
                name: "listen_missing", worker = worker.slot, package = name,
                "{worker} uses {name}, which listens nowhere: use --listen ADDR"
            );
            return;
        }
        let Some(link) = self.node_link(worker) else { return };
        link.primary.use_package(package);
        self.fleet.handle(self.now, Input::Ready(worker));
        self.tell_router_listeners(worker);
    }

    /// A server that takes its connections by a package of this name is closing.
    fn hear_package_close(&mut self, worker: Worker) {
        let Some(link) = self.node_link(worker) else { return };
        let package = link.primary.package().map(Package::name);
        if package.is_some_and(|name| name.starts_with("sticky-session")) {
            self.fleet.handle(self.now, Input::Leaving(worker));
        }
    }

    /// A message with a descriptor. Until it is acknowledged, the worker says nothing more.
    fn hear_handle(&mut self, worker: Worker, message: FromNode) {
        let Some(link) = self.node_link(worker) else { return };
        let Some(descriptor) = link.descriptors.pop_front() else {
            return self.answer_handle(worker, ToNode::HandleNack);
        };
        self.answer_handle(worker, ToNode::HandleAck);
        match message {
            FromNode::Handback { head } => self.hear_handback(worker, descriptor, head),
            _ => debug!(
                name: "descriptor_ignored", worker = worker.slot,
                "{worker} sends a descriptor that is for nobody here"
            ),
        }
    }

    /// A worker has closed connections, which it says of one that it gives back after that. It has none to
    /// give back but those that are open.
    fn hear_finished(&mut self, worker: Worker, count: u32) {
        self.hear_closed(worker, count);
        if let Some(open) = self.router.open_on(worker)
            && let Some(link) = self.node_link(worker)
        {
            link.returnable = link.returnable.min(open.into());
        }
    }

    /// A connection comes back for its next request, which may be anything in a worker's hands. The
    /// worker counts it itself, as closed.
    ///
    /// It can give back no more than it was given and has open, so it cannot fill the supervisor with
    /// connections of its own.
    fn hear_handback(&mut self, worker: Worker, socket: Foreign, head: Vec<u8>) {
        let Some(link) = self.node_link(worker) else { return };
        let Some(left) = link.returnable.checked_sub(1) else {
            return self.tell_off(worker, "it gave back more connections than it was given");
        };
        match peek::peer_of(&socket, Mode::NonBlocking) {
            Ok(Peer::Gone) => {
                link.returnable = left;
                debug!(
                    name: "client_gone", worker = worker.slot,
                    "a client is gone before {worker} gave its connection back"
                );
            }
            Ok(Peer::Client(peer)) => {
                link.returnable = left;
                let head = Some(Head::new(head, &link.burden));
                let client = self.origins.client_of(&socket, peer);
                let listener = self.listener_of(&socket);
                let connection = Connection { listener, head, ..Connection::new(socket, client) };
                self.handoff.take_next_request(connection);
                self.judge_burden(worker);
            }
            Err(error) => {
                self.tell_off(worker, &format!("it handed back what is no connection: {error}"));
            }
        }
    }
}

/// Whether a time that may have an end is over.
fn is_over(until: Option<Time>) -> bool {
    until.is_some_and(|until| clock::now() >= until)
}
