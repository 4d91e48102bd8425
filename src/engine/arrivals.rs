//! Arrivals: connections are accepted for as long as there is room, and listeners are closed once whoever
//! came there is served.

use super::connection::Socket;
use super::listeners::{Arrived, Round};
use super::start::open_listeners;
use super::{Connection, Engine};
use crate::logic::route::ListenerId;
use crate::os::closing::Foreign;
use crate::os::listen::Accepted;

impl Engine {
    /// Accepts from every listener that has something.
    pub(super) fn accept_all(&mut self) {
        let round = self.listeners.round(self.now);
        self.accept(round);
    }

    /// Accepts what has come to listeners before they were replaced, as soon as there is room for it.
    pub(super) fn accept_from_replaced(&mut self) {
        while self.listeners.has_replaced(self.now)
            && !self.is_full()
            && let Some(arrived) = self.listeners.accept_replaced(self.now)
        {
            self.arrive(arrived);
        }
    }

    fn accept(&mut self, mut round: Round) {
        while !round.is_over()
            && !self.is_full()
            && let Some(arrived) = self.listeners.accept(self.now, &mut round)
        {
            self.arrive(arrived);
        }
    }

    /// Accepts what the kernel has already completed, as far as there is room for it.
    fn accept_backlog(&mut self, number: u32) {
        let round = self.listeners.backlog(number);
        self.accept(round);
    }

    fn arrive(&mut self, arrived: Arrived) {
        let Arrived { accepted, listener, is_deferred } = arrived;
        let Accepted { socket, client, brings_descriptors } = accepted;
        let socket = if brings_descriptors {
            Foreign::from_client(socket).into()
        } else {
            Socket::from(socket)
        };
        let prefaced = self.origins.is_prefaced(client);
        let listener = Some(listener);
        let connection = Connection { prefaced, listener, ..Connection::new(socket, client) };
        self.route(connection, None, is_deferred);
    }

    /// Accepts what the kernel has already completed, as far as there is room for it, then listens
    /// no more.
    pub(super) fn close_listeners(&mut self) {
        for number in self.listeners.numbers() {
            self.accept_backlog(number);
        }
        self.listeners.close_all(self.poll.registry());
    }

    /// Listens no more with this number. Nobody waits for what it leads to any more.
    pub(super) fn close_listener(&mut self, number: u32) {
        self.listeners.close(self.poll.registry(), number);
        for conn in self.router.close_listener(ListenerId(number)) {
            self.waiting.remove(&conn);
        }
        for conn in self.pending.of_listener(number) {
            self.close_pending(conn);
        }
    }

    /// Accepts what has come to the listeners that are not wanted any more, then listens there no
    /// more. Their connections are served as all others are.
    pub(super) fn close_retired(&mut self) {
        for number in self.listeners.take_retired() {
            self.accept_backlog(number);
            self.listeners.close(self.poll.registry(), number);
        }
    }

    /// Listens where the configuration says now, and nowhere else.
    pub(super) fn change_listeners(&mut self) {
        let (config, defers) = (&self.config, self.defers);
        self.listeners.relisten(self.now, self.poll.registry(), &config.listen, |listen| {
            open_listeners(config, std::slice::from_ref(listen), defers)
        });
        for worker in self.workers.live() {
            self.tell_what_it_serves(worker);
        }
    }
}
