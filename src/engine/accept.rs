//! Accepting: from the listeners, for as long as there is room.

mod relisten;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::tokens::Subject;
use super::upgrade::{Keeper, Kept};
use super::{Connection, Engine};
use crate::logic::config::Listen;
use crate::logic::route::Door;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::listen::{About, Accepted, ListenError, Listener};

/// Connections accepted from one listener before others get their turn.
const BATCH: usize = 64;
/// The rest after the system had no descriptor or no memory for a connection, or a listener failed.
const REST: Duration = Duration::from_millis(100);
/// Connections accepted from one listener before it is closed: more than any backlog holds.
const WHOLE_BACKLOG: usize = 1 << 17;
/// From letting nobody new in to the close: for handshakes that have begun, which take as long as
/// a packet to the client and one back.
const HANDSHAKES: Duration = Duration::from_millis(20);
/// Errors that were pending on a new connection and say nothing about the listener (`accept(2)`).
const OF_ONE_CONNECTION: [i32; 10] = [
    libc::ECONNABORTED,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EINTR,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPROTO,
];

/// The listeners and whether they may accept.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// By their numbers, none of which is used twice.
    listeners: BTreeMap<u32, Entry>,
    next: u32,
    /// No accept before this time: the last one failed.
    resting_until: Option<Time>,
    /// Those that another one has replaced. Nobody finds them any more, and whoever did is still to be
    /// accepted.
    replaced: Vec<(u32, Listener)>,
    /// Nobody new is let in, and this is when to close.
    closing_at: Option<Time>,
    /// When to close those that are retired.
    retired_until: Option<Time>,
    no_room: Throttle,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    /// The kernel said that there is something, and not yet that there is no more.
    readable: bool,
    first: First,
    /// Nobody new is let in, since it is not asked for any more.
    retired: bool,
}

/// Who says something first on the connections of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum First {
    /// Clients, the head of a request.
    Client,
    /// Perhaps the server.
    Server,
    /// Clients probably, as far as is known.
    Unknown,
}

/// The listeners in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedListeners {
    listeners: Vec<SavedEntry>,
    next: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedEntry {
    number: u32,
    socket: Kept,
    about: About,
    first: First,
}

/// What became of one attempt to accept.
enum Attempt {
    Accepted(Accepted),
    /// This connection failed before it was accepted; the next one may be there.
    Aborted,
    Empty,
    Failed(io::Error),
}

impl SavedListeners {
    /// What the user asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.iter().filter_map(|entry| entry.about.asked())
    }

    /// An error that says so if one of them is its cause.
    pub(super) fn explain(&self, error: ListenError) -> ListenError {
        error.looked_for_among(self.listeners.iter().map(|entry| &entry.about))
    }
}

impl Entry {
    fn new(listener: Listener, first: First) -> Self {
        Self { listener, readable: true, first, retired: false }
    }
}

impl Listeners {
    /// What the user asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.values().filter_map(|entry| entry.listener.about().asked())
    }

    /// All that are open.
    pub(super) fn all(&self) -> impl Iterator<Item = &Listener> + Clone {
        self.listeners.values().map(|entry| &entry.listener)
    }

    /// The numbers of those that the user asked for.
    pub(super) fn given(&self) -> BTreeSet<u32> {
        let given = |entry: &Entry| entry.listener.about().asked().is_some();
        let all = self.listeners.iter().filter(|(_, entry)| given(entry));
        all.map(|(number, _)| *number).collect()
    }

    pub(super) fn register(registry: &Registry, listeners: Vec<Listener>) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for listener in listeners {
            let name = listener.to_string();
            all.add(registry, listener)
                .with_context(|| format!("cannot wait for connections on {name}"))?;
        }
        Ok(all)
    }

    /// Accepts from a listener too, and returns its number.
    pub(super) fn add(&mut self, registry: &Registry, listener: Listener) -> io::Result<u32> {
        let number = self.next;
        register(registry, number, &listener)?;
        info!("listening on {listener}");
        self.next += 1;
        self.listeners.insert(number, Entry::new(listener, First::Client));
        Ok(number)
    }

    /// Accepts from another listener under a number that is in use, and last from the old one.
    pub(super) fn replace(
        &mut self,
        registry: &Registry,
        number: u32,
        listener: Listener,
    ) -> io::Result<()> {
        let Some(entry) = self.listeners.get_mut(&number) else { return Ok(()) };
        register(registry, number, &listener)?;
        info!("listening on {listener}");
        let old = mem::replace(&mut entry.listener, listener);
        entry.readable = true;
        let deregistered = registry.deregister(&mut SourceFd(&old.as_raw_fd()));
        self.replaced.push((number, old));
        deregistered
    }

    /// Writes them down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedListeners {
        let save = |(number, entry): (&u32, &Entry)| SavedEntry {
            number: *number,
            socket: keeper.keep(&entry.listener),
            about: entry.listener.about().clone(),
            first: entry.first,
        };
        SavedListeners { listeners: self.listeners.iter().map(save).collect(), next: self.next }
    }

    /// Goes on with those that were written down.
    pub(super) fn restore(registry: &Registry, saved: SavedListeners) -> io::Result<Self> {
        let mut all = Self { next: saved.next, ..Self::default() };
        for SavedEntry { number, socket, about, first } in saved.listeners {
            let listener = Listener::restore(socket.take_over()?, about);
            register(registry, number, &listener)?;
            all.listeners.insert(number, Entry::new(listener, first));
        }
        Ok(all)
    }

    /// The open listener with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Listener> {
        Some(&self.listeners.get(&number)?.listener)
    }

    /// The number of the listener that a connection came to.
    pub(super) fn find(&self, socket: &impl AsFd) -> Option<u32> {
        let mut all = self.listeners.iter();
        all.find(|(_, entry)| entry.listener.is_origin_of(socket)).map(|(number, _)| *number)
    }

    /// Who says something first on the connections of this listener.
    pub(super) fn expect(&mut self, number: u32, first: First) {
        if let Some(entry) = self.listeners.get_mut(&number) {
            entry.first = first;
        }
    }

    /// Whether the head of a request may be expected from a connection of this listener.
    pub(super) fn speaks_http(&self, number: Option<u32>) -> bool {
        self.first(number) != First::Server
    }

    /// Whether the server may be the one to speak first on a connection of this listener.
    pub(super) fn may_speak_first(&self, number: Option<u32>) -> bool {
        self.first(number) != First::Client
    }

    fn first(&self, number: Option<u32>) -> First {
        let entry = number.and_then(|number| self.listeners.get(&number));
        entry.map_or(First::Client, |entry| entry.first)
    }

    pub(super) fn became_readable(&mut self, number: u32) {
        if let Some(entry) = self.listeners.get_mut(&number) {
            entry.readable = true;
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.listeners.keys().copied().collect()
    }

    /// Whether accepting can go on at once, but for the room in the supervisor.
    pub(super) fn has_more(&self) -> bool {
        self.resting_until.is_none() && self.listeners.values().any(|entry| entry.readable)
    }

    pub(super) fn are_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    /// When to call [`Engine::close_listeners`].
    pub(super) fn closing_at(&self) -> Option<Time> {
        self.closing_at
    }

    pub(super) fn resting_until(&self) -> Option<Time> {
        self.resting_until
    }
}

impl Engine {
    /// Accepts from every listener that has something.
    pub(super) fn accept_all(&mut self) {
        if self.listeners.resting_until.is_some_and(|until| self.now < until) {
            return;
        }
        self.listeners.resting_until = None;
        for number in self.listeners.numbers() {
            self.accept_some(number, BATCH);
        }
    }

    /// Accepts what has come to listeners before they were replaced, as soon as there is room for it.
    pub(super) fn accept_from_replaced(&mut self) {
        if self.listeners.resting_until.is_some_and(|until| self.now < until) {
            return;
        }
        for (number, listener) in mem::take(&mut self.listeners.replaced) {
            if !self.accept_rest(number, &listener) {
                self.listeners.replaced.push((number, listener));
            }
        }
    }

    /// Accepts everything that has come to a listener; returns whether that was possible.
    fn accept_rest(&mut self, number: u32, listener: &Listener) -> bool {
        for _ in 0..WHOLE_BACKLOG {
            if self.is_full() {
                return false;
            }
            match attempt(listener) {
                Attempt::Accepted(accepted) => {
                    self.arrive(number, listener.is_deferred(), accepted);
                }
                Attempt::Aborted => {}
                Attempt::Empty => break,
                Attempt::Failed(error) => {
                    self.rest(&error);
                    return false;
                }
            }
        }
        true
    }

    /// Lets nobody new in and closes a little later, so that nobody whom the kernel has let in is
    /// reset.
    pub(super) fn close_listeners_soon(&mut self) {
        self.listeners.closing_at = Some(self.now + HANDSHAKES);
        for entry in self.listeners.listeners.values().filter(|entry| !entry.retired) {
            if let Err(error) = entry.listener.let_nobody_in() {
                warn!("clients may be reset while {} closes: {error}", entry.listener);
            }
        }
    }

    /// Accepts what the kernel has already completed, as far as there is room for it, then listens
    /// no more.
    pub(super) fn close_listeners(&mut self) {
        self.listeners.closing_at = None;
        for number in self.listeners.numbers() {
            self.accept_backlog(number);
        }
        for number in self.listeners.numbers() {
            self.drop_listener(number);
        }
    }

    /// Accepts what the kernel has already completed, as far as there is room for it.
    pub(super) fn accept_backlog(&mut self, number: u32) {
        // Whether or not the loop has said so yet.
        self.listeners.became_readable(number);
        self.accept_some(number, WHOLE_BACKLOG);
    }

    /// Listens no more with this number. Nobody waits for what it leads to any more.
    pub(super) fn close_listener(&mut self, number: u32) {
        self.listen_no_more(number);
        for conn in self.router.close(Door(number)) {
            self.waiting.remove(&conn);
        }
        for conn in self.pending.of_listener(number) {
            self.close_pending(conn);
        }
    }

    /// Closes a listener while all else goes on, and says so.
    fn listen_no_more(&mut self, number: u32) {
        if let Some(listener) = self.listeners.get(number) {
            info!("listening on {listener} no more");
        }
        self.drop_listener(number);
    }

    fn drop_listener(&mut self, number: u32) {
        self.listeners.replaced.retain(|(replaced, _)| *replaced != number);
        let Some(Entry { listener, .. }) = self.listeners.listeners.remove(&number) else { return };
        // The descriptor may be inherited and so be open elsewhere: closing is not enough.
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd())) {
            warn!("cannot stop waiting on {listener}: {error}");
        }
    }

    fn accept_some(&mut self, number: u32, most: usize) {
        for _ in 0..most {
            if self.is_full() {
                return;
            }
            let Some(entry) = self.listeners.listeners.get_mut(&number) else { return };
            if !entry.readable {
                return;
            }
            let deferred = entry.listener.is_deferred();
            match attempt(&entry.listener) {
                Attempt::Accepted(accepted) => self.arrive(number, deferred, accepted),
                Attempt::Aborted => {}
                Attempt::Empty => entry.readable = false,
                Attempt::Failed(error) => {
                    self.rest(&error);
                    return;
                }
            }
        }
    }

    fn arrive(&mut self, listener: u32, deferred: bool, accepted: Accepted) {
        let Accepted { socket, client } = accepted;
        let prefaced = self.origins.is_prefaced(client);
        let listener = Some(listener);
        let connection = Connection { prefaced, listener, ..Connection::new(socket, client) };
        self.route(connection, None, deferred);
    }

    fn rest(&mut self, error: &io::Error) {
        let listeners = &mut self.listeners;
        listeners.resting_until = Some(self.now + REST);
        if let Some(before) = listeners.no_room.say(self.now) {
            let full = error.raw_os_error() == Some(libc::EMFILE);
            let hint = if full { "raise the limit on open files; " } else { "" };
            warn!(
                "cannot accept: {error}; clients wait in the backlog, trying again every {} ms \
                 ({hint}{before} earlier times not shown)",
                REST.as_millis()
            );
        }
    }
}

fn register(registry: &Registry, number: u32, listener: &Listener) -> io::Result<()> {
    let token = Subject::Listener(number).into();
    registry.register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)
}

fn attempt(listener: &Listener) -> Attempt {
    match listener.accept() {
        Ok(accepted) => Attempt::Accepted(accepted),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Empty,
        Err(error) => match error.raw_os_error() {
            Some(errno) if OF_ONE_CONNECTION.contains(&errno) => Attempt::Aborted,
            _ => Attempt::Failed(error),
        },
    }
}
