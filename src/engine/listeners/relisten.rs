//! Listening elsewhere after an upgrade: an address that is not asked for any more is closed as in a
//! stop, so that whoever came there is served; one that is new is opened.

use tracing::{info, warn};

use super::accept::HANDSHAKES;
use super::{Entry, Listeners};
use crate::engine::Engine;
use crate::engine::start::open_listeners;
use crate::logic::config::Listen;
use crate::logic::time::Time;

impl Listeners {
    /// When to call [`Engine::close_retired`].
    pub(in crate::engine) fn retired_until(&self) -> Option<Time> {
        self.retired_until
    }

    /// Those that let nobody new in, and are to be closed.
    pub(in crate::engine) fn retired(&self) -> impl Iterator<Item = u32> {
        let all = self.retired_until.map(|_| self.listeners.iter()).into_iter().flatten();
        all.filter(|(_, entry)| entry.retired).map(|(number, _)| *number)
    }

    /// Those that the user asked for once, and that are not among these.
    fn unwanted(&self, wanted: &[Listen]) -> Vec<u32> {
        let unwanted = |entry: &Entry| {
            entry.listener.about().asked().is_some_and(|asked| !wanted.contains(asked))
        };
        let all = self.listeners.iter();
        all.filter(|(_, entry)| unwanted(entry)).map(|(number, _)| *number).collect()
    }

    /// Lets nobody new in by one of them, which is to be closed then.
    fn retire(&mut self, number: u32, until: Time) {
        let Some(entry) = self.listeners.get_mut(&number) else { return };
        entry.retired = true;
        self.retired_until = Some(until);
        if let Err(error) = entry.listener.let_nobody_in() {
            warn!(
                name: "listener_shut_failed", address = entry.listener.bound_to(),
                "clients may be reset while {} closes: {error}",
                entry.listener
            );
        }
    }

    /// The user does not ask for one of them any more, but workers do.
    fn disown(&mut self, number: u32) {
        let Some(entry) = self.listeners.get_mut(&number) else { return };
        info!(
            name: "listener_kept", address = entry.listener.bound_to(),
            "workers listen on {} themselves, so it stays open",
            entry.listener
        );
        entry.listener.disown();
    }
}

impl Engine {
    /// Listens where the configuration says now, and nowhere else.
    pub(in crate::engine) fn change_listeners(&mut self) {
        let wanted = self.config.listen.clone();
        for number in self.listeners.unwanted(&wanted) {
            if self.leave_to_workers(number) {
                self.listeners.disown(number);
            } else {
                self.listeners.retire(number, self.now + HANDSHAKES);
            }
        }
        let new = wanted.iter().filter(|listen| !self.listeners.asked().any(|own| own == *listen));
        for listen in new.cloned().collect::<Vec<_>>() {
            if let Err(error) = self.listen_too(&listen) {
                warn!(
                    name: "upgrade_incomplete", error = %format_args!("{error:#}"),
                    "{error:#}; going on without it"
                );
            }
        }
        self.give_listeners();
    }

    /// Accepts what has come to the listeners that are not wanted any more, then listens there no
    /// more. Their connections are served as all others are.
    pub(in crate::engine) fn close_retired(&mut self) {
        let retired: Vec<_> = self.listeners.retired().collect();
        self.listeners.retired_until = None;
        for number in retired {
            self.accept_backlog(number);
            self.listen_no_more(number);
        }
    }

    fn listen_too(&mut self, listen: &Listen) -> anyhow::Result<()> {
        for listener in open_listeners(&self.config, std::slice::from_ref(listen), self.defers)? {
            self.listeners.add(self.poll.registry(), listener)?;
        }
        Ok(())
    }
}
