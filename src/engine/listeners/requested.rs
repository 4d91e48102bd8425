//! Ports: what servers ask to listen on, opened once for all workers (`cluster`'s `queryServer`).
//!
//! A listener stays open while its workers die and are replaced, so that clients wait instead of
//! being refused; `unused` closes it.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::libc;
use tracing::{debug, warn};

use super::opened::{Opened, Port};
use super::query::{
    ONLY_V6, REUSE, address, errno, has, name, overlaps, path, place, sockname, speaks_http,
};
use crate::engine::Engine;
use crate::engine::links::node::{Parcel, SHARED, SOCKET};
use crate::engine::listeners::First;
use crate::logic::Worker;
use crate::logic::room::Ports as Allowed;
use crate::logic::route::ListenerId;
use crate::os::errors;
use crate::os::listen::{Asked, Listener, Mode, Owner, open_asked, open_udp};
use crate::protocol::node::{AddressType, Query, ServerKind, ToNode};

/// What Node asks for when the app does not say how many connections may wait in the kernel.
const BACKLOG: i32 = 511;

impl Engine {
    /// The user does not name a listener any more: whether it is the workers' own from now on.
    pub(in crate::engine) fn leave_to_workers(&mut self, listener: u32) -> bool {
        let Some(node) = &mut self.node else { return false };
        let theirs = node.ports.is_asked_for(listener);
        if theirs {
            node.ports.given.remove(&listener);
        }
        theirs
    }

    /// The listener that a connection came to which a worker had: open, or one that the user does not
    /// name any more.
    pub(in crate::engine) fn listener_of(&self, socket: &impl AsFd) -> Option<u32> {
        let is_gone = |number: &&u32| self.listeners.get(**number).is_none();
        let gone = || self.node().ports.given().iter().find(is_gone).copied();
        self.listeners.find(socket).or_else(gone)
    }

    /// The user names more listeners from now on. Connections of those that are gone still lead to
    /// workers.
    pub(in crate::engine) fn give_listeners(&mut self) {
        let given = self.listeners.given();
        let Some(node) = &mut self.node else { return };
        node.ports.given.extend(given);
        for worker in self.workers.live() {
            self.tell_router_listeners(worker);
        }
    }

    /// A server of a worker wants to listen. Nothing is opened any more for a worker that is to end, by a stop
    /// or by itself. It gets no answer, as from Node's own primary: an error would end most apps at
    /// once, and their connections with them.
    pub(in crate::engine) fn answer_query(&mut self, worker: Worker, query: Query) {
        if self.fleet.is_stopping() || self.fleet.is_outgoing(worker) {
            return debug!(
                name: "listen_ignored", worker = worker.slot,
                "{worker} is to end: it cannot listen on {} any more",
                place(&query)
            );
        }
        let key = name(&query);
        let Some(link) = self.node_link(worker) else { return };
        let is_serving = link.primary.is_serving(&key);
        let cost = if self.node().ports.get(&key).is_some() { SHARED } else { SOCKET };
        let opened = if is_serving {
            Err(io::Error::from_raw_os_error(libc::EADDRINUSE))
        } else {
            self.open_port(worker, &key, &query)
        };
        match opened {
            Ok(opened) => self.grant(worker, &key, &query, &opened, cost),
            Err(error) => {
                let (place, text) = (place(&query), errors::text(&error));
                // The search is worth it only if the line is written.
                let hint = fmt::from_fn(|f| f.write_str(&self.hint(&key, &query, &error)));
                warn!(
                    name: "listen_refused", worker = worker.slot, address = place, error = text,
                    "{worker} cannot listen on {place}: {text}{hint}"
                );
                self.refuse(worker, &key, &query, errno(&query, &error));
            }
        }
    }

    /// What to do about an error. An address may be in use because workers have asked for the same port of
    /// another host: those of an app whose new version asks for this one.
    fn hint(&self, key: &str, query: &Query, error: &io::Error) -> String {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) if self.node().ports.get(key).is_none() => {
                let own = self.listeners.all().find(|listener| is_asked_for(listener, query));
                own.map_or_else(String::new, |own| {
                    format!(
                        " (workers listen on {own} already: to change the host, stop and start anew)"
                    )
                })
            }
            Some(libc::EMFILE) => {
                let Allowed { all, of_one } = self.room.ports();
                format!(
                    " (workers may have {all} ports open, one of them {of_one}: close some, or raise the \
                     limit on open files)"
                )
            }
            Some(libc::EAGAIN) => " (it asks for too many in too short a time)".to_owned(),
            _ => String::new(),
        }
    }

    /// Tells the router which listeners a ready worker serves, as far as that has changed.
    pub(in crate::engine) fn tell_router_listeners(&mut self, worker: Worker) {
        if !self.fleet.is_ready(worker) {
            return;
        }
        let given = self.node().ports.given().clone();
        let Some(link) = self.node_link(worker) else { return };
        let listeners = link.primary.listeners(&given);
        let before = mem::replace(&mut link.listeners, listeners.clone());
        for listener in listeners.difference(&before) {
            self.router.add_listener(worker, ListenerId(*listener));
        }
        for listener in before.difference(&listeners) {
            self.router.remove_listener(worker, ListenerId(*listener));
        }
    }

    /// Tells the router which of these listeners, or of those that the user named, a worker serves no more.
    pub(in crate::engine) fn leave(&mut self, worker: Worker, closed: Vec<u32>) {
        let given = self.node().ports.given().clone();
        let Some(link) = self.node_link(worker) else { return };
        let candidates = closed.into_iter().chain(given.iter().copied());
        let left = candidates.filter(|listener| {
            !link.primary.takes(*listener, &given) && link.listeners.remove(listener)
        });
        for listener in left.collect::<Vec<_>>() {
            self.router.remove_listener(worker, ListenerId(listener));
        }
    }

    /// Opens what a server asks for, unless another worker's server did so before.
    fn open_port(&mut self, worker: Worker, key: &str, query: &Query) -> io::Result<Opened> {
        if let Some(port) = self.node().ports.get(key) {
            let opened = port.opened.clone();
            self.put_in_place(worker, &opened, query)?;
            self.note_server_kind(&opened, query);
            return Ok(opened);
        }
        self.may_open(worker)?;
        let opened = match query.kind {
            AddressType::Udp4 | AddressType::Udp6 => {
                let (only_v6, reuse) = (has(query, ONLY_V6), has(query, REUSE));
                Opened::Udp(Rc::new(open_udp(address(query)?, only_v6, reuse)?))
            }
            _ => Opened::Listeners(self.find_or_open(query)?),
        };
        self.note_server_kind(&opened, query);
        let port = Port { opened: opened.clone(), data: query.data.clone() };
        self.node_mut().ports.insert(key.to_owned(), port);
        Ok(opened)
    }

    /// Whether something more may be opened for a worker: neither in number nor in time so much that others
    /// have to wait for it, or that no descriptor is left for them.
    fn may_open(&mut self, worker: Worker) -> io::Result<()> {
        let Allowed { all, of_one } = self.room.ports();
        let open = self.node().ports.len() + self.listeners.replaced();
        let now = self.now;
        let Some(link) = self.node_link(worker) else { return Ok(()) };
        // A UDP socket is kept until it has arrived, also if it was closed meanwhile.
        if open >= all || link.primary.serving().max(link.kept()) >= of_one {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let in_time = link.opens.say(now).map(|_| ());
        in_time.ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// A Unix socket whose file was removed is listened on anew: apps remove the file before they
    /// listen, in case that it was left by an earlier run.
    fn put_in_place(&mut self, worker: Worker, opened: &Opened, query: &Query) -> io::Result<()> {
        let (Opened::Listeners(listeners), AddressType::Unix) = (opened, query.kind) else {
            return Ok(());
        };
        let is_given = |number: &u32| self.node().ports.given().contains(number);
        let own: Vec<_> = listeners.iter().copied().filter(|number| !is_given(number)).collect();
        for number in own {
            if self.listeners.get(number).is_some_and(|listener| !listener.is_in_place()) {
                self.may_open(worker)?;
                let listener = self.open_listener(query)?;
                self.listeners.replace(self.poll.registry(), number, listener)?;
            }
        }
        Ok(())
    }

    /// The listeners for a server: those that the user named, if it asks for one of them.
    fn find_or_open(&mut self, query: &Query) -> io::Result<Vec<u32>> {
        if self.listeners.retired().any(|number| self.is_asked_for(number, query)) {
            // It lets nobody in any more, and is in the way.
            self.close_retired();
        }
        let given = self.node().ports.given().iter().copied();
        let listeners: Vec<_> = given.filter(|number| self.is_asked_for(*number, query)).collect();
        if !listeners.is_empty() {
            return Ok(listeners);
        }
        let listener = self.open_listener(query)?;
        Ok(vec![self.listeners.add(self.poll.registry(), listener)?])
    }

    /// Opens what a server asks for.
    fn open_listener(&self, query: &Query) -> io::Result<Listener> {
        let asked = match query.kind {
            AddressType::Any => Asked::Any(query.port.unwrap_or(0)),
            AddressType::V4 | AddressType::V6 => {
                Asked::Tcp { address: address(query)?, only_v6: has(query, ONLY_V6) }
            }
            AddressType::Unix => Asked::Unix(path(query)),
            // The number of a descriptor says nothing here unless the user named it with --listen.
            AddressType::Other | AddressType::Udp4 | AddressType::Udp6 => {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
        };
        let defer = speaks_http(query) && self.defers;
        let backlog = i32::try_from(query.backlog).ok().filter(|backlog| *backlog > 0);
        let backlog = backlog.unwrap_or(BACKLOG);
        // As if the worker itself had made it.
        let process = &self.config.process;
        let mode = process.umask.map(|mask| 0o777 & !mask);
        let owner = Owner { account: process.account.clone(), is_helped: false, mode };
        let listener = open_asked(&asked, defer, backlog, Mode::NonBlocking, &owner)?;
        listener.open_to_all(query.readable_all, query.writable_all)?;
        Ok(listener)
    }

    /// Whether a server asks for the listener with this number.
    fn is_asked_for(&self, number: u32, query: &Query) -> bool {
        self.listeners.get(number).is_some_and(|listener| is_asked_for(listener, query))
    }

    /// Connections of a server that does not speak HTTP have no head to wait for.
    fn note_server_kind(&mut self, opened: &Opened, query: &Query) {
        let Opened::Listeners(listeners) = opened else { return };
        let first = match query.server {
            Some(ServerKind::Http) => First::Client,
            Some(ServerKind::Tls | ServerKind::Tcp) => First::Server,
            None => First::Unknown,
        };
        for listener in listeners {
            self.listeners.expect(*listener, first);
        }
        if query.server == Some(ServerKind::Tls) && self.router.may_need_head() {
            warn!(
                name: "keys_hidden", address = place(query),
                "workers speak TLS on {}: keys other than ip cannot be seen there; use --by ip, or \
                 end TLS before sticky-run",
                place(query)
            );
        }
    }

    /// Gives a server what it asks for, which costs so many bytes on its way if it is a socket.
    fn grant(&mut self, worker: Worker, key: &str, query: &Query, opened: &Opened, cost: usize) {
        let sockname = match opened {
            Opened::Listeners(numbers) => numbers.iter().find_map(|number| {
                self.listeners.get(*number)?.address().map(|address| sockname(query, address))
            }),
            Opened::Udp(_) => None,
        };
        let data = self.node().ports.get(key).and_then(|port| port.data.clone());
        let data = data.as_ref();
        let ack = query.seq;
        match opened {
            Opened::Listeners(listeners) => {
                self.say(worker, |seq| ToNode::Grant { ack, seq, key, data, sockname });
                self.note_server(worker, key, listeners.clone());
            }
            Opened::Udp(socket) => {
                let Some(link) = self.node_link(worker) else { return };
                let parcel =
                    Parcel::Udp { socket: Rc::clone(socket), _part: link.burden.add(cost) };
                self.say_with(worker, parcel, |seq| ToNode::GrantUdp { ack, seq, key, data });
                self.note_server(worker, key, Vec::new());
            }
        }
        self.say_if_guessing(worker);
    }

    /// An address of `--listen` that no server asks for leads to the first one, which may not be
    /// what the user wants.
    fn say_if_guessing(&mut self, worker: Worker) {
        let given = self.node().ports.given().clone();
        let guesses = self.node_link(worker).is_some_and(|link| link.primary.is_guessing(&given));
        if guesses && !mem::replace(&mut self.node_mut().guessed, true) {
            warn!(
                name: "listen_ambiguous",
                "workers have several servers, and none of them asks for the address of --listen: \
                 it leads to the one that each worker opens first"
            );
        }
    }

    fn refuse(&mut self, worker: Worker, key: &str, query: &Query, errno: i32) {
        let ack = query.seq;
        self.say(worker, |seq| ToNode::Refuse { ack, seq, key, errno, data: query.data.as_ref() });
    }

    /// A server has what it asked for. The router is told of these listeners alone, however many the
    /// worker has.
    fn note_server(&mut self, worker: Worker, key: &str, listeners: Vec<u32>) {
        let is_ready = self.fleet.is_ready(worker);
        let given = self.node().ports.given().clone();
        let Some(link) = self.node_link(worker) else { return };
        link.primary.serve(key, listeners.clone());
        if !is_ready {
            return;
        }
        let served = listeners.into_iter().chain(given);
        let new: Vec<_> = served.filter(|listener| link.listeners.insert(*listener)).collect();
        for listener in new {
            self.router.add_listener(worker, ListenerId(listener));
        }
    }
}

/// Whether a server asks for a listener that is there.
fn is_asked_for(listener: &Listener, query: &Query) -> bool {
    match query.kind {
        AddressType::Other => query.fd.is_some() && listener.given_as() == query.fd,
        AddressType::Unix => query.address.is_some() && listener.path() == Some(path(query)),
        AddressType::Any | AddressType::V4 | AddressType::V6 => {
            let port = query.port.filter(|port| *port != 0);
            let asked = query.address.as_ref().and_then(|address| address.parse().ok());
            let address = listener.address();
            address.is_some_and(|own| Some(own.port()) == port && overlaps(own.ip(), asked))
        }
        AddressType::Udp4 | AddressType::Udp6 => false,
    }
}
