//! The interface of a handoff, and which there are: how connections get into workers.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::native::{Native, SavedNative};
use super::node::{Node, SavedNode};
use super::wires::Wires;
use crate::engine::Connection;
use crate::engine::listeners::{Granted, Request};
use crate::logic::Worker;
use crate::logic::config::{Config, Handoff as Configured};
use crate::logic::core::{Note, Noted, Reports};
use crate::logic::route::Reason;
use crate::logic::route::key::KeyList;
use crate::logic::route::mint::MintKey;
use crate::logic::time::Time;
use crate::os::kept::{Keeper, Shared};
use crate::os::listen::Mode;
use crate::os::spawn::Launch;

/// What an upgrade cannot do.
const OTHER_HANDOFF: &str = "--handoff cannot change in an upgrade: stop, and start anew";

/// How connections get into workers, and what is said meanwhile. All workers have the same handoff, which owns
/// their links; the wires are lent to it.
pub(super) trait Handoff: Debug {
    /// Makes a link for a worker that is about to be started, and tells that one about its end.
    fn prepare(&mut self, worker: Worker, facts: &Facts<'_>, launch: &mut Launch)
    -> io::Result<()>;

    /// The end that a worker inherits which is about to be started.
    fn workers_end(&self, worker: Worker) -> Option<BorrowedFd<'_>>;

    /// The worker has inherited its end. Returns the supervisor's.
    fn started(&mut self, worker: Worker) -> Option<RawFd>;

    /// The worker could not be started.
    fn not_started(&mut self, worker: Worker);

    /// The worker is gone: says what it did not pick up.
    fn recover(&mut self, worker: Worker, wires: &mut Wires);

    /// A worker's turn to be heard begins. Returns whether it has one.
    fn begin(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool;

    /// Says what its next message means. Returns whether there may be another one in this turn.
    fn receive(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool;

    /// Sends a connection to its worker, or returns it.
    fn send(
        &mut self,
        connection: Connection,
        worker: Worker,
        reason: Reason,
        wires: &mut Wires,
    ) -> Result<(), (Connection, NotSent)>;

    /// Says something to a worker.
    fn notify(&mut self, worker: Worker, note: Note, wires: &mut Wires) -> Noted;

    /// How much a worker has not picked up, which says how much room it has.
    fn unread(&self, worker: Worker) -> io::Result<usize>;

    /// When to [`expire`](Self::expire).
    fn due(&self) -> Option<Time>;

    /// Does what is due by now.
    fn expire(&mut self, wires: &mut Wires);

    /// Writes it down.
    fn save(&self, keeper: &mut Keeper) -> SavedHandoff;

    /// How many connections are held that did not get into their workers.
    fn held(&self) -> usize;

    /// There is room to write to a worker again.
    fn became_writable(&mut self, _worker: Worker, _wires: &mut Wires) {}

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    fn take_back(&mut self, _worker: Worker, _wires: &Wires) -> Option<TakenBack> {
        None
    }

    /// Has the loop tell when these workers pick something up, and no others.
    fn watch(&mut self, _wanted: Vec<Worker>, _wires: &Wires) {}

    /// Answers what a worker asked for.
    fn answer(
        &mut self,
        _worker: Worker,
        _request: &Request,
        _answer: io::Result<Granted>,
        _wires: &mut Wires,
    ) {
    }

    /// Whether a connection may wait for its owner, because of which it is kept from now on.
    fn may_wait(&mut self, _connection: &mut Connection, _owner: Worker) -> bool {
        true
    }

    /// A worker has so many connections open, and can give back no more.
    fn limit_returns(&mut self, _worker: Worker, _open: u32) {}

    /// How many descriptors are kept here until this worker has them.
    fn on_their_way(&self, _worker: Worker) -> usize {
        0
    }

    /// How many descriptors are kept here until their workers have them.
    fn all_on_their_way(&self) -> usize {
        0
    }

    /// How to go on when there were so many connections by now.
    fn pace(&mut self, _connections: u64, _wires: &Wires) -> Pacing {
        Pacing::default()
    }

    /// Workers that are started from now on find this.
    fn reconfigure(&mut self, _config: &Config) {}
}

/// What the core knows that a worker is told when it is started.
#[derive(Debug)]
pub(in crate::engine) struct Facts<'a> {
    /// The number that it mints into its ids.
    pub(in crate::engine) incarnation: Option<u16>,
    /// The secret under which ids are minted.
    pub(in crate::engine) mint: Option<&'a MintKey>,
    /// What identifies a client.
    pub(in crate::engine) keys: &'a KeyList,
    /// The ports that are listened on.
    pub(in crate::engine) ports: BTreeSet<u16>,
    /// How many slots there are.
    pub(in crate::engine) slots: u16,
}

/// One worker's turn to be heard.
#[derive(Debug)]
pub(in crate::engine) struct Turn {
    pub(super) worker: Worker,
    pub(super) which: Channels,
    /// How many of its descriptors may await closing.
    pub(super) most_unclosed: usize,
    /// When it really began.
    pub(super) began: Time,
    /// How much may still be read, in the unit of the handoff.
    pub(super) left: usize,
}

/// Which channels to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Channels {
    /// Those that were found readable, fairly.
    Readable,
    /// All, and everything that is in them by now.
    All,
}

/// Why a connection was not sent.
#[derive(Debug)]
pub(in crate::engine) enum NotSent {
    /// The kernel has no room for it.
    NoRoom,
    /// The worker has no server for it any more, or its channel has ended.
    NotServed,
    /// Nothing can be sent to this worker any more.
    Unusable(io::Error),
}

impl From<io::Error> for NotSent {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM) => Self::NoRoom,
            _ => Self::Unusable(error),
        }
    }
}

/// What was taken back from a worker that has stopped reading, in the order of its sending.
#[derive(Debug)]
pub(in crate::engine) struct TakenBack {
    pub(in crate::engine) messages: Vec<Unread>,
    /// How many messages are left there.
    pub(in crate::engine) left: usize,
    /// It has picked nothing up meanwhile, so that everybody can tell which messages these were.
    pub(in crate::engine) is_sure: bool,
}

/// A message that a worker did not pick up.
#[derive(Debug)]
pub(in crate::engine) enum Unread {
    Connection(Connection),
    /// [`Note::Drain`]
    Drain,
    /// A connection for which there was no descriptor after all, or what need not be said again.
    Nothing,
}

/// How to go on.
#[derive(Debug, Default)]
pub(in crate::engine) struct Pacing {
    /// So many times as many connections as usual may be on their way to a worker from now on.
    pub(in crate::engine) widen: Option<usize>,
    /// To rest for so long.
    pub(in crate::engine) rest: Option<Duration>,
}

/// A handoff in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) enum SavedHandoff {
    /// The handoff `channel`.
    Native(SavedNative),
    /// The handoff `node`.
    Node(Box<SavedNode>),
}

/// The handoff that is configured.
pub(super) fn new(now: Time, config: &Config) -> anyhow::Result<Box<dyn Handoff>> {
    Ok(match &config.handoff {
        Configured::Channel => Box::new(Native::new().context("cannot measure a channel")?),
        Configured::Node(node) => {
            let node = Node::new(now, node.clone(), config.process.account.clone());
            Box::new(node.context("cannot write the files of the preload anywhere")?)
        }
    })
}

/// The handoff that was written down.
pub(super) fn restore(
    now: Time,
    config: &Config,
    saved: SavedHandoff,
    shared: &mut Shared,
) -> anyhow::Result<Box<dyn Handoff>> {
    check(config, &saved)?;
    Ok(match (saved, &config.handoff) {
        (SavedHandoff::Native(saved), _) => Box::new(Native::restore(now, saved)?),
        (SavedHandoff::Node(saved), Configured::Node(node)) => {
            let account = config.process.account.clone();
            Box::new(Node::restore(now, node.clone(), account, *saved, shared)?)
        }
        (SavedHandoff::Node(_), Configured::Channel) => bail!(OTHER_HANDOFF),
    })
}

/// Whether the handoff that was written down is the one that is configured.
pub(in crate::engine) fn check(config: &Config, saved: &SavedHandoff) -> anyhow::Result<()> {
    match (&config.handoff, saved) {
        (Configured::Channel, SavedHandoff::Native(_))
        | (Configured::Node(_), SavedHandoff::Node(_)) => Ok(()),
        (Configured::Channel, _) | (Configured::Node(_), _) => bail!(OTHER_HANDOFF),
    }
}

/// What is known of a handoff before there is a worker.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Traits {
    /// How workers want their sockets.
    pub(in crate::engine) mode: Mode,
    /// Workers mint ids.
    pub(in crate::engine) mints: bool,
    /// Whether workers say which of their connections are finished, before they say something else of that.
    pub(in crate::engine) reports: Reports,
    /// Workers ask for what they listen on, and serve nothing else.
    pub(in crate::engine) asks_to_listen: bool,
    /// What a worker has to do to be ready, and where that is written.
    pub(in crate::engine) how_to_be_ready: &'static str,
}

/// What is known of the handoff that is configured.
pub(in crate::engine) fn traits(config: &Configured) -> Traits {
    match config {
        Configured::Channel => Native::TRAITS,
        Configured::Node(node) => Traits { mints: node.preload.is_some(), ..Node::TRAITS },
    }
}
