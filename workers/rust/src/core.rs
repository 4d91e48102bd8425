//! What blocking and asynchronous workers share: the channel, what is still to be said, and the
//! meaning of what comes in. Nothing here waits.

use std::error;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::accepted::Accepted;
use crate::channel::{Channel, Received, Until};
use crate::coalesce::{self, Bell, Left};
use crate::error::Error;
use crate::keepalive::{Kept, Looking};
use crate::keys::Keys;
use crate::message::{FromWorker, Key, MAX_MESSAGE, ToWorker};
use crate::outbox::{Flushed, Outbox, Ticket};
use crate::owned::OwnedKeys;
use crate::patience::{self, Patience};
use crate::peek;

/// How long the sending thread waits for room before it looks whether anybody still needs it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const NO_DESCRIPTOR: &str =
    "no free file descriptor, connections wait in the channel: raise `ulimit -n` or close some";

/// A connection as it came out of the channel.
pub(crate) struct Arrival {
    pub(crate) fd: OwnedFd,
    pub(crate) accepted: Accepted,
}

/// What the next step of an accept found.
pub(crate) enum Next {
    /// A connection.
    Arrival(Arrival),
    /// `DRAIN` was read; go on.
    Drain,
    /// Nothing more; wait until the channel is readable.
    Empty,
    /// No descriptor is free; wait this long.
    Starved(Duration),
    /// The supervisor is gone.
    End,
}

pub(crate) struct Core {
    channel: Channel,
    outbox: Outbox,
    bell: Arc<Bell>,
    patience: Patience,
    /// Held while a datagram is taken: see [`Channel::receive`].
    receiving: Mutex<()>,
    /// Whether `READY` is said.
    ready: AtomicBool,
    /// Whether `DRAIN` was heard.
    draining: AtomicBool,
    /// What the supervisor places connections by, if it takes those back whose next request is another worker's.
    keys: Option<Keys>,
    /// The keys that live here, if that matters.
    owned: Mutex<OwnedKeys>,
    /// Whether the server has read from the sockets themselves.
    unwatched: AtomicBool,
}

impl Core {
    pub(crate) fn new(socket: OwnedFd, keys: Option<Keys>) -> Result<Arc<Self>, Error> {
        let core = Arc::new(Self {
            channel: Channel::new(socket),
            outbox: Outbox::default(),
            bell: Arc::default(),
            patience: Patience::default(),
            receiving: Mutex::new(()),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            keys,
            owned: Mutex::default(),
            unwatched: AtomicBool::new(false),
        });
        let this = Arc::downgrade(&core);
        let send = move || this.upgrade().map_or(Left::Nobody, |core| core.send_left());
        coalesce::start(Arc::clone(&core.bell), send)
            .map_err(Error::io("start the thread that reports closed connections"))?;
        Ok(core)
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Says `READY`, the first time.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        if !self.ready.swap(true, Ordering::Relaxed) {
            self.say(FromWorker::Ready)?;
        }
        Ok(())
    }

    /// Reads the channel up to the next thing that matters to an accept.
    pub(crate) fn next(self: &Arc<Self>) -> Result<Next, Error> {
        let mut buffer = [0; MAX_MESSAGE + 1];
        loop {
            let _turn = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
            let received = self.channel.receive(&mut buffer);
            match received.map_err(Error::io("receive from the supervisor"))? {
                Received::Datagram { length, fd, lost } => {
                    if let Some(next) = self.take(&buffer[..length], fd, lost)? {
                        self.patience.reset();
                        return Ok(next);
                    }
                }
                Received::Empty => {
                    self.flush_all()?;
                    return Ok(Next::Empty);
                }
                Received::Starved => {
                    self.flush_all()?;
                    return Ok(Next::Starved(self.patience.wait(NO_DESCRIPTOR)));
                }
                Received::End => return Ok(Next::End),
            }
        }
    }

    /// The meaning of one datagram; what has none for this version is ignored.
    fn take(
        self: &Arc<Self>,
        datagram: &[u8],
        fd: Option<OwnedFd>,
        lost: bool,
    ) -> Result<Option<Next>, Error> {
        match (ToWorker::parse(datagram), fd) {
            (Ok(Some(ToWorker::Conn { client, listener })), Some(fd)) => {
                let open = Open { core: Some(Arc::clone(self)), is_back: AtomicBool::new(false) };
                let accepted = Accepted { client, listener, open };
                Ok(Some(Next::Arrival(Arrival { fd, accepted })))
            }
            (Ok(Some(ToWorker::Conn { .. })), None) if lost => {
                // Another thread took the reserved number in between. The supervisor counts on us.
                self.patience.wait(NO_DESCRIPTOR);
                self.count_closed();
                Ok(None)
            }
            (Ok(Some(ToWorker::Drain)), _) => {
                self.draining.store(true, Ordering::Release);
                Ok(Some(Next::Drain))
            }
            (Ok(Some(ToWorker::Ping)), _) => self.say(FromWorker::Pong).map(|_| None),
            (Ok(Some(ToWorker::Conn { .. }) | None) | Err(_), _) => Ok(None),
        }
    }

    /// Says something without waiting for room.
    pub(crate) fn say(&self, message: FromWorker) -> Result<Ticket, Error> {
        self.say_with(message, None)
    }

    fn say_with(&self, message: FromWorker, fd: Option<OwnedFd>) -> Result<Ticket, Error> {
        if self.keys.is_some() {
            match &message {
                FromWorker::Session(key) => self.owned().announce(key.as_bytes()),
                FromWorker::End(key) => self.owned().end(key.as_bytes()),
                FromWorker::Ready
                | FromWorker::Closed(_)
                | FromWorker::Back { .. }
                | FromWorker::Pong => {}
            }
        }
        self.send(message, fd)
    }

    fn send(&self, message: FromWorker, fd: Option<OwnedFd>) -> Result<Ticket, Error> {
        let ticket = self.outbox.push(message, fd);
        if self.outbox.flush(&self.channel)? != Flushed::Everything {
            self.bell.ring();
        }
        Ok(ticket)
    }

    /// Whether every request is looked at, so that connections can be kept open.
    #[cfg(feature = "tower")]
    pub(crate) fn is_watching(&self) -> bool {
        self.keys.is_some() && !self.unwatched.load(Ordering::Relaxed)
    }

    fn owned(&self) -> MutexGuard<'_, OwnedKeys> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the supervisor of keys that an answer gives out. They are its to remember: here they count as
    /// routed, since nobody says when they are over.
    fn announce_given(&self, keys: Vec<Box<[u8]>>) -> Result<Option<Ticket>, Error> {
        let mut ticket = None;
        // A longer one is nobody's.
        for key in keys.into_iter().filter_map(Key::new) {
            ticket = Some(self.send(FromWorker::Session(key), None)?);
        }
        Ok(ticket)
    }

    /// Gives a connection back from which nothing was read. It is no longer this worker's.
    pub(crate) fn back(&self, socket: OwnedFd, open: Open) -> Result<Ticket, Error> {
        let ticket = self.say_with(FromWorker::Back { next: false }, Some(socket))?;
        open.is_back.store(true, Ordering::Relaxed);
        Ok(ticket)
    }

    /// Gives a connection back for its next request.
    fn give_back(&self, socket: &impl AsFd) -> Result<(), Error> {
        let failed = || Error::io("give a connection back");
        peek::can_send(socket).map_err(failed())?;
        let socket = socket.as_fd().try_clone_to_owned().map_err(failed())?;
        peek::make_blocking(&socket).map_err(failed())?;
        self.say_with(FromWorker::Back { next: true }, Some(socket)).map(drop)
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&self) -> Result<Flushed, Error> {
        self.outbox.flush(&self.channel)
    }

    pub(crate) fn flush_all(&self) -> Result<Flushed, Error> {
        let flushed = self.outbox.flush_all(&self.channel)?;
        if flushed != Flushed::Everything {
            self.bell.ring();
        }
        Ok(flushed)
    }

    pub(crate) fn is_sent(&self, ticket: Ticket) -> Result<bool, Error> {
        self.outbox.is_sent(ticket)
    }

    fn count_closed(&self) {
        if self.outbox.count_closed() {
            self.bell.ring();
        }
    }

    /// Sends all there is, from the sending thread.
    fn send_left(&self) -> Left {
        match self.flush_all() {
            Ok(Flushed::Everything) => return Left::Nothing,
            Ok(Flushed::Later) => {}
            Ok(Flushed::Full) => {
                if let Err(error) = self.channel.wait(Until::Writable, Some(LOOK_AGAIN)) {
                    self.complain("wait for room in the channel", &error);
                }
            }
            Err(error) => self.complain("send to the supervisor", &error),
        }
        Left::Something
    }

    /// Tells of a fault that no caller can be given.
    pub(crate) fn complain(&self, action: &str, error: &dyn error::Error) {
        self.patience.wait(&format!("cannot {action}: {error}"));
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The last word of a worker that goes on without its channel. Nobody is left to hear of a
        // failure, and a supervisor that sees the end of file counts all connections as closed.
        drop(self.outbox.flush_all(&self.channel));
        self.bell.end();
    }
}

/// Stands for one open connection: dropping it counts the connection as closed.
///
/// Drop it after the socket. A connection of a listener that this process bound itself has nobody to
/// tell, and its `Open` does nothing.
#[must_use = "dropping it tells the supervisor that the connection is closed"]
pub struct Open {
    core: Option<Arc<Core>>,
    /// The connection is no longer this worker's to count.
    is_back: AtomicBool,
}

impl Open {
    /// For a connection that no supervisor knows of.
    pub(crate) fn alone() -> Self {
        Self { core: None, is_back: AtomicBool::new(false) }
    }

    /// Whether its requests are looked at.
    pub(crate) fn is_watched(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.keys.is_some())
    }

    /// The server reads from the socket itself.
    pub(crate) fn note_unwatched(&self) {
        if let Some(core) = &self.core {
            core.unwatched.store(true, Ordering::Relaxed);
        }
    }

    /// What is looked for on this connection.
    pub(crate) fn looking(&self, has_address: bool) -> Option<Looking<'_>> {
        let core = self.core.as_ref()?;
        let keys = core.keys.as_ref()?;
        Some(Looking { keys, owned: &core.owned, now: patience::now(), has_address })
    }

    /// Whether a message found no room in the channel yet. Nobody has to wait for one that nobody hears.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_to_be_sent(&self, ticket: Ticket) -> bool {
        let Some(core) = &self.core else { return false };
        core.flush().is_ok() && matches!(core.is_sent(ticket), Ok(false))
    }

    /// Announces what an answer that is about to be written gives out. The ticket is to be sent before.
    pub(crate) fn announce(
        &self,
        kept: &Kept,
        buffers: &[IoSlice<'_>],
        has_address: bool,
    ) -> Option<(&Arc<Core>, Ticket)> {
        let core = self.core.as_ref()?;
        let looking = self.looking(has_address).filter(|looking| looking.keys.are_given_out())?;
        match core.announce_given(kept.gives_out(buffers, &looking)) {
            Ok(ticket) => ticket.map(|ticket| (core, ticket)),
            Err(error) => {
                core.complain("announce a key", &error);
                None
            }
        }
    }

    /// Gives the connection back for its next request. If that cannot be, it ends here as one that
    /// was closed between two requests, which clients try again.
    pub(crate) fn give_back(&self, socket: &impl AsFd) {
        let Some(core) = &self.core else { return };
        match core.give_back(socket) {
            Ok(()) => self.is_back.store(true, Ordering::Relaxed),
            // The client has gone meanwhile.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => core.complain("send a request to its worker", &error),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(core) = &self.core
            && !self.is_back.load(Ordering::Relaxed)
        {
            core.count_closed();
        }
    }
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("counted", &self.core.is_some()).finish()
    }
}

/// The key that a session id is.
pub(crate) fn key(id: &str) -> Result<Key, Error> {
    Key::new(id).ok_or(Error::KeyLength(id.len()))
}
