//! What is done with what workers say: the fleet, the router and the listeners are told, and nobody calls back.

use std::mem;

use sticky_worker::message::MAX_KEY;
use tracing::{debug, info, warn};

use super::links::{Channels, Note, Noted, Said, Unread};
use super::listeners::{Opening, Request, Served};
use super::{Connection, Engine, links};
use crate::logic::Worker;
use crate::logic::fleet::Input;
use crate::logic::route::{Health, InFlight, ListenerId, OwnedByAnother, Returned};

/// What was said once about keys that workers announce.
#[derive(Debug, Default)]
pub(super) struct SaidOnce {
    /// That one is too long.
    too_long: bool,
    /// That one lives on another worker.
    shared: bool,
}

impl Engine {
    /// Reads what workers have said.
    pub(super) fn read_channels(&mut self, which: Channels) {
        if which == Channels::All {
            self.links.look(self.now);
            self.hear_all();
        }
        for worker in self.links.to_read() {
            self.read_channel(worker, which);
        }
    }

    /// Reads what one worker has said, and does at once what each message asks for.
    pub(super) fn read_channel(&mut self, worker: Worker, which: Channels) {
        let most_unclosed = self.room.queues().stalled;
        let Some(mut turn) = self.links.turn(self.now, worker, which, most_unclosed) else {
            return;
        };
        while self.links.receive(&mut turn) {
            self.hear_all();
        }
        self.hear_all();
    }

    /// Hears everything that was said.
    pub(super) fn hear_all(&mut self) {
        while let Some((worker, said)) = self.links.said() {
            self.hear(worker, said);
        }
    }

    pub(super) fn hear(&mut self, worker: Worker, said: Said) {
        match said {
            Said::Ready => self.fleet.handle(self.now, Input::Ready(worker)),
            Said::Listening => self.hear_listening(worker),
            Said::Booted { takes_given } => self.hear_booted(worker, takes_given),
            Said::TakesGiven { package } => self.hear_takes_given(worker, &package),
            Said::Announced(key) => self.hear_session(worker, &key),
            Said::Forgotten(key) => self.router.forget(self.now, worker, &key),
            Said::Closed(count) => self.hear_closed(worker, count),
            Said::Uncounted(count) => {
                self.router.closed(worker, count);
            }
            Said::PickedUp => self.look_at(worker),
            Said::GivenBack { connection, next, is_closed } => {
                self.hear_given_back(worker, connection, next, is_closed);
            }
            Said::Returned(connection, how) => self.handoff.take_back(connection, how),
            Said::Unrelieved => self.relieve_again(worker),
            Said::Listen(request) => self.hear_request(worker, &request),
            Said::StopsListening(name) => {
                let served = self.listeners.stops(self.now, worker, &name);
                self.tell_served(worker, served);
            }
            Said::Leaving => self.fleet.handle(self.now, Input::Leaving(worker)),
            Said::HandlesTerm => self.fleet.handle(self.now, Input::HandlesTerm(worker)),
            Said::Pong => self.fleet.handle(self.now, Input::Pong(worker)),
            Said::Busy => self.router.sessions_resumed(worker),
            Said::Quiet => self.router.sessions_over(worker),
            Said::Violation(what) => self.tell_off(worker, &what),
            Said::Unusable(what) => self.end_for(worker, &what),
            Said::Condemned => self.workers.kill(worker),
        }
    }

    /// A worker announces a key. Two may do so innocently: when ids collide, or when clients present
    /// what is the same for all of them.
    fn hear_session(&mut self, worker: Worker, key: &[u8]) {
        if self.fleet.is_exiting(worker) {
            // Nobody new is sent there, and whoever is there already stays.
        } else if !self.fleet.is_ready(worker) {
            self.tell_off(worker, "SESSION came before READY");
        } else if key.len() > MAX_KEY {
            let length = key.len();
            if !mem::replace(&mut self.workers.said_once.too_long, true) {
                warn!(
                    name: "announced_key_too_long", worker = worker.slot, bytes = length,
                    "{worker} announces a key of {length} bytes: only {MAX_KEY} are taken, so \
                     clients that present it may reach another worker; use shorter ids (said once)"
                );
            }
        } else if let Err(OwnedByAnother(owner)) = self.router.announce(self.now, worker, key)
            && !mem::replace(&mut self.workers.said_once.shared, true)
        {
            warn!(
                name: "announced_key_taken", worker = worker.slot, owner = owner.slot,
                "{worker} announces a key that lives on {owner}, where everybody who presents it \
                 goes: several clients seem to share it, such as a cookie with the same value for \
                 all, or ids that collide; have --by name a key that each client has for itself \
                 (said once)"
            );
        }
    }

    /// A worker has finished so many connections, and has none to give back but those that are open.
    fn hear_closed(&mut self, worker: Worker, count: u32) {
        if !self.router.closed(worker, count) {
            self.tell_off(worker, "it closed more connections than it was given");
        }
        if let Some(open) = self.router.open_on(worker) {
            self.links.limit_returns(worker, open);
        }
    }

    /// A worker gives a connection back, which it may have said to be closed. It can give back no more than it
    /// was given, so it cannot fill the supervisor with connections of its own.
    fn hear_given_back(
        &mut self,
        worker: Worker,
        connection: Option<Connection>,
        next: bool,
        is_closed: bool,
    ) {
        if !is_closed && !self.router.closed(worker, 1) {
            return self.tell_off(worker, "it gave back more connections than it was given");
        }
        let Some(connection) = connection else {
            return debug!(
                name: "client_gone", worker = worker.slot,
                "a client is gone before {worker} gave its connection back"
            );
        };
        let client = self.origins.client_of(&connection.socket, connection.client);
        let listener = self.listeners.listener_of(&connection.socket);
        let connection = Connection { client, listener, ..connection };
        if next {
            self.handoff.take_next_request(connection);
        } else {
            self.handoff.take_back(connection, Returned::Back(worker));
        }
    }

    /// A server of a worker listens, by which the worker is ready if it is what it is to serve.
    fn hear_listening(&mut self, worker: Worker) {
        let predecessor = self.fleet.predecessor(worker);
        if self.listeners.is_ready(self.now, worker, predecessor) {
            self.fleet.handle(self.now, Input::Ready(worker));
        }
    }

    /// Another process speaks for a worker from now on.
    fn hear_booted(&mut self, worker: Worker, takes_given: bool) {
        self.router.reset_open(worker);
        self.listeners.booted(worker, takes_given);
        if takes_given {
            self.fleet.handle(self.now, Input::Ready(worker));
        }
        self.tell_what_it_serves(worker);
    }

    /// A worker takes what comes to the listeners that the user named, by a package of this name.
    fn hear_takes_given(&mut self, worker: Worker, package: &str) {
        if !self.listeners.are_given() {
            return warn!(
                name: "listen_missing", worker = worker.slot, package,
                "{worker} uses {package}, which listens nowhere: use --listen ADDR"
            );
        }
        self.listeners.takes_given(worker);
        self.fleet.handle(self.now, Input::Ready(worker));
        self.tell_what_it_serves(worker);
    }

    /// A server of a worker wants to listen. Nothing is opened any more for a worker that is to end, by a stop
    /// or by itself. It gets no answer, as from Node's own primary: an error would end most apps at
    /// once, and their connections with them.
    fn hear_request(&mut self, worker: Worker, request: &Request) {
        if self.fleet.is_stopping() || self.fleet.is_exiting(worker) {
            return debug!(
                name: "listen_ignored", worker = worker.slot,
                "{worker} is to end: it cannot listen on {} any more",
                request.place
            );
        }
        if self.listeners.has_retired_for(request) {
            self.close_retired();
        }
        let opening = Opening {
            now: self.now,
            registry: self.poll.registry(),
            allowed: self.room.ports(),
            on_their_way: self.links.on_their_way(worker),
            process: &self.config.process,
            mode: links::traits(&self.config.handoff).mode,
            defers: self.defers,
            needs_head: self.router.may_need_head(),
        };
        let granted = self.listeners.request(worker, request, &opening);
        let served = match &granted {
            Ok(granted) => {
                let is_ready = self.fleet.is_ready(worker);
                self.listeners.serve(worker, &request.name, granted.listeners.clone(), is_ready)
            }
            Err(_) => Served::default(),
        };
        self.links.answer(self.now, worker, request, granted);
        self.tell_served(worker, served);
    }

    /// Tells the router which listeners a ready worker serves, as far as that has changed.
    pub(super) fn tell_what_it_serves(&mut self, worker: Worker) {
        if self.fleet.is_ready(worker) {
            let served = self.listeners.served(worker);
            self.tell_served(worker, served);
        }
    }

    /// Tells the router what has changed about the listeners that a worker serves.
    pub(super) fn tell_served(&mut self, worker: Worker, served: Served) {
        let Served { serves, leaves, closes } = served;
        for listener in serves {
            self.router.add_listener(worker, ListenerId(listener));
        }
        for listener in leaves {
            self.router.remove_listener(worker, ListenerId(listener));
        }
        for listener in closes {
            self.close_listener(listener);
        }
    }

    /// Does what is due about what workers serve.
    pub(super) fn look_after_served(&mut self) {
        let (fleet, workers) = (&self.fleet, &self.workers);
        let has_gap = || {
            let present = workers.all().filter(|live| fleet.is_current(live.worker));
            present.count() < usize::from(workers.slots)
        };
        let unused = self.listeners.take_unused(self.now, fleet.is_stopping(), has_gap);
        for listener in unused {
            self.close_listener(listener);
        }
        while let Some(worker) =
            self.listeners.take_elsewhere(self.now, |worker| self.fleet.predecessor(worker))
        {
            self.workers.terminate(worker);
        }
    }

    /// Looks at the workers that seem to have no room, before new connections pass them over.
    pub(super) fn look_at_full(&mut self) {
        for worker in self.router.full() {
            self.look_at(worker);
        }
    }

    /// Looks how much a worker has not picked up.
    pub(super) fn look_at(&mut self, worker: Worker) {
        let unread = self.links.unread(worker);
        match self.router.note_unread(self.now, worker, unread) {
            Health::Unchanged => {}
            Health::Stalled => {
                warn!(
                    name: "worker_stalled", worker = worker.slot,
                    "{worker} has stopped reading its channel: its own clients wait for it, others \
                     go elsewhere"
                );
                self.relieve(worker);
            }
            Health::Resumed => info!(
                name: "worker_recovered", worker = worker.slot,
                "{worker} reads its channel again"
            ),
        }
    }

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    fn relieve(&mut self, worker: Worker) {
        let Some(taken) = self.links.take_back(self.now, worker) else { return };
        let kinds = self.router.take_back(self.now, worker, taken.messages.len(), taken.left);
        for (message, kind) in taken.messages.into_iter().zip(kinds) {
            let movable = taken.is_sure && kind == InFlight::Movable;
            let how = if movable { Returned::Moved(worker) } else { Returned::Recovered };
            match message {
                Unread::Connection(connection) => self.handoff.take_back(connection, how),
                Unread::Drain => self.workers.drain_later(worker),
                Unread::Nothing => {}
            }
        }
        // As long as this one is unread, the worker still does not read.
        self.notify(worker, Note::Ping);
    }

    fn relieve_again(&mut self, worker: Worker) {
        if self.router.is_stalled(worker) {
            self.relieve(worker);
        }
    }

    /// Says something to a worker.
    fn notify(&mut self, worker: Worker, note: Note) -> Noted {
        let noted = self.links.notify(self.now, worker, note);
        if noted == Noted::InFlight {
            self.router.note_sent(self.now, worker);
        }
        noted
    }

    /// Asks a worker to end by itself. One that does not hear it waits for TERM.
    pub(super) fn tell_close(&mut self, worker: Worker, at_once: bool) {
        if self.notify(worker, Note::Close { at_once }) == Noted::Unheard {
            self.fleet.handle(self.now, Input::HandlesTerm(worker));
        }
    }

    /// Tells a worker that it gets no new keys any more.
    pub(super) fn tell_withdrawn(&mut self, worker: Worker) {
        self.listeners.withdrawn(worker);
        if self.notify(worker, Note::Withdraw) == Noted::NoRoom {
            self.workers.drain_later(worker);
        }
    }

    /// Asks a worker for a sign of life. One that cannot be asked is taken to be alive.
    pub(super) fn ping(&mut self, worker: Worker) {
        if self.notify(worker, Note::Ping) == Noted::Unheard {
            self.fleet.handle(self.now, Input::Pong(worker));
        }
    }

    /// Tells workers to drain, now that no connection is on its way to them any more.
    pub(super) fn send_drains(&mut self) {
        for worker in self.workers.take_drains() {
            let live = self.workers.get(worker).is_some();
            if live && self.notify(worker, Note::Drain) == Noted::NoRoom {
                self.workers.drain_later(worker);
            }
        }
    }

    /// Ends a worker for what it did, which is said once, whatever was said of it before.
    fn end_for(&mut self, worker: Worker, what: &str) {
        let Some(live) = self.workers.get_mut(worker) else { return };
        if mem::replace(&mut live.ended, true) {
            return;
        }
        let pid = live.pid();
        warn!(
            name: "worker_killed", worker = worker.slot, pid = pid.as_raw(), reason = "protocol",
            error = what,
            "{worker} misuses its channel: {what}; it is ended (pid {pid})"
        );
        self.workers.kill(worker);
    }

    /// Says in the log what a worker did wrong, at a limited rate.
    fn tell_off(&mut self, worker: Worker, what: &str) {
        let now = self.now;
        if let Some(live) = self.workers.get_mut(worker)
            && let Some(before) = live.told_off.say(now)
        {
            let pid = live.pid();
            warn!(
                name: "protocol_violated", worker = worker.slot, pid = pid.as_raw(), error = what,
                suppressed = before,
                "{worker} misuses its channel: {what} (pid {pid}, {before} earlier ones not shown)"
            );
        }
    }
}
