//! What is done with what workers say: the core and the listeners are told, and nobody calls back.

use tracing::{debug, warn};

use super::links::{Channels, Said};
use super::listeners::{Opening, Request, Served};
use super::{Connection, Engine, links};
use crate::logic::Worker;
use crate::logic::core::{self, How, Input};
use crate::logic::route::{ListenerId, Returned};
use crate::os::peek;
use std::os::fd::AsFd;

impl Engine {
    /// Reads what workers have said.
    pub(super) fn read_channels(&mut self, which: Channels) {
        if which == Channels::All {
            self.links.look(self.now);
            self.handle_all();
        }
        for worker in self.links.to_read() {
            self.read_channel(worker, which);
        }
    }

    /// Reads what one worker has said, and does at once what each message asks for.
    pub(super) fn read_channel(&mut self, worker: Worker, which: Channels) {
        let most_unclosed = self.core.room().queue_limits().stalled;
        let Some(mut turn) = self.links.turn(self.now, worker, which, most_unclosed) else {
            return;
        };
        while self.links.receive(&mut turn) {
            self.handle_all();
        }
        self.handle_all();
    }

    /// Hears everything that was said.
    pub(super) fn handle_all(&mut self) {
        while let Some((worker, said)) = self.links.said() {
            self.hear(worker, said);
        }
    }

    fn hear(&mut self, worker: Worker, said: Said) {
        match said {
            Said::Ready => self.notify_core(worker, core::Said::Ready),
            Said::Listening => self.on_listening(worker),
            Said::Booted { takes_given } => self.on_booted(worker, takes_given),
            Said::TakesGiven { package } => self.on_takes_given(worker, &package),
            Said::Announced(key) => self.notify_core(worker, core::Said::Announces(&key)),
            Said::Forgotten(key) => self.notify_core(worker, core::Said::Ends(&key)),
            Said::ReportsEnds => self.notify_core(worker, core::Said::ReportsEnds),
            Said::Closed(count) => self.on_closed(worker, count),
            Said::Uncounted(count) => self.notify_core(worker, core::Said::Uncounted(count)),
            Said::PickedUp => self.notify_core(worker, core::Said::PickedUp),
            Said::GivenBack { connection, next, is_closed } => {
                self.on_given_back(worker, connection, next, !is_closed);
            }
            Said::Returned(connection, how) => self.on_returned(connection, how),
            Said::Unrelieved => self.notify_core(worker, core::Said::Unrelieved),
            Said::Listen(request) => self.on_request(worker, &request),
            Said::StopsListening(name) => {
                let served = self.listeners.stops(self.now, worker, &name);
                self.notify_served(worker, served);
            }
            Said::Leaving => self.notify_core(worker, core::Said::Leaving),
            Said::HandlesTerm => self.notify_core(worker, core::Said::HandlesTerm),
            Said::Pong => self.notify_core(worker, core::Said::Pong),
            Said::Busy => self.notify_core(worker, core::Said::Busy),
            Said::Quiet => self.notify_core(worker, core::Said::Quiet),
            Said::Violation(what) => self.workers.on_violation(self.now, worker, &what),
            Said::Unusable(what) => self.workers.end_for(worker, &what),
            Said::Condemned => self.workers.kill(worker),
        }
    }

    fn notify_core(&mut self, worker: Worker, said: core::Said<'_>) {
        self.core.handle(self.now, Input::Said(worker, said));
    }

    /// A worker has finished so many connections, and has none to give back but those that are open.
    fn on_closed(&mut self, worker: Worker, count: u32) {
        self.notify_core(worker, core::Said::Closed(count));
        if let Some(open) = self.core.open_on(worker) {
            self.links.limit_returns(worker, open);
        }
    }

    /// A worker gives a connection back, by which it has finished it if it `ends`. It can give back no more
    /// than it was given, so it cannot fill the supervisor with connections of its own.
    fn on_given_back(
        &mut self,
        worker: Worker,
        connection: Option<Connection>,
        next: bool,
        ends: bool,
    ) {
        let identified = connection.and_then(|connection| {
            let identity = peek::identity(connection.socket.as_fd()).ok()?;
            Some((connection, identity))
        });
        let Some((connection, identity)) = identified else {
            debug!(
                name: "client_gone", worker = worker.slot,
                "a client left before {worker} returned its connection"
            );
            return self.notify_core(worker, core::Said::ReturnedGone { ends });
        };
        let client = self.intake.origins.client_of(&connection.socket, connection.client);
        let listener = self.listeners.listener_of(&connection.socket);
        let connection = Connection { client, listener, ..connection };
        let (conn, arrived) = self.intake.hold(connection, false);
        let how = How::Back { worker, next, ends, identity };
        self.core.handle(self.now, Input::Returned(conn, arrived, how));
    }

    /// A connection did not get to a worker, or was not taken there.
    fn on_returned(&mut self, connection: Connection, how: Returned) {
        let identity = match how {
            Returned::Back(_) => peek::identity(connection.socket.as_fd()).ok(),
            Returned::Moved(_) | Returned::Recovered => None,
        };
        let (conn, arrived) = self.intake.hold(connection, false);
        let how = How::NotServed(how, identity);
        self.core.handle(self.now, Input::Returned(conn, arrived, how));
    }

    /// A server of a worker listens, by which the worker is ready if it is what it is to serve.
    fn on_listening(&mut self, worker: Worker) {
        let predecessor = self.core.fleet().predecessor(worker);
        if self.listeners.is_ready(self.now, worker, predecessor) {
            self.notify_core(worker, core::Said::Ready);
        }
    }

    /// Another process speaks for a worker from now on.
    fn on_booted(&mut self, worker: Worker, takes_given: bool) {
        let reports = links::traits(&self.config.handoff).reports;
        self.notify_core(worker, core::Said::Rebooted(reports));
        self.listeners.booted(worker, takes_given);
        if takes_given {
            self.notify_core(worker, core::Said::Ready);
        }
        self.notify_what_it_serves(worker);
    }

    /// A worker takes what comes to the listeners that the user named, by a package of this name.
    fn on_takes_given(&mut self, worker: Worker, package: &str) {
        if !self.listeners.are_given() {
            return warn!(
                name: "listen_missing", worker = worker.slot, package,
                "{worker} uses {package}, which does not listen itself: add --listen ADDR"
            );
        }
        self.listeners.takes_given(worker);
        self.notify_core(worker, core::Said::Ready);
        self.notify_what_it_serves(worker);
    }

    /// A server of a worker wants to listen. Nothing is opened any more for a worker that is to end, by a stop
    /// or by itself. It gets no answer, as from Node's own primary: an error would end most apps at
    /// once, and their connections with them.
    fn on_request(&mut self, worker: Worker, request: &Request) {
        if self.core.fleet().is_stopping() || self.core.fleet().is_exiting(worker) {
            return debug!(
                name: "listen_ignored", worker = worker.slot,
                "{worker} is stopping: it cannot listen on {} any more",
                request.place
            );
        }
        if self.listeners.has_retired_for(request) {
            self.close_retired();
        }
        let opening = Opening {
            now: self.now,
            registry: self.poll.registry(),
            allowed: self.core.room().port_limits(),
            on_their_way: self.links.on_their_way(worker),
            process: &self.config.process,
            mode: links::traits(&self.config.handoff).mode,
            defers: self.defers,
            needs_head: self.core.router().may_need_head(),
        };
        let granted = self.listeners.request(worker, request, &opening);
        let served = match &granted {
            Ok(granted) => {
                for listener in &granted.listeners {
                    let leads = Input::Leads(ListenerId(*listener), Some(request.first));
                    self.core.handle(self.now, leads);
                }
                let is_ready = self.core.fleet().is_ready(worker);
                self.listeners.serve(worker, &request.name, granted.listeners.clone(), is_ready)
            }
            Err(_) => Served::default(),
        };
        self.links.answer(self.now, worker, request, granted);
        self.notify_served(worker, served);
    }

    /// Tells the router which listeners a ready worker serves, as far as that has changed.
    pub(super) fn notify_what_it_serves(&mut self, worker: Worker) {
        if self.core.fleet().is_ready(worker) {
            let served = self.listeners.served(worker);
            self.notify_served(worker, served);
        }
    }

    /// Tells the router what has changed about the listeners that a worker serves.
    pub(super) fn notify_served(&mut self, worker: Worker, served: Served) {
        let Served { serves, leaves, closes } = served;
        for listener in serves {
            self.core.handle(self.now, Input::Serves(worker, ListenerId(listener)));
        }
        for listener in leaves {
            self.core.handle(self.now, Input::Leaves(worker, ListenerId(listener)));
        }
        for listener in closes {
            self.close_listener(listener);
        }
    }

    /// Does what is due about what workers serve.
    pub(super) fn expire_served(&mut self) {
        let (fleet, workers) = (self.core.fleet(), &self.workers);
        let has_gap = || {
            let present = workers.all().filter(|live| fleet.is_current(live.worker));
            present.count() < usize::from(workers.slots)
        };
        let unused = self.listeners.take_unused(self.now, fleet.is_stopping(), has_gap);
        for listener in unused {
            self.close_listener(listener);
        }
        while let Some(worker) =
            self.listeners.take_elsewhere(self.now, |worker| self.core.fleet().predecessor(worker))
        {
            self.workers.terminate(worker);
        }
    }
}
