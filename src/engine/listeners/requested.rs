//! What servers of workers ask to listen on, opened once for all workers, in any handoff in which they ask.
//!
//! A listener stays open while its workers die and are replaced, so that clients wait instead of
//! being refused; `unused` closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::libc;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Listeners;
use super::opened::{Opened, Port, Ports, SavedPorts};
use super::request::{Ask, Granted, Opening, Request};
use super::served::Serving;
use crate::logic::Worker;
use crate::logic::capacity::PortLimits as Allowed;
use crate::logic::core::First;
use crate::logic::time::Time;
use crate::os::errors;
use crate::os::kept::{Keeper, Shared};
use crate::os::listen::{Asked, Listener, Owner, open_asked, open_udp};

/// Everything that servers have asked for, and who serves it.
#[derive(Debug, Default)]
pub(super) struct Requested {
    /// Workers serve nothing but what they ask for, and what the user named.
    is_needed: bool,
    pub(super) ports: Ports,
    pub(super) serving: BTreeMap<Worker, Serving>,
    /// When to look which ports nobody serves any more.
    pub(super) look_at: Option<Time>,
    /// Successors that serve nothing of what is served, and when that is too long.
    pub(super) elsewhere: BTreeMap<Worker, Time>,
    /// It was said that a listener leads to the first of several servers.
    is_guess_said: bool,
}

/// The same in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedRequested {
    is_needed: bool,
    ports: SavedPorts,
    serving: Vec<(Worker, Serving)>,
    look_at: Option<Time>,
    elsewhere: Vec<(Worker, Time)>,
    is_guess_said: bool,
}

impl Requested {
    pub(super) fn new(is_needed: bool, given: BTreeSet<u32>) -> Self {
        Self { is_needed, ports: Ports::new(given), ..Self::default() }
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedRequested {
        let serving = self.serving.iter();
        SavedRequested {
            is_needed: self.is_needed,
            ports: self.ports.save(keeper),
            serving: serving.map(|(worker, serving)| (*worker, serving.clone())).collect(),
            look_at: self.look_at,
            elsewhere: self.elsewhere.iter().map(|(worker, at)| (*worker, *at)).collect(),
            is_guess_said: self.is_guess_said,
        }
    }

    /// Goes on with what was written down.
    pub(super) fn restore(saved: SavedRequested, shared: &mut Shared) -> io::Result<Self> {
        Ok(Self {
            is_needed: saved.is_needed,
            ports: Ports::restore(saved.ports, shared)?,
            serving: saved.serving.into_iter().collect(),
            look_at: saved.look_at,
            elsewhere: saved.elsewhere.into_iter().collect(),
            is_guess_said: saved.is_guess_said,
        })
    }

    /// When something is due here.
    pub(super) fn due(&self) -> Option<Time> {
        self.elsewhere.values().copied().chain(self.look_at).min()
    }

    /// The user does not name a listener any more: whether it is the workers' own from now on.
    pub(super) fn disown(&mut self, listener: u32) -> bool {
        let theirs = self.ports.is_asked_for(listener);
        if theirs {
            self.ports.given.remove(&listener);
        }
        theirs
    }

    /// The user names more listeners from now on. Connections of those that are gone still lead to
    /// workers.
    pub(super) fn give(&mut self, given: BTreeSet<u32>) {
        self.ports.given.extend(given);
    }
}

impl Listeners {
    /// Whether a worker has to ask for what it serves.
    pub(super) fn workers_ask(&self) -> bool {
        self.requested.is_needed
    }

    /// The listener that a connection came to which a worker had, if that matters: open, or one that
    /// the user does not name any more.
    pub(in crate::engine) fn listener_of(&self, socket: &impl AsFd) -> Option<u32> {
        if !self.workers_ask() {
            return None;
        }
        let is_gone = |number: &&u32| self.get(**number).is_none();
        let gone = || self.requested.ports.given.iter().find(is_gone).copied();
        self.find(socket).or_else(gone)
    }

    /// Whether the user has named any.
    pub(in crate::engine) fn are_given(&self) -> bool {
        !self.requested.ports.given.is_empty()
    }

    /// How many are open for workers, or were.
    pub(in crate::engine) fn opened(&self) -> usize {
        self.requested.ports.len() + self.replaced.len()
    }

    /// Whether a server asks for one that lets nobody in any more, and would be in the way.
    pub(in crate::engine) fn has_retired_for(&self, request: &Request) -> bool {
        self.requested.ports.get(&request.name).is_none()
            && self.retired().any(|number| self.is_asked_for(number, request))
    }

    /// Opens what a server of a worker asks for, unless another worker's server did so before. An error is
    /// said.
    pub(in crate::engine) fn request(
        &mut self,
        worker: Worker,
        request: &Request,
        opening: &Opening<'_>,
    ) -> io::Result<Granted> {
        let is_new = self.requested.ports.get(&request.name).is_none();
        let opened = self.open(worker, request, opening).inspect_err(|error| {
            let (place, text) = (&request.place, errors::text(error));
            // The search is worth it only if the line is written.
            let hint = fmt::from_fn(|f| f.write_str(&self.hint(request, error, opening.allowed)));
            warn!(
                name: "listen_refused", worker = worker.slot, address = place, error = text,
                "{worker} cannot listen on {place}: {text}{hint}"
            );
        })?;
        let port = self.requested.ports.get(&request.name);
        let shared = port.and_then(|port| port.shared.clone());
        let (listeners, socket) = match opened {
            Opened::Listeners(listeners) => (listeners, None),
            Opened::Udp(socket) => (Vec::new(), Some(socket)),
        };
        let address = listeners.iter().find_map(|number| self.get(*number)?.address());
        Ok(Granted { listeners, address, socket, is_new, shared })
    }

    fn open(
        &mut self,
        worker: Worker,
        request: &Request,
        opening: &Opening<'_>,
    ) -> io::Result<Opened> {
        if self.serving(worker).servers.contains(&request.name) {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        if let Some(port) = self.requested.ports.get(&request.name) {
            let opened = port.opened.clone();
            self.put_in_place(worker, &opened, request, opening)?;
            self.say_if_hidden(request, opening);
            return Ok(opened);
        }
        self.may_open(worker, opening)?;
        let opened = match &request.ask {
            Ask::Udp { address, only_v6, reuse } => {
                let address = address.map_err(io::Error::from_raw_os_error)?;
                Opened::Udp(Rc::new(open_udp(address, *only_v6, *reuse)?))
            }
            Ask::Tcp { .. } | Ask::Unix(_) | Ask::Descriptor(_) => {
                Opened::Listeners(self.find_or_open(request, opening)?)
            }
        };
        self.say_if_hidden(request, opening);
        let port = Port { opened: opened.clone(), shared: request.shared.clone() };
        self.requested.ports.insert(request.name.clone(), port);
        Ok(opened)
    }

    /// What to do about an error. An address may be in use because workers have asked for the same port of
    /// another host: those of an app whose new version asks for this one.
    fn hint(&self, request: &Request, error: &io::Error, allowed: Allowed) -> String {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) if self.requested.ports.get(&request.name).is_none() => {
                let own = self.all().find(|listener| is_asked_for(listener, &request.ask));
                own.map_or_else(String::new, |own| {
                    format!(
                        " (workers listen on {own} already: to change the host, stop and start anew)"
                    )
                })
            }
            Some(libc::EMFILE) => {
                let Allowed { total: all, per_worker: of_one } = allowed;
                format!(
                    " (workers may have {all} ports open, one of them {of_one}: close some, or raise the \
                     limit on open files)"
                )
            }
            Some(libc::EAGAIN) => " (it asks for too many in too short a time)".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether something more may be opened for a worker: neither in number nor in time so much that others
    /// have to wait for it, or that no descriptor is left for them.
    fn may_open(&mut self, worker: Worker, opening: &Opening<'_>) -> io::Result<()> {
        let Allowed { total: all, per_worker: of_one } = opening.allowed;
        let open = self.opened();
        let serving = self.serving(worker);
        // A UDP socket is kept until it has arrived, also if it was closed meanwhile.
        if open >= all || serving.servers.len().max(opening.on_their_way) >= of_one {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let in_time = serving.opens.allow(opening.now).map(|_| ());
        in_time.ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// A Unix socket whose file was removed is listened on anew: apps remove the file before they
    /// listen, in case that it was left by an earlier run.
    fn put_in_place(
        &mut self,
        worker: Worker,
        opened: &Opened,
        request: &Request,
        opening: &Opening<'_>,
    ) -> io::Result<()> {
        let (Opened::Listeners(listeners), Ask::Unix(_)) = (opened, &request.ask) else {
            return Ok(());
        };
        let is_given = |number: &u32| self.requested.ports.given.contains(number);
        let own: Vec<_> = listeners.iter().copied().filter(|number| !is_given(number)).collect();
        for number in own {
            if self.get(number).is_some_and(|listener| !listener.is_in_place()) {
                self.may_open(worker, opening)?;
                let listener = open_listener(request, opening)?;
                self.replace(opening.registry, number, listener)?;
            }
        }
        Ok(())
    }

    /// The listeners for a server: those that the user named, if it asks for one of them.
    fn find_or_open(&mut self, request: &Request, opening: &Opening<'_>) -> io::Result<Vec<u32>> {
        let given = self.requested.ports.given.iter().copied();
        let listeners: Vec<_> =
            given.filter(|number| self.is_asked_for(*number, request)).collect();
        if !listeners.is_empty() {
            return Ok(listeners);
        }
        let listener = open_listener(request, opening)?;
        Ok(vec![self.add(opening.registry, listener)?])
    }

    /// Whether a server asks for the listener with this number.
    fn is_asked_for(&self, number: u32, request: &Request) -> bool {
        self.get(number).is_some_and(|listener| is_asked_for(listener, &request.ask))
    }

    /// Says that keys are hidden where a server speaks TLS.
    fn say_if_hidden(&self, request: &Request, opening: &Opening<'_>) {
        if request.is_tls && opening.needs_head {
            warn!(
                name: "keys_hidden", address = request.place,
                "workers use TLS on {}: keys other than ip cannot be seen there; use --by ip, or \
                 terminate TLS before sticky-run",
                request.place
            );
        }
    }

    /// An address of `--listen` that no server asks for leads to the first one, which may not be
    /// what the user wants.
    pub(super) fn warn_if_guessing(&mut self, worker: Worker) {
        let Requested { ports, serving, is_guess_said, .. } = &mut self.requested;
        let guesses = serving.get(&worker).is_some_and(|its| its.is_guessing(&ports.given));
        if guesses && !std::mem::replace(is_guess_said, true) {
            warn!(
                name: "listen_ambiguous",
                "workers have several servers, and none of them asks for the address of --listen: \
                 it leads to the first one that a worker opens"
            );
        }
    }
}

/// Opens what a server asks for.
fn open_listener(request: &Request, opening: &Opening<'_>) -> io::Result<Listener> {
    let asked = match &request.ask {
        Ask::Tcp { open, .. } => open.clone().map_err(io::Error::from_raw_os_error)?,
        Ask::Unix(path) => Asked::Unix(path.clone()),
        // The number of a descriptor says nothing here unless the user named it with --listen.
        Ask::Descriptor(_) | Ask::Udp { .. } => {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
    };
    let defer = request.first != First::Server && opening.defers;
    // As if the worker itself had made it.
    let process = opening.process;
    let mode = process.umask.map(|mask| 0o777 & !mask);
    let owner = Owner { account: process.account.clone(), is_helped: false, mode };
    let listener = open_asked(&asked, defer, request.backlog, opening.mode, &owner)?;
    let (read, write) = request.open_to;
    listener.open_to_all(read, write)?;
    Ok(listener)
}

/// Whether a server asks for a listener that is there.
fn is_asked_for(listener: &Listener, ask: &Ask) -> bool {
    match ask {
        Ask::Descriptor(number) => number.is_some() && listener.given_as() == *number,
        Ask::Unix(path) => listener.path().as_ref() == Some(path),
        Ask::Tcp { port, ip, .. } => {
            let is_same =
                |own: SocketAddr| *port != 0 && own.port() == *port && overlaps(own.ip(), *ip);
            listener.address().is_some_and(is_same)
        }
        Ask::Udp { .. } => false,
    }
}

/// Whether a given address covers the one asked for, or the other way round; `None` is any.
fn overlaps(given: IpAddr, asked: Option<IpAddr>) -> bool {
    asked.is_none_or(|asked| given == asked || given.is_unspecified() || asked.is_unspecified())
}
