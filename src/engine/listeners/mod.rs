//! The listeners: which there are, where connections to them come, and which have something.

mod accept;
mod elsewhere;
mod opened;
mod relisten;
mod request;
mod requested;
mod served;
mod unused;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use self::accept::Replaced;
pub(super) use self::accept::{Arrived, Round};
pub(super) use self::request::{Ask, Granted, Opening, Request};
use self::requested::{Requested, SavedRequested};
pub(super) use self::served::Served;
use crate::engine::tokens::Subject;
use crate::logic::config::Listen;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::kept::{Keeper, Kept, Shared};
use crate::os::listen::{About, ListenError, Listener, Place, places_of};

/// From letting nobody new in to the close: for handshakes that have begun, which take as long as
/// a packet to the client and one back.
const HANDSHAKES: Duration = Duration::from_millis(20);

/// The listeners and whether they may accept.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listeners {
    /// By their numbers, none of which is used twice.
    listeners: BTreeMap<u32, Entry>,
    next: u32,
    /// Those of which the kernel said that there is something, and not yet that there is no more.
    ready: BTreeSet<u32>,
    /// Where each of them is.
    places: BTreeSet<(Place, u32)>,
    /// No accept before this time: the last one failed.
    resting_until: Option<Time>,
    /// Those that another one has replaced. Nobody finds them any more, and whoever did is still to be
    /// accepted.
    replaced: Vec<Replaced>,
    /// Nobody new is let in, and this is when to close.
    closing_at: Option<Time>,
    /// When to close those that are retired.
    retired_until: Option<Time>,
    no_room: Throttle,
    requested: Requested,
}

#[derive(Debug)]
struct Entry {
    listener: Listener,
    place: Option<Place>,
    /// Nobody new is let in, since it is not asked for any more.
    retired: bool,
}

/// The listeners in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedListeners {
    listeners: Vec<SavedEntry>,
    next: u32,
    requested: SavedRequested,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedEntry {
    number: u32,
    socket: Kept,
    about: About,
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
    fn given(&self) -> BTreeSet<u32> {
        let given = |entry: &Entry| entry.listener.about().asked().is_some();
        let all = self.listeners.iter().filter(|(_, entry)| given(entry));
        all.map(|(number, _)| *number).collect()
    }

    /// These, which the user asked for. Workers may ask for more, and then serve nothing else, if
    /// `workers_ask`.
    pub(in crate::engine) fn register(
        registry: &Registry,
        listeners: Vec<Listener>,
        workers_ask: bool,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for listener in listeners {
            let name = listener.to_string();
            all.add(registry, listener)
                .with_context(|| format!("cannot wait for connections on {name}"))?;
        }
        all.requested = Requested::new(workers_ask, all.given());
        Ok(all)
    }

    /// Accepts from a listener too, and returns its number.
    fn add(&mut self, registry: &Registry, listener: Listener) -> io::Result<u32> {
        let number = self.next;
        register(registry, number, &listener)?;
        info!(name: "listening", address = listener.bound_to(), "listening on {listener}");
        self.next += 1;
        self.enter(number, listener);
        Ok(number)
    }

    fn enter(&mut self, number: u32, listener: Listener) {
        let place = listener.place();
        self.places.extend(place.clone().map(|place| (place, number)));
        self.ready.insert(number);
        self.listeners.insert(number, Entry { listener, place, retired: false });
    }

    /// Forgets a listener, and returns it.
    fn remove(&mut self, number: u32) -> Option<Listener> {
        let Entry { listener, place, .. } = self.listeners.remove(&number)?;
        self.ready.remove(&number);
        if let Some(place) = place {
            self.places.remove(&(place, number));
        }
        self.replaced.retain(|replaced| !replaced.is_of(number));
        Some(listener)
    }

    /// Accepts from another listener under a number that is in use, and last from the old one.
    fn replace(&mut self, registry: &Registry, number: u32, listener: Listener) -> io::Result<()> {
        let Some(entry) = self.listeners.get_mut(&number) else { return Ok(()) };
        register(registry, number, &listener)?;
        info!(name: "listening", address = listener.bound_to(), "listening on {listener}");
        let old = mem::replace(&mut entry.listener, listener);
        self.ready.insert(number);
        let deregistered = registry.deregister(&mut SourceFd(&old.as_raw_fd()));
        self.replaced.push(Replaced::new(number, old));
        deregistered
    }

    /// Writes them down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedListeners {
        let save = |(number, entry): (&u32, &Entry)| SavedEntry {
            number: *number,
            socket: keeper.keep(&entry.listener),
            about: entry.listener.about().clone(),
        };
        SavedListeners {
            listeners: self.listeners.iter().map(save).collect(),
            next: self.next,
            requested: self.requested.save(keeper),
        }
    }

    /// Goes on with those that were written down.
    pub(in crate::engine) fn restore(
        registry: &Registry,
        saved: SavedListeners,
        shared: &mut Shared,
    ) -> io::Result<Self> {
        let requested = Requested::restore(saved.requested, shared)?;
        let mut all = Self { next: saved.next, requested, ..Self::default() };
        for SavedEntry { number, socket, about } in saved.listeners {
            let listener = Listener::restore(socket.take_over()?, about);
            register(registry, number, &listener)?;
            all.enter(number, listener);
        }
        Ok(all)
    }

    /// The open listener with this number.
    fn get(&self, number: u32) -> Option<&Listener> {
        Some(&self.listeners.get(&number)?.listener)
    }

    /// The number of the listener that a connection came to.
    fn find(&self, socket: &impl AsFd) -> Option<u32> {
        places_of(socket).into_iter().find_map(|place| {
            let range = (place.clone(), 0)..=(place, u32::MAX);
            self.places.range(range).next().map(|(_, number)| *number)
        })
    }

    pub(in crate::engine) fn became_readable(&mut self, number: u32) {
        if self.listeners.contains_key(&number) {
            self.ready.insert(number);
        }
    }

    /// Lets nobody new in and is to be closed a little later, so that nobody whom the kernel has let
    /// in is reset.
    pub(in crate::engine) fn close_soon(&mut self, now: Time) {
        self.closing_at = Some(now + HANDSHAKES);
        for entry in self.listeners.values().filter(|entry| !entry.retired) {
            if let Err(error) = entry.listener.let_nobody_in() {
                warn!(
                    name: "listener_shut_failed", address = entry.listener.bound_to(),
                    "cannot shut {} down before closing it, clients may be reset: {error}",
                    entry.listener
                );
            }
        }
    }

    /// Listens nowhere any more.
    pub(in crate::engine) fn close_all(&mut self, registry: &Registry) {
        self.closing_at = None;
        for number in self.numbers() {
            self.drop(registry, number);
        }
    }

    /// Closes a listener while all else goes on, and says so.
    pub(in crate::engine) fn close(&mut self, registry: &Registry, number: u32) {
        if let Some(listener) = self.get(number) {
            info!(
                name: "listener_closed", address = listener.bound_to(),
                "stopped listening on {listener}"
            );
        }
        self.drop(registry, number);
    }

    fn drop(&mut self, registry: &Registry, number: u32) {
        let Some(listener) = self.remove(number) else { return };
        // The descriptor may be inherited and so be open elsewhere: closing is not enough.
        if let Err(error) = registry.deregister(&mut SourceFd(&listener.as_raw_fd())) {
            warn!(
                name: "listener_watch_failed", address = listener.bound_to(),
                "cannot stop watching {listener}: {error}"
            );
        }
    }

    pub(in crate::engine) fn numbers(&self) -> Vec<u32> {
        self.listeners.keys().copied().collect()
    }

    /// Whether accepting can go on at once, but for the room in the supervisor.
    pub(in crate::engine) fn has_more(&self) -> bool {
        self.resting_until.is_none() && !self.ready.is_empty()
    }

    /// When to [`close_all`](Self::close_all).
    pub(in crate::engine) fn closing_at(&self) -> Option<Time> {
        self.closing_at
    }

    /// When something else is due here.
    pub(in crate::engine) fn due(&self) -> Option<Time> {
        let due = [self.closing_at, self.resting_until, self.retired_until, self.requested.due()];
        due.into_iter().flatten().min()
    }
}

fn register(registry: &Registry, number: u32, listener: &Listener) -> io::Result<()> {
    let token = Subject::Listener(number).into();
    registry.register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)
}
