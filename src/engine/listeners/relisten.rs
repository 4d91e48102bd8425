//! Listening elsewhere after an upgrade: an address that is not asked for any more is closed as in a
//! stop, so that whoever came there is served; one that is new is opened.

use mio::Registry;
use tracing::{info, warn};

use super::{Entry, HANDSHAKES, Listeners};
use crate::logic::config::Listen;
use crate::logic::time::Time;
use crate::os::listen::{ListenError, Listener};

impl Listeners {
    /// When to close those that are retired.
    pub(in crate::engine) fn retired_until(&self) -> Option<Time> {
        self.retired_until
    }

    /// Those that are to be closed now, once all was accepted that has come there.
    pub(in crate::engine) fn take_retired(&mut self) -> Vec<u32> {
        let retired = self.retired().collect();
        self.retired_until = None;
        retired
    }

    /// Those that let nobody new in, and are to be closed.
    pub(super) fn retired(&self) -> impl Iterator<Item = u32> {
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
                "cannot shut {} down before closing it, clients may be reset: {error}",
                entry.listener
            );
        }
    }

    /// The user does not ask for one of them any more, but workers do.
    fn disown(&mut self, number: u32) {
        let Some(entry) = self.listeners.get_mut(&number) else { return };
        info!(
            name: "listener_kept", address = entry.listener.bound_to(),
            "{} stays open: workers listen there themselves",
            entry.listener
        );
        entry.listener.disown();
    }

    /// Listens where the user wants it now, and nowhere else.
    pub(in crate::engine) fn relisten(
        &mut self,
        now: Time,
        registry: &Registry,
        wanted: &[Listen],
        open: impl Fn(&Listen) -> Result<Vec<Listener>, ListenError>,
    ) {
        for number in self.unwanted(wanted) {
            if self.requested.disown(number) {
                self.disown(number);
            } else {
                self.retire(number, now + HANDSHAKES);
            }
        }
        let new = wanted.iter().filter(|listen| !self.asked().any(|own| own == *listen));
        for listen in new.cloned().collect::<Vec<_>>() {
            if let Err(error) = self.listen_too(registry, open(&listen)) {
                warn!(
                    name: "upgrade_incomplete", error = %format_args!("{error:#}"),
                    "{error:#}; continuing without it"
                );
            }
        }
        self.requested.give(self.given());
    }

    fn listen_too(
        &mut self,
        registry: &Registry,
        opened: Result<Vec<Listener>, ListenError>,
    ) -> anyhow::Result<()> {
        for listener in opened? {
            self.add(registry, listener)?;
        }
        Ok(())
    }
}
