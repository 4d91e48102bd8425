//! Arrivals: connections are accepted for as long as there is room, and listeners are closed once whoever
//! came there is served.

use super::connection::Socket;
use super::listeners::{Arrived, Round};
use super::start::open_listeners;
use super::{Connection, Engine};
use crate::logic::core::Input;
use crate::logic::route::ListenerId;
use crate::os::closing::{self, Foreign};
use crate::os::listen::Accepted;

impl Engine {
    /// Accepts the next connection of a round; false if there is none, or no room for it.
    pub(super) fn accept_next(&mut self, round: &mut Round) -> bool {
        if round.is_over() || self.is_full() {
            return false;
        }
        let arrived = self.listeners.accept(self.now, round);
        arrived.map(|arrived| self.arrive(arrived)).is_some()
    }

    /// Accepts the next one that has come to a listener before that was replaced, likewise.
    pub(super) fn accept_replaced(&mut self) -> bool {
        if !self.listeners.has_replaced(self.now) || self.is_full() {
            return false;
        }
        let arrived = self.listeners.accept_replaced(self.now);
        arrived.map(|arrived| self.arrive(arrived)).is_some()
    }

    /// Accepts what the kernel has already completed, as far as there is room for it.
    fn accept_backlog(&mut self, number: u32) {
        let mut round = self.listeners.backlog(number);
        while self.accept_next(&mut round) {}
    }

    /// Whether no more can be held, beside what workers have opened and what is on its way to them.
    pub(super) fn is_full(&mut self) -> bool {
        let links = self.links.all_on_their_way() + self.links.held();
        self.core.is_full(links + closing::all_awaiting() + self.listeners.opened())
    }

    fn arrive(&mut self, arrived: Arrived) {
        let Arrived { accepted, listener, is_deferred } = arrived;
        let Accepted { socket, client, brings_descriptors } = accepted;
        let socket = if brings_descriptors {
            Foreign::from_client(socket).into()
        } else {
            Socket::from(socket)
        };
        let prefaced = self.intake.origins.is_prefaced(client);
        let listener = Some(listener);
        let connection = Connection { prefaced, listener, ..Connection::new(socket, client) };
        let (conn, arrived) = self.intake.hold(connection, is_deferred);
        self.core.handle(self.now, Input::Arrived(conn, arrived));
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
        self.core.handle(self.now, Input::LeadsNowhere(ListenerId(number)));
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
        self.say_what_leads();
    }

    /// What comes to the listeners that are open leads to workers.
    pub(super) fn say_what_leads(&mut self) {
        for number in self.listeners.numbers() {
            self.core.handle(self.now, Input::Leads(ListenerId(number), None));
        }
    }
}
