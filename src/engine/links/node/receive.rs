//! What Node workers say, read from their channels.
//!
//! A worker that says nonsense is told off in the log, at a limited rate; one whose channel cannot be
//! read any further is ended. Nothing else happens to it, and nothing to the others.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::{Node, query};
use crate::engine::Connection;
use crate::engine::connection::Head;
use crate::engine::links::handoff::{Channels, Turn};
use crate::engine::links::{Said, Wires};
use crate::logic::Worker;
use crate::logic::config::PackageConfig;
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

impl Node {
    /// A worker is heard: all that lies in its channel by now, or for a short time. One whose messages take
    /// long to understand rests after that.
    pub(super) fn begin_turn(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        let worker = turn.worker;
        let Some(link) = self.links.get(&worker).filter(|link| !link.is_ended) else {
            wires.was_read(worker);
            return false;
        };
        if turn.which == Channels::Readable && wires.rests(worker) {
            return false;
        }
        turn.began = clock::now();
        turn.left = match turn.which {
            // So many bytes at least, if there are as many.
            Channels::All => link.stream.queued().unwrap_or(MOST_QUEUED).min(MOST_QUEUED),
            Channels::Readable => usize::MAX,
        };
        true
    }

    /// Hears the next message. Returns whether there may be another one in this turn.
    pub(super) fn receive_next(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        let goes_on = self.read_next(turn, wires);
        if !goes_on {
            let spent = clock::now() - turn.began;
            if spent > DEAR {
                wires.rest(turn.worker, turn.began + spent * SHARE);
            }
        }
        goes_on
    }

    fn read_next(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        let worker = turn.worker;
        loop {
            let link = self.link(worker).filter(|link| !link.is_ended);
            let goes_on = match link.map(|link| link.frames.next_frame()) {
                // Some may be left of an earlier turn.
                Some(Ok(Some(cut))) => {
                    self.on_cut(worker, cut, wires);
                    if !is_over(turn) {
                        return true;
                    }
                    false
                }
                Some(Ok(None)) if turn.left == 0 => return false,
                Some(Ok(None)) if is_over(turn) || wires.is_choked(worker, turn.most_unclosed) => {
                    false
                }
                Some(Ok(None)) => {
                    let Some((count, is_last)) = self.read_piece(worker, wires) else {
                        return false;
                    };
                    turn.left = if is_last { 0 } else { turn.left.saturating_sub(count) };
                    true
                }
                Some(Err(error)) => {
                    self.end_for(worker, error.to_string(), wires);
                    false
                }
                None => false,
            };
            if !goes_on {
                wires.became_readable(worker);
                return false;
            }
        }
    }

    fn on_cut(&mut self, worker: Worker, cut: Cut, wires: &mut Wires) {
        match cut {
            Cut::Frame(frame) => self.on_whole_frame(worker, &frame, wires),
            Cut::Skipped { length, carries } => {
                self.on_skipped_frame(worker, length, carries, wires)
            }
        }
    }

    /// Reads a piece of what lies in a channel; returns how long it is and whether nothing is left, or none if
    /// nothing was.
    fn read_piece(&mut self, worker: Worker, wires: &mut Wires) -> Option<(usize, bool)> {
        let link = self.links.get_mut(&worker)?;
        match link.stream.receive(&mut self.buffer) {
            Ok(Some(received)) if received.len > 0 => {
                let count = received.len;
                link.frames.extend(&self.buffer[..count]);
                // The kernel stops at a descriptor; without one, a part of the buffer is all there was.
                let is_last = count < self.buffer.len() && received.descriptors.is_empty();
                if is_last {
                    wires.was_read(worker);
                }
                self.keep_descriptors(worker, received, wires);
                return Some((count, is_last));
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                wires.was_read(worker);
                return None;
            }
            Err(error) => debug!(
                name: "channel_read_failed", worker = worker.slot,
                "cannot read the channel of {worker}: {error}"
            ),
        }
        wires.was_read(worker);
        self.on_end(worker, wires);
        None
    }

    fn keep_descriptors(&mut self, worker: Worker, received: Received, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.descriptors.extend(received.descriptors);
        let too_many = link.descriptors.len() > MOST_DESCRIPTORS;
        link.descriptors.truncate(MOST_DESCRIPTORS);
        if received.lost {
            warn!(
                name: "descriptor_lost", worker = worker.slot,
                "a descriptor that {worker} sent is lost: too many open files"
            );
        } else if too_many {
            let what = "it sent descriptors that nobody asked for";
            wires.say(worker, Said::Violation(what.to_owned()));
        }
    }

    /// A message was too long. If it came with a descriptor, the worker waits to hear of that before it says
    /// anything more.
    fn on_skipped_frame(
        &mut self,
        worker: Worker,
        length: usize,
        carries: bool,
        wires: &mut Wires,
    ) {
        let (length, most) = (length.div_ceil(MIB), MOST_WHOLE / MIB);
        let what = format!("a message of {length} MiB is dropped, they may have {most} MiB");
        wires.say(worker, Said::Violation(what));
        let Some(link) = self.link(worker) else { return };
        if carries {
            link.descriptors.pop_front();
            self.answer_handle(worker, ToNode::HandleAck, wires);
        }
    }

    /// Has a worker ended for what it did. What was on its way to it goes to others.
    pub(super) fn end_for(&mut self, worker: Worker, what: String, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.is_ended = true;
        wires.say(worker, Said::Unusable(what));
        self.on_end(worker, wires);
    }

    fn on_whole_frame(&mut self, worker: Worker, frame: &Rc<[u8]>, wires: &mut Wires) {
        let said = match FromNode::parse(frame) {
            FromNode::Query(query) => Said::Listen(query::request(query)),
            FromNode::Listening => Said::Listening,
            FromNode::Session { key } => Said::Announced(key),
            FromNode::End { key } => Said::Forgotten(key),
            FromNode::Closed { count } => Said::Closed(count),
            FromNode::HandlesTerm => Said::HandlesTerm,
            FromNode::Quiet => Said::Quiet,
            FromNode::Busy => Said::Busy,
            FromNode::Pong => Said::Pong,
            other => return self.on_own_message(worker, other, frame, wires),
        };
        wires.say(worker, said);
    }

    /// Hears what has to be answered here, or is about what is on its way.
    fn on_own_message(
        &mut self,
        worker: Worker,
        said: FromNode,
        frame: &Rc<[u8]>,
        wires: &mut Wires,
    ) {
        match said {
            FromNode::Online => self.on_online(worker, wires),
            FromNode::Close { key } => self.on_close(worker, key, wires),
            FromNode::ExitedAfterDisconnect { seq } => self.on_leaving(worker, seq, wires),
            FromNode::Reply { ack, accepted } => {
                self.on_answer(worker, ack, accepted != Some(false), wires);
            }
            FromNode::HandleAck => self.on_arrived(worker, wires),
            FromNode::HandleNack => self.on_lost(worker, wires),
            FromNode::Taken { count, closed } => {
                wires.say(worker, Said::Closed(closed));
                self.on_taken(worker, count, wires);
            }
            FromNode::Handle(inner) => self.on_handle(worker, *inner, wires),
            FromNode::SocketNotifyClose { key } => {
                self.say(worker, |_| ToNode::AllClosed { key: &key }, wires);
            }
            FromNode::SocketGetCount { key } => {
                self.say(worker, |_| ToNode::SocketCount { key: &key, count: 0 }, wires);
            }
            FromNode::Hello { version } => {
                if let Some(link) = self.link(worker) {
                    link.primary.meet_preload(version);
                    wires.say(worker, Said::ReportsEnds);
                }
            }
            FromNode::TooLong(what, most) => {
                self.end_for(worker, format!("its {what} is longer than {most} bytes"), wires);
            }
            other => self.on_app_message(worker, other, frame, wires),
        }
    }

    /// Hears what the app says, or a package of it.
    fn on_app_message(
        &mut self,
        worker: Worker,
        said: FromNode,
        frame: &Rc<[u8]>,
        wires: &mut Wires,
    ) {
        match said {
            FromNode::StickySessionClose => self.on_package_close(worker, wires),
            FromNode::Package { name, message } => self.on_package(worker, name, message, wires),
            FromNode::Adapter(adapter) => self.relay(worker, &adapter, frame, wires),
            FromNode::Streams => self.warn_of_streams(worker),
            FromNode::Unheard { name, message } => self.log_unhandled(worker, &name, &message),
            FromNode::User if !self.has_preload(worker) => self.log_unhandled(worker, "", ""),
            _ => debug!(
                name: "message_ignored", worker = worker.slot,
                "{worker} sent a message that is not for the supervisor"
            ),
        }
    }

    /// An app says something to a primary that is not there, and may wait for the answer.
    fn log_unhandled(&mut self, worker: Worker, name: &str, message: &str) {
        if mem::replace(&mut self.unheard, true) {
            return;
        }
        let name = if name.is_empty() { "the app" } else { name };
        warn!(
            name: "message_unheard", worker = worker.slot, from = name,
            "no primary receives what {name} in {worker} sends to it: {message}; no primary code \
             of the app runs here, see Messages in sticky-run-node(7)"
        );
    }

    /// What comes over such a stream stays where it is.
    fn warn_of_streams(&mut self, worker: Worker) {
        if mem::replace(&mut self.streams, true) {
            return;
        }
        warn!(
            name: "requests_fixed", worker = worker.slot,
            "{worker} serves HTTP on streams of its own, such as TLS that the app terminates: a \
             request there that belongs to another worker cannot be passed on; use --by ip, or \
             terminate TLS in front"
        );
    }

    /// The worker has disconnected, and ends when it has nothing left to do.
    fn on_leaving(&mut self, worker: Worker, ack: u32, wires: &mut Wires) {
        self.say(worker, |seq| ToNode::Ack { ack, seq }, wires);
        info!(
            name: "worker_leaving", worker = worker.slot,
            "{worker} has disconnected and is about to exit"
        );
        wires.say(worker, Said::Leaving);
    }

    /// The channel has ended: the worker has disconnected or is gone.
    fn on_end(&mut self, worker: Worker, wires: &mut Wires) {
        self.return_payloads(worker, wires);
        wires.say(worker, Said::Leaving);
    }

    /// Node has booted. A worker whose package the user named takes connections from now on.
    fn on_online(&mut self, worker: Worker, wires: &mut Wires) {
        let package = self.package.clone();
        // What an earlier Node on this channel had not taken is not this one's.
        self.return_payloads(worker, wires);
        let Some(link) = self.link(worker) else { return };
        (link.over, link.returnable) = (false, 0);
        link.primary.boot();
        let takes_given = package.is_some();
        if let Some(package) = package {
            link.primary.use_package(package);
        }
        wires.say(worker, Said::Booted { takes_given });
    }

    /// A server of a worker is closed.
    fn on_close(&mut self, worker: Worker, key: String, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        link.primary.close(&key);
        wires.say(worker, Said::StopsListening(key));
    }

    /// A package of a worker takes connections.
    fn on_package(
        &mut self,
        worker: Worker,
        name: String,
        message: Option<String>,
        wires: &mut Wires,
    ) {
        if self.config.package != PackageConfig::Reported {
            return;
        }
        let Some(package) = Package::new(&name, message) else {
            let what = format!("it uses a package that is not known: {name}");
            return wires.say(worker, Said::Violation(what));
        };
        let Some(link) = self.link(worker) else { return };
        link.primary.use_package(package);
        wires.say(worker, Said::TakesGiven { package: name });
    }

    /// A server that takes its connections by a package of this name is closing.
    fn on_package_close(&mut self, worker: Worker, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        let package = link.primary.package().map(Package::name);
        if package.is_some_and(|name| name.starts_with("sticky-session")) {
            wires.say(worker, Said::Leaving);
        }
    }

    /// A message with a descriptor. Until it is acknowledged, the worker says nothing more.
    fn on_handle(&mut self, worker: Worker, message: FromNode, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        let Some(descriptor) = link.descriptors.pop_front() else {
            return self.answer_handle(worker, ToNode::HandleNack, wires);
        };
        self.answer_handle(worker, ToNode::HandleAck, wires);
        match message {
            FromNode::Handback { head } => self.on_handback(worker, descriptor, head, wires),
            _ => debug!(
                name: "descriptor_ignored", worker = worker.slot,
                "{worker} sent a descriptor that nobody asked for"
            ),
        }
    }

    /// A connection comes back for its next request, which may be anything in a worker's hands. The
    /// worker counts it itself, as closed.
    ///
    /// It can give back no more than it was given and has open, so it cannot fill the supervisor with
    /// connections of its own.
    fn on_handback(&mut self, worker: Worker, socket: Foreign, head: Vec<u8>, wires: &mut Wires) {
        let Some(link) = self.link(worker) else { return };
        let Some(left) = link.returnable.checked_sub(1) else {
            let what = "it gave back more connections than it was given";
            return wires.say(worker, Said::Violation(what.to_owned()));
        };
        match peek::peer_of(&socket, Mode::NonBlocking) {
            Ok(Peer::Gone) => {
                link.returnable = left;
                debug!(
                    name: "client_gone", worker = worker.slot,
                    "a client left before {worker} returned its connection"
                );
            }
            Ok(Peer::Client(peer)) => {
                link.returnable = left;
                let head = Some(Head::new(head, &link.quota));
                let connection = Some(Connection { head, ..Connection::new(socket, peer) });
                wires.say(worker, Said::GivenBack { connection, next: true, is_closed: true });
                self.check_quota(worker, wires);
            }
            Err(error) => {
                let what = format!("it handed back what is no connection: {error}");
                wires.say(worker, Said::Violation(what));
            }
        }
    }
}

/// Whether the time of a turn is over, if it has an end.
fn is_over(turn: &Turn) -> bool {
    turn.which == Channels::Readable && clock::now() >= turn.began + TURN
}
