//! Accepting: from the listeners, for as long as there is room.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use nix::libc;
use tracing::{info, warn};

use crate::engine::connection::Socket;
use crate::engine::{Connection, Engine};
use crate::logic::route::ListenerId;
use crate::os::closing::Foreign;
use crate::os::listen::{Accepted, Listener};

/// Connections accepted from one listener before others get their turn.
const BATCH: usize = 64;
/// Connections accepted from all listeners before everything else gets its turn.
const TURN: usize = 1024;
/// The rest after the system had no descriptor or no memory for a connection, or a listener failed.
const REST: Duration = Duration::from_millis(100);
/// Connections accepted from one listener before it is closed: more than any backlog holds.
const WHOLE_BACKLOG: usize = 1 << 17;
/// From letting nobody new in to the close: for handshakes that have begun, which take as long as
/// a packet to the client and one back.
pub(super) const HANDSHAKES: Duration = Duration::from_millis(20);
/// Errors that were pending on a new connection and say nothing about the listener (`accept(2)`).
const OF_ONE_CONNECTION: [i32; 10] = [
    libc::ECONNABORTED,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EINTR,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPROTO,
];

/// What became of one attempt to accept.
enum Attempt {
    Accepted(Accepted),
    /// This connection failed before it was accepted; the next one may be there.
    Aborted,
    Empty,
    Failed(io::Error),
}

impl Engine {
    /// Accepts from every listener that has something.
    pub(in crate::engine) fn accept_all(&mut self) {
        if self.listeners.resting_until.is_some_and(|until| self.now < until) {
            return;
        }
        self.listeners.resting_until = None;
        let ready = self.listeners.ready();
        let batch = (TURN / ready.len().max(1)).clamp(1, BATCH);
        for number in ready {
            self.accept_some(number, batch);
        }
    }

    /// Accepts what has come to listeners before they were replaced, as soon as there is room for it.
    pub(in crate::engine) fn accept_from_replaced(&mut self) {
        if self.listeners.resting_until.is_some_and(|until| self.now < until) {
            return;
        }
        for (number, listener) in mem::take(&mut self.listeners.replaced) {
            if !self.accept_rest(number, &listener) {
                self.listeners.replaced.push((number, listener));
            }
        }
    }

    /// Accepts everything that has come to a listener; returns whether that was possible.
    fn accept_rest(&mut self, number: u32, listener: &Listener) -> bool {
        for _ in 0..WHOLE_BACKLOG {
            if self.is_full() {
                return false;
            }
            match attempt(listener) {
                Attempt::Accepted(accepted) => {
                    self.arrive(number, listener.is_deferred(), accepted);
                }
                Attempt::Aborted => {}
                Attempt::Empty => break,
                Attempt::Failed(error) => {
                    self.rest(&error);
                    return false;
                }
            }
        }
        true
    }

    /// Lets nobody new in and closes a little later, so that nobody whom the kernel has let in is
    /// reset.
    pub(in crate::engine) fn close_listeners_soon(&mut self) {
        self.listeners.closing_at = Some(self.now + HANDSHAKES);
        self.listeners.let_nobody_in();
    }

    /// Accepts what the kernel has already completed, as far as there is room for it, then listens
    /// no more.
    pub(in crate::engine) fn close_listeners(&mut self) {
        self.listeners.closing_at = None;
        for number in self.listeners.numbers() {
            self.accept_backlog(number);
        }
        for number in self.listeners.numbers() {
            self.drop_listener(number);
        }
    }

    /// Accepts what the kernel has already completed, as far as there is room for it.
    pub(in crate::engine) fn accept_backlog(&mut self, number: u32) {
        // Whether or not the loop has said so yet.
        self.listeners.became_readable(number);
        self.accept_some(number, WHOLE_BACKLOG);
    }

    /// Listens no more with this number. Nobody waits for what it leads to any more.
    pub(in crate::engine) fn close_listener(&mut self, number: u32) {
        self.listen_no_more(number);
        for conn in self.router.close_listener(ListenerId(number)) {
            self.waiting.remove(&conn);
        }
        for conn in self.pending.of_listener(number) {
            self.close_pending(conn);
        }
    }

    /// Closes a listener while all else goes on, and says so.
    pub(in crate::engine) fn listen_no_more(&mut self, number: u32) {
        if let Some(listener) = self.listeners.get(number) {
            info!(
                name: "listener_closed", address = listener.bound_to(),
                "listening on {listener} no more"
            );
        }
        self.drop_listener(number);
    }

    fn drop_listener(&mut self, number: u32) {
        let Some(listener) = self.listeners.remove(number) else { return };
        // The descriptor may be inherited and so be open elsewhere: closing is not enough.
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&listener.as_raw_fd())) {
            warn!(
                name: "listener_watch_failed", address = listener.bound_to(),
                "cannot stop waiting on {listener}: {error}"
            );
        }
    }

    fn accept_some(&mut self, number: u32, most: usize) {
        for _ in 0..most {
            if self.is_full() {
                return;
            }
            let Some(listener) = self.listeners.get_ready(number) else { return };
            let deferred = listener.is_deferred();
            match attempt(listener) {
                Attempt::Accepted(accepted) => self.arrive(number, deferred, accepted),
                Attempt::Aborted => {}
                Attempt::Empty => self.listeners.has_nothing(number),
                Attempt::Failed(error) => {
                    self.rest(&error);
                    return;
                }
            }
        }
    }

    fn arrive(&mut self, listener: u32, deferred: bool, accepted: Accepted) {
        let Accepted { socket, client, brings_descriptors } = accepted;
        let socket = if brings_descriptors {
            Foreign::from_client(socket).into()
        } else {
            Socket::from(socket)
        };
        let prefaced = self.origins.is_prefaced(client);
        let listener = Some(listener);
        let connection = Connection { prefaced, listener, ..Connection::new(socket, client) };
        self.route(connection, None, deferred);
    }

    fn rest(&mut self, error: &io::Error) {
        let listeners = &mut self.listeners;
        listeners.resting_until = Some(self.now + REST);
        if let Some(before) = listeners.no_room.say(self.now) {
            let full = error.raw_os_error() == Some(libc::EMFILE);
            let hint = if full { "raise the limit on open files; " } else { "" };
            warn!(
                name: "accept_paused", %error, suppressed = before,
                "cannot accept: {error}; clients wait in the backlog, trying again every {} ms \
                 ({hint}{before} earlier times not shown)",
                REST.as_millis()
            );
        }
    }
}

fn attempt(listener: &Listener) -> Attempt {
    match listener.accept() {
        Ok(accepted) => Attempt::Accepted(accepted),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Empty,
        Err(error) => match error.raw_os_error() {
            Some(errno) if OF_ONE_CONNECTION.contains(&errno) => Attempt::Aborted,
            _ => Attempt::Failed(error),
        },
    }
}
