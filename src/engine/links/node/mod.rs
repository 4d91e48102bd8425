//! The handoff `node`: the supervisor is the primary of Node's `cluster`, so that servers need no
//! change.
//!
//! Here frames and descriptors are moved; what they mean is in `protocol/node`. `launch` is what a worker
//! finds when it starts, `send` sends connections and keeps each until its worker has it, `receive` says
//! what workers say, `query` what they ask to listen on, `relay` passes on what they say to each other,
//! and `saved` writes it all down.

mod launch;
mod query;
mod receive;
mod relay;
mod saved;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

pub(in crate::engine) use self::saved::SavedNode;
use self::send::Resting;
use super::handoff::{Facts, Handoff, NotSent, Pacing, SavedHandoff, Traits, Turn};
use super::said::Said;
use super::wires::Wires;
use crate::engine::Connection;
use crate::engine::listeners::{Granted, Request};
use crate::logic::Worker;
use crate::logic::batching::Batching;
use crate::logic::config::{Account, Config, Handoff as Configured, NodeConfig, PackageConfig};
use crate::logic::core::{Note, Noted, Reports};
use crate::logic::quota::{Charge, Quota};
use crate::logic::route::Reason;
use crate::logic::time::Time;
use crate::os::closing::Foreign;
use crate::os::kept::Keeper;
use crate::os::listen::Mode;
use crate::os::scratch::Scratch;
use crate::os::spawn::Launch;
use crate::os::stream::Stream;
use crate::protocol::node::{Frames, Ledger, Outbox, Package, Primary};

/// How much is read of a channel at one go; as much as Node itself reads.
const AT_ONCE: usize = 64 * 1024;
/// While the loop rests between its turns, so many times as many connections as usual may be on
/// their way to a worker, so that it does not run dry meanwhile.
const WIDER: usize = 4;
/// The rest after the kernel had no room at all for a descriptor.
const RETRY: Duration = Duration::from_millis(10);

/// What connects all workers that are Node.
#[derive(Debug)]
pub(super) struct Node {
    config: NodeConfig,
    /// The files of the preload, if there is one.
    preload: Option<Scratch>,
    /// The package that the user named.
    package: Option<Package>,
    links: BTreeMap<Worker, NodeLink>,
    /// Connections that did not arrive, for want of descriptors in their worker.
    resting: Resting,
    /// It was said that nobody hears what apps say to their primary.
    unheard: bool,
    /// It was said that workers serve HTTP on streams of their own.
    streams: bool,
    /// It was said that the watchdog cannot see some workers.
    unwatched: bool,
    /// When to write again, after the kernel had no room at all.
    retry_at: Option<Time>,
    pace: Batching,
    /// More connections than usual may be on their way to a worker.
    wide: bool,
    buffer: Box<[u8]>,
}

/// What connects a worker that is Node.
#[derive(Debug)]
struct NodeLink {
    /// Its number in Node's `cluster` (`cluster.worker.id`).
    id: u32,
    stream: Stream,
    /// The worker's end, until it has inherited it.
    theirs: Option<OwnedFd>,
    frames: Frames,
    /// Descriptors whose frame has not been read yet.
    descriptors: VecDeque<Foreign>,
    primary: Primary,
    outbox: Outbox,
    ledger: Ledger<Payload>,
    /// What is kept because of it.
    quota: Quota,
    /// What others have read of connections that wait for it or are on their way to it.
    awaiting: Quota,
    /// How many connections it may give back: as many as it was given and has open, as far as it has said.
    returnable: u64,
    /// The loop tells when there is room to write.
    watched: bool,
    /// There is no room to write, as far as the loop has said.
    blocked: bool,
    /// Frames that others sent to it were dropped.
    dropped: bool,
    /// The channel has ended: nothing arrives any more.
    over: bool,
    /// It is ended for what it did, and is not heard any more.
    is_ended: bool,
}

/// What is on its way to a worker with a descriptor.
#[derive(Debug)]
enum Payload {
    Connection(Connection, Reason),
    /// A UDP socket, which all workers share.
    Udp {
        socket: Rc<OwnedFd>,
        _part: Charge,
    },
}

impl Payload {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(connection, _) => connection.socket.as_fd(),
            Self::Udp { socket, .. } => socket.as_fd(),
        }
    }
}

impl Node {
    pub(super) const TRAITS: Traits = Traits {
        mode: Mode::NonBlocking,
        mints: true,
        reports: Reports::Nothing,
        asks_to_listen: true,
        how_to_be_ready: "with --handoff node a worker is ready when its server listens, see \
                          sticky-run-node(7); the command alone, without sticky-run, ends in the same way if \
                          the fault is its own",
    };

    /// For workers that are this account, if they are somebody else.
    pub(super) fn new(now: Time, config: NodeConfig, account: Option<Account>) -> io::Result<Self> {
        let preload = match config.preload {
            Some(_) => Some(Scratch::new(launch::PRELOAD, account)?),
            None => None,
        };
        Ok(Self::with(now, config, preload, Resting::default()))
    }

    fn with(now: Time, config: NodeConfig, preload: Option<Scratch>, resting: Resting) -> Self {
        let package = match &config.package {
            PackageConfig::Named(name) => Package::new(name, None),
            PackageConfig::Reported | PackageConfig::Ignored => None,
        };
        let buffer = vec![0; AT_ONCE].into_boxed_slice();
        Self {
            config,
            preload,
            package,
            links: BTreeMap::new(),
            resting,
            unheard: false,
            streams: false,
            unwatched: false,
            retry_at: None,
            pace: Batching::new(now),
            wide: false,
            buffer,
        }
    }

    fn link(&mut self, worker: Worker) -> Option<&mut NodeLink> {
        self.links.get_mut(&worker)
    }

    fn has_preload(&self, worker: Worker) -> bool {
        self.links.get(&worker).is_some_and(|link| link.primary.has_preload())
    }
}

impl NodeLink {
    fn new(id: u32, worker: Worker) -> io::Result<Self> {
        let (stream, theirs) = Stream::pair(worker)?;
        Ok(Self {
            id,
            stream,
            theirs: Some(theirs),
            frames: Frames::default(),
            descriptors: VecDeque::new(),
            primary: Primary::default(),
            outbox: Outbox::default(),
            ledger: Ledger::default(),
            quota: Quota::default(),
            awaiting: Quota::default(),
            returnable: 0,
            watched: false,
            blocked: false,
            dropped: false,
            over: false,
            is_ended: false,
        })
    }

    /// How many connections are on their way.
    fn in_flight(&self) -> usize {
        let connections =
            self.ledger.payloads().filter(|payload| matches!(payload, Payload::Connection(..)));
        connections.count()
    }

    /// Has the loop tell when there is room to write, for as long as that matters.
    fn watch(&mut self, worker: Worker, wires: &Wires) {
        if self.blocked != self.watched && wires.watch(worker, self.blocked) {
            self.watched = self.blocked;
        }
    }
}

impl Handoff for Node {
    fn prepare(
        &mut self,
        worker: Worker,
        facts: &Facts<'_>,
        launch: &mut Launch,
    ) -> io::Result<()> {
        self.make_link(worker, facts, launch)
    }

    fn workers_end(&self, worker: Worker) -> Option<BorrowedFd<'_>> {
        self.links.get(&worker)?.theirs.as_ref().map(AsFd::as_fd)
    }

    /// The worker's end is closed here, so that its closing there can be noticed from now on.
    fn started(&mut self, worker: Worker) -> Option<RawFd> {
        let link = self.link(worker)?;
        link.theirs = None;
        Some(link.stream.as_raw_fd())
    }

    fn not_started(&mut self, worker: Worker) {
        self.links.remove(&worker);
    }

    fn recover(&mut self, worker: Worker, wires: &mut Wires) {
        if let Some(link) = self.links.remove(&worker) {
            self.send_farewell(&link, wires);
            relay::return_all(worker, link.ledger, wires);
        }
    }

    fn begin(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        self.begin_turn(turn, wires)
    }

    fn receive(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        self.receive_next(turn, wires)
    }

    fn became_writable(&mut self, worker: Worker, wires: &mut Wires) {
        if let Some(link) = self.link(worker) {
            link.blocked = false;
            self.flush(worker, wires);
        }
    }

    fn send(
        &mut self,
        connection: Connection,
        worker: Worker,
        reason: Reason,
        wires: &mut Wires,
    ) -> Result<(), (Connection, NotSent)> {
        self.send_connection(connection, worker, reason, wires)
    }

    fn notify(&mut self, worker: Worker, note: Note, wires: &mut Wires) -> Noted {
        if !self.links.contains_key(&worker) {
            return Noted::Told;
        }
        match note {
            Note::Drain => self.close(worker, false, wires),
            Note::Close { at_once } => self.close(worker, at_once, wires),
            Note::Withdraw => self.withdraw(worker, wires),
            Note::Ping => self.ping(worker, wires),
        }
    }

    fn answer(
        &mut self,
        worker: Worker,
        request: &Request,
        answer: io::Result<Granted>,
        wires: &mut Wires,
    ) {
        match answer {
            Ok(granted) => self.grant(worker, request, granted, wires),
            Err(error) => self.refuse(worker, request, &error, wires),
        }
    }

    fn unread(&self, worker: Worker) -> io::Result<usize> {
        Ok(self.links.get(&worker).map_or(0, NodeLink::in_flight))
    }

    fn may_wait(&mut self, connection: &mut Connection, owner: Worker) -> bool {
        let (Some(head), Some(link)) = (&mut connection.head, self.link(owner)) else {
            return true;
        };
        head.goes_to(&link.quota, &link.awaiting);
        !link.awaiting.is_exceeded()
    }

    fn limit_returns(&mut self, worker: Worker, open: u32) {
        if let Some(link) = self.link(worker) {
            link.returnable = link.returnable.min(open.into());
        }
    }

    fn on_their_way(&self, worker: Worker) -> usize {
        self.links.get(&worker).map_or(0, |link| link.ledger.unacknowledged())
    }

    fn all_on_their_way(&self) -> usize {
        self.links.values().map(|link| link.ledger.unacknowledged()).sum()
    }

    fn held(&self) -> usize {
        self.resting.len()
    }

    fn due(&self) -> Option<Time> {
        self.resting.ends().into_iter().chain(self.retry_at).min()
    }

    fn expire(&mut self, wires: &mut Wires) {
        while let Some((worker, connection, how)) = self.resting.pop(wires.now) {
            wires.say(worker, Said::Returned(connection, how));
        }
        self.retry_writing(wires);
    }

    /// Rests a little when connections come fast: each turn costs more than what it does, since Node
    /// workers answer every few connections.
    fn pace(&mut self, connections: u64, wires: &Wires) -> Pacing {
        let rest = self.pace.pause(wires.now, connections);
        // Which workers are quick changes from turn to turn.
        let widen = (self.wide || rest.is_some()).then_some(if rest.is_some() { WIDER } else { 1 });
        self.wide = rest.is_some();
        Pacing { widen, rest }
    }

    /// What the files of the preload, messages and packages need is as it was.
    fn reconfigure(&mut self, config: &Config) {
        if let Configured::Node(config) = &config.handoff {
            self.config = config.clone();
        }
    }

    fn save(&self, keeper: &mut Keeper) -> SavedHandoff {
        SavedHandoff::Node(Box::new(self.write_down(keeper)))
    }
}
