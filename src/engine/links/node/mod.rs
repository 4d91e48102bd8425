//! The handoff `node`: the supervisor is the primary of Node's `cluster`, so that servers need no
//! change.
//!
//! Here frames and descriptors are moved; what they mean is in `protocol/node`. `ports` answers
//! servers that want to listen, `unused` closes what nobody serves any more, `elsewhere` ends successors that
//! serve something else, `handoff` sends
//! connections and keeps each until its worker has it, `hear` does what workers say, `relay` passes
//! on what they say to each other, and `saved` writes it all down.

mod launch;
mod receive;
mod relay;
mod saved;
mod send;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

pub(in crate::engine) use self::saved::{SavedNode, SavedNodeLink};
use self::send::Resting;
use crate::engine::links::channels::ChannelPoll;
use crate::engine::listeners::opened::Ports;
use crate::engine::{Connection, Engine};
use crate::logic::Worker;
use crate::logic::burden::{Burden, Part};
use crate::logic::config::{Account, NodeConfig, PackageConfig};
use crate::logic::pace::Pace;
use crate::logic::route::Assignment;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::clock;
use crate::os::closing::Foreign;
use crate::os::scratch::Scratch;
use crate::os::stream::Stream;
use crate::protocol::node::{Frames, Ledger, Outbox, Package, Primary};

/// How much is read of a channel at one go; as much as Node itself reads.
const AT_ONCE: usize = 64 * 1024;
/// While the loop rests between its turns, so many times as many connections as usual may be on
/// their way to a worker, so that it does not run dry meanwhile.
const WIDER: usize = 4;
/// What a UDP socket costs on its way to the worker that it was opened for, in bytes: the kernel keeps buffers
/// for it, also if it is closed meanwhile.
pub(in crate::engine) const SOCKET: usize = 32 * 1024;
/// On its way to another worker, which shares it, that is its message, at most. All that may be open are not
/// too much at once.
pub(in crate::engine) const SHARED: usize = 8 * 1024;
/// The rest after the kernel had no room at all for a descriptor.
const RETRY: Duration = Duration::from_millis(10);

/// So many ports a worker may have opened at once: as many as it may have. Then there are 250 in a second.
const MOST_OPENS: u32 = 1024;
const OPENS: Throttle = Throttle::new(MOST_OPENS, Duration::from_millis(4));

/// What all links of this handoff share.
#[derive(Debug)]
pub(in crate::engine) struct Node {
    config: NodeConfig,
    /// The files of the preload, if there is one.
    preload: Option<Scratch>,
    /// The package that the user named.
    package: Option<Package>,
    pub(in crate::engine) ports: Ports,
    /// Connections that did not arrive, for want of descriptors in their worker.
    resting: Resting,
    /// It was said that a listener leads to the first of several servers.
    pub(in crate::engine) guessed: bool,
    /// Successors that serve nothing of what is served, and when that is too long.
    pub(in crate::engine) elsewhere: BTreeMap<Worker, Time>,
    /// It was said that nobody hears what apps say to their primary.
    unheard: bool,
    /// It was said that workers serve HTTP on streams of their own.
    streams: bool,
    /// It was said that the watchdog cannot see some workers.
    unwatched: bool,
    /// When to write again, after the kernel had no room at all.
    retry_at: Option<Time>,
    pace: Pace,
    /// More connections than usual may be on their way to a worker.
    wide: bool,
    buffer: Box<[u8]>,
}

/// What connects a worker that is Node.
#[derive(Debug)]
pub(in crate::engine) struct NodeLink {
    /// Its number in Node's `cluster` (`cluster.worker.id`).
    id: u32,
    stream: Stream,
    /// The worker's end, until it has inherited it.
    theirs: Option<OwnedFd>,
    frames: Frames,
    /// Descriptors whose frame has not been read yet.
    descriptors: VecDeque<Foreign>,
    pub(in crate::engine) primary: Primary,
    outbox: Outbox,
    ledger: Ledger<Parcel>,
    /// What is kept because of it.
    pub(in crate::engine) burden: Burden,
    /// What others have read of connections that wait for it or are on their way to it.
    awaiting: Burden,
    /// How many connections it may give back: as many as it was given and has open, as far as it has said.
    returnable: u64,
    /// How often something is opened for it.
    pub(in crate::engine) opens: Throttle,
    /// The listeners that the router knows it serves.
    pub(in crate::engine) listeners: BTreeSet<u32>,
    /// The worker gets no new keys any more.
    pub(in crate::engine) withdrawn: bool,
    /// The loop tells when there is room to write.
    watched: bool,
    /// There is no room to write, as far as the loop has said.
    blocked: bool,
    /// Frames that others sent to it were dropped.
    dropped: bool,
    /// The channel has ended: nothing arrives any more.
    over: bool,
}

/// What is on its way to a worker with a descriptor.
#[derive(Debug)]
pub(in crate::engine) enum Parcel {
    Connection(Connection, Assignment),
    /// A UDP socket, which all workers share.
    Udp {
        socket: Rc<OwnedFd>,
        _part: Part,
    },
}

impl Parcel {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Connection(connection, _) => connection.socket.as_fd(),
            Self::Udp { socket, .. } => socket.as_fd(),
        }
    }
}

impl Node {
    /// For workers that are this account, if they are somebody else.
    pub(in crate::engine) fn new(
        now: Time,
        config: NodeConfig,
        given: BTreeSet<u32>,
        account: Option<Account>,
    ) -> io::Result<Self> {
        let preload = match config.preload {
            Some(_) => Some(Scratch::new(launch::PRELOAD, account)?),
            None => None,
        };
        Ok(Self::with(now, config, preload, Ports::new(given), Resting::default()))
    }

    fn with(
        now: Time,
        config: NodeConfig,
        preload: Option<Scratch>,
        ports: Ports,
        resting: Resting,
    ) -> Self {
        let package = match &config.package {
            PackageConfig::Named(name) => Package::new(name, None),
            PackageConfig::Reported | PackageConfig::Ignored => None,
        };
        let buffer = vec![0; AT_ONCE].into_boxed_slice();
        Self {
            config,
            preload,
            package,
            ports,
            resting,
            guessed: false,
            unheard: false,
            elsewhere: BTreeMap::new(),
            streams: false,
            unwatched: false,
            retry_at: None,
            pace: Pace::new(now),
            wide: false,
            buffer,
        }
    }

    /// Workers that are started from now on find this. What the files of the preload, messages and
    /// packages need is as it was.
    pub(in crate::engine) fn reconfigure(&mut self, config: NodeConfig) {
        self.config = config;
    }

    /// Whether any server may still serve a connection that came back.
    pub(in crate::engine) fn leads_anywhere(&self, connection: &Connection) -> bool {
        connection.listener.is_some_and(|listener| self.ports.has(listener))
    }

    /// When to call [`Engine::look_after_nodes`].
    pub(in crate::engine) fn due(&self) -> Option<Time> {
        let elsewhere = self.elsewhere.values().min().copied();
        let due = [self.resting.ends(), self.retry_at, self.ports.look_at, elsewhere];
        due.into_iter().flatten().min()
    }

    /// How many ports workers have open.
    pub(in crate::engine) fn ports(&self) -> usize {
        self.ports.len()
    }

    /// How many connections did not arrive and wait to be routed again.
    pub(in crate::engine) fn resting(&self) -> usize {
        self.resting.len()
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
            burden: Burden::default(),
            awaiting: Burden::default(),
            returnable: 0,
            opens: OPENS,
            listeners: BTreeSet::new(),
            withdrawn: false,
            watched: false,
            blocked: false,
            dropped: false,
            over: false,
        })
    }

    /// The end that the worker inherits, until it has inherited it.
    pub(in crate::engine) fn workers_end(&self) -> BorrowedFd<'_> {
        self.theirs.as_ref().expect("the worker has not inherited its end yet").as_fd()
    }

    /// The worker has inherited its end, whose closing can be noticed from now on.
    pub(in crate::engine) fn inherited(&mut self) {
        self.theirs = None;
    }

    /// Whether the worker tells which of its connections are finished.
    pub(in crate::engine) fn is_counting(&self) -> bool {
        self.primary.has_preload()
    }

    /// How many connections are on their way.
    pub(in crate::engine) fn in_flight(&self) -> usize {
        let connections =
            self.ledger.parcels().filter(|parcel| matches!(parcel, Parcel::Connection(..)));
        connections.count()
    }

    /// How many descriptors are kept until the worker has them.
    pub(in crate::engine) fn kept(&self) -> usize {
        self.ledger.unsettled()
    }

    /// The router knows of no listener that this worker serves.
    pub(in crate::engine) fn forget_listeners(&mut self) {
        self.listeners.clear();
    }

    /// There may be room to write again.
    pub(in crate::engine) fn became_writable(&mut self) {
        self.blocked = false;
    }

    /// Has the loop tell when there is room to write, for as long as that matters.
    pub(in crate::engine) fn watch(
        &mut self,
        channels: &ChannelPoll,
        worker: Worker,
    ) -> io::Result<()> {
        if self.blocked == self.watched {
            return Ok(());
        }
        channels.watch(worker, self.stream.as_raw_fd(), self.blocked)?;
        self.watched = self.blocked;
        Ok(())
    }
}

impl AsRawFd for NodeLink {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Engine {
    /// What all Node workers share.
    pub(in crate::engine) fn node(&self) -> &Node {
        self.node.as_ref().expect("Node workers exist only with their handoff")
    }

    pub(in crate::engine) fn node_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect("Node workers exist only with their handoff")
    }

    /// What connects a Node worker.
    pub(in crate::engine) fn node_link(&mut self, worker: Worker) -> Option<&mut NodeLink> {
        self.workers.get_mut(worker)?.link.node_mut()
    }

    /// Rests a little when connections come fast: each turn costs more than what it does, since Node
    /// workers answer every few connections.
    pub(in crate::engine) fn pace(&mut self) {
        let (now, connections) = (self.now, self.handoff.connections());
        let Some(node) = &mut self.node else { return };
        let rest = node.pace.rest(now, connections);
        // Which workers are quick changes from turn to turn.
        if node.wide || rest.is_some() {
            node.wide = rest.is_some();
            self.router.scale_windows(now, if node.wide { WIDER } else { 1 });
        }
        if let Some(rest) = rest {
            clock::rest(rest);
        }
    }

    /// Does what is due by now.
    pub(in crate::engine) fn look_after_nodes(&mut self) {
        if self.node.is_some() {
            self.route_rested();
            self.retry_writing();
            self.close_unused_ports();
            self.end_those_elsewhere();
        }
    }
}
