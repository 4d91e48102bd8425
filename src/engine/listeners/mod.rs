//! The listeners: which there are, where connections to them come, and which have something.

mod accept;
mod elsewhere;
pub(super) mod opened;
mod query;
mod relisten;
mod requested;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::engine::tokens::Subject;
use crate::logic::config::Listen;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::kept::{Keeper, Kept};
use crate::os::listen::{About, ListenError, Listener, Place, places_of};

/// The listeners and whether they may accept.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listeners {
    /// By their numbers, none of which is used twice.
    pub(in crate::engine) listeners: BTreeMap<u32, Entry>,
    next: u32,
    /// Those of which the kernel said that there is something, and not yet that there is no more.
    ready: BTreeSet<u32>,
    /// Where each of them is.
    places: BTreeSet<(Place, u32)>,
    /// No accept before this time: the last one failed.
    pub(in crate::engine) resting_until: Option<Time>,
    /// Those that another one has replaced. Nobody finds them any more, and whoever did is still to be
    /// accepted.
    pub(in crate::engine) replaced: Vec<(u32, Listener)>,
    /// Nobody new is let in, and this is when to close.
    pub(in crate::engine) closing_at: Option<Time>,
    /// When to close those that are retired.
    pub(in crate::engine) retired_until: Option<Time>,
    pub(in crate::engine) no_room: Throttle,
}

#[derive(Debug)]
pub(in crate::engine) struct Entry {
    pub(in crate::engine) listener: Listener,
    place: Option<Place>,
    first: First,
    /// Nobody new is let in, since it is not asked for any more.
    pub(in crate::engine) retired: bool,
}

/// Who says something first on the connections of a listener.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(in crate::engine) enum First {
    /// Clients, the head of a request.
    Client,
    /// Perhaps the server.
    Server,
    /// Clients probably, as far as is known.
    Unknown,
}

/// The listeners in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedListeners {
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

impl SavedListeners {
    /// What the user asked for.
    pub(in crate::engine) fn asked(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.iter().filter_map(|entry| entry.about.asked())
    }

    /// An error that says so if one of them is its cause.
    pub(in crate::engine) fn explain(&self, error: ListenError) -> ListenError {
        error.looked_for_among(self.listeners.iter().map(|entry| &entry.about))
    }
}

impl Listeners {
    /// What the user asked for.
    pub(in crate::engine) fn asked(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.values().filter_map(|entry| entry.listener.about().asked())
    }

    /// All that are open.
    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = &Listener> + Clone {
        self.listeners.values().map(|entry| &entry.listener)
    }

    /// The numbers of those that the user asked for.
    pub(in crate::engine) fn given(&self) -> BTreeSet<u32> {
        let given = |entry: &Entry| entry.listener.about().asked().is_some();
        let all = self.listeners.iter().filter(|(_, entry)| given(entry));
        all.map(|(number, _)| *number).collect()
    }

    pub(in crate::engine) fn register(
        registry: &Registry,
        listeners: Vec<Listener>,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for listener in listeners {
            let name = listener.to_string();
            all.add(registry, listener)
                .with_context(|| format!("cannot wait for connections on {name}"))?;
        }
        Ok(all)
    }

    /// Accepts from a listener too, and returns its number.
    pub(in crate::engine) fn add(
        &mut self,
        registry: &Registry,
        listener: Listener,
    ) -> io::Result<u32> {
        let number = self.next;
        register(registry, number, &listener)?;
        info!(name: "listening", address = listener.bound_to(), "listening on {listener}");
        self.next += 1;
        self.enter(number, listener, First::Client);
        Ok(number)
    }

    fn enter(&mut self, number: u32, listener: Listener, first: First) {
        let place = listener.place();
        self.places.extend(place.clone().map(|place| (place, number)));
        self.ready.insert(number);
        self.listeners.insert(number, Entry { listener, place, first, retired: false });
    }

    /// Forgets a listener, and returns it.
    pub(in crate::engine) fn remove(&mut self, number: u32) -> Option<Listener> {
        let Entry { listener, place, .. } = self.listeners.remove(&number)?;
        self.ready.remove(&number);
        if let Some(place) = place {
            self.places.remove(&(place, number));
        }
        self.replaced.retain(|(replaced, _)| *replaced != number);
        Some(listener)
    }

    /// Accepts from another listener under a number that is in use, and last from the old one.
    pub(in crate::engine) fn replace(
        &mut self,
        registry: &Registry,
        number: u32,
        listener: Listener,
    ) -> io::Result<()> {
        let Some(entry) = self.listeners.get_mut(&number) else { return Ok(()) };
        register(registry, number, &listener)?;
        info!(name: "listening", address = listener.bound_to(), "listening on {listener}");
        let old = mem::replace(&mut entry.listener, listener);
        self.ready.insert(number);
        let deregistered = registry.deregister(&mut SourceFd(&old.as_raw_fd()));
        self.replaced.push((number, old));
        deregistered
    }

    /// Writes them down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedListeners {
        let save = |(number, entry): (&u32, &Entry)| SavedEntry {
            number: *number,
            socket: keeper.keep(&entry.listener),
            about: entry.listener.about().clone(),
            first: entry.first,
        };
        SavedListeners { listeners: self.listeners.iter().map(save).collect(), next: self.next }
    }

    /// Goes on with those that were written down.
    pub(in crate::engine) fn restore(
        registry: &Registry,
        saved: SavedListeners,
    ) -> io::Result<Self> {
        let mut all = Self { next: saved.next, ..Self::default() };
        for SavedEntry { number, socket, about, first } in saved.listeners {
            let listener = Listener::restore(socket.take_over()?, about);
            register(registry, number, &listener)?;
            all.enter(number, listener, first);
        }
        Ok(all)
    }

    /// The open listener with this number.
    pub(in crate::engine) fn get(&self, number: u32) -> Option<&Listener> {
        Some(&self.listeners.get(&number)?.listener)
    }

    /// The number of the listener that a connection came to.
    pub(in crate::engine) fn find(&self, socket: &impl AsFd) -> Option<u32> {
        places_of(socket).into_iter().find_map(|place| {
            let range = (place.clone(), 0)..=(place, u32::MAX);
            self.places.range(range).next().map(|(_, number)| *number)
        })
    }

    /// Who says something first on the connections of this listener.
    pub(in crate::engine) fn expect(&mut self, number: u32, first: First) {
        if let Some(entry) = self.listeners.get_mut(&number) {
            entry.first = first;
        }
    }

    /// Whether the head of a request may be expected from a connection of this listener.
    pub(in crate::engine) fn speaks_http(&self, number: Option<u32>) -> bool {
        self.first(number) != First::Server
    }

    /// Whether the server may be the one to speak first on a connection of this listener.
    pub(in crate::engine) fn may_speak_first(&self, number: Option<u32>) -> bool {
        self.first(number) != First::Client
    }

    fn first(&self, number: Option<u32>) -> First {
        let entry = number.and_then(|number| self.listeners.get(&number));
        entry.map_or(First::Client, |entry| entry.first)
    }

    pub(in crate::engine) fn became_readable(&mut self, number: u32) {
        if self.listeners.contains_key(&number) {
            self.ready.insert(number);
        }
    }

    /// Those that have something.
    pub(in crate::engine) fn ready(&self) -> Vec<u32> {
        self.ready.iter().copied().collect()
    }

    /// The listener with this number, if it has something.
    pub(in crate::engine) fn get_ready(&self, number: u32) -> Option<&Listener> {
        self.get(number).filter(|_| self.ready.contains(&number))
    }

    /// A listener has nothing more.
    pub(in crate::engine) fn has_nothing(&mut self, number: u32) {
        self.ready.remove(&number);
    }

    /// Lets nobody new in by any of them.
    pub(in crate::engine) fn let_nobody_in(&self) {
        for entry in self.listeners.values().filter(|entry| !entry.retired) {
            if let Err(error) = entry.listener.let_nobody_in() {
                warn!(
                    name: "listener_shut_failed", address = entry.listener.bound_to(),
                    "clients may be reset while {} closes: {error}",
                    entry.listener
                );
            }
        }
    }

    pub(in crate::engine) fn numbers(&self) -> Vec<u32> {
        self.listeners.keys().copied().collect()
    }

    /// Whether accepting can go on at once, but for the room in the supervisor.
    pub(in crate::engine) fn has_more(&self) -> bool {
        self.resting_until.is_none() && !self.ready.is_empty()
    }

    /// How many were replaced and are still to be accepted from.
    pub(in crate::engine) fn replaced(&self) -> usize {
        self.replaced.len()
    }

    pub(in crate::engine) fn are_closed(&self) -> bool {
        self.listeners.is_empty()
    }

    /// When to call [`Engine::close_listeners`].
    pub(in crate::engine) fn closing_at(&self) -> Option<Time> {
        self.closing_at
    }

    pub(in crate::engine) fn resting_until(&self) -> Option<Time> {
        self.resting_until
    }
}

fn register(registry: &Registry, number: u32, listener: &Listener) -> io::Result<()> {
    let token = Subject::Listener(number).into();
    registry.register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)
}
