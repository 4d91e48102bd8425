//! The blocking worker.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::channel::Until;
use crate::connection::Connection;
use crate::core::{Core, Next};
use crate::environment;
use crate::error::Error;
use crate::keys::Keys;
use crate::patience;
use crate::session::{Session, Sessions, wait_sent};

/// This process as a worker of sticky-run. Share it by reference or `Arc`: any number of threads may
/// accept.
pub struct Worker {
    core: Arc<Core>,
    /// Held by the thread that waits, so that one thread wakes for a connection and not all.
    turn: Mutex<()>,
}

impl Worker {
    /// The worker that the environment describes.
    ///
    /// The descriptor of the channel becomes close-on-exec: children of the worker have no part in it.
    /// Call it once in a process.
    ///
    /// # Errors
    ///
    /// [`Error::Environment`]; its [`is_alone`](crate::EnvironmentError::is_alone) tells a process that
    /// sticky-run did not start from one whose environment is broken.
    pub fn from_env() -> Result<Self, Error> {
        Self::of(environment::channel()?, environment::keys())
    }

    /// The worker on this channel, an `AF_UNIX` `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the thread that reports closed connections cannot be started.
    pub fn new(channel: OwnedFd) -> Result<Self, Error> {
        Self::of(channel, None)
    }

    /// The same, with a supervisor that places connections by these keys, written as the value of
    /// `STICKY_CHANNEL_KEYS`: connections whose next request belongs to another worker go back to it.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn with_keys(channel: OwnedFd, keys: &str) -> Result<Self, Error> {
        Self::of(channel, Keys::parse(keys))
    }

    fn of(channel: OwnedFd, keys: Option<Keys>) -> Result<Self, Error> {
        Ok(Self { core: Core::new(channel, keys)?, turn: Mutex::new(()) })
    }

    /// Waits for the next connection. The first call tells the supervisor that this worker is ready,
    /// so call it when the server can serve.
    ///
    /// `Ok(None)` means that the supervisor is gone: stop. While the worker drains, the connections
    /// of its own keys still come, so go on accepting: the supervisor sends SIGTERM when they are
    /// closed, or when the time to drain or the grace nears its end. Without a free descriptor the connections wait in the
    /// channel, this call waits with them, and standard error says so once in 5 seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the channel fails otherwise.
    pub fn accept(&self) -> Result<Option<Connection>, Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.core.ready()?;
        loop {
            match self.core.next()? {
                Next::Arrival(arrival) => match Connection::from_arrival(arrival) {
                    Ok(connection) => return Ok(Some(connection)),
                    Err(error) => self.core.complain("serve a connection", &error),
                },
                Next::Drain => {}
                Next::Empty => self
                    .core
                    .channel()
                    .wait(Until::Readable, None)
                    .map_err(Error::io("wait for the supervisor"))?,
                Next::Starved(time) => patience::sleep(time),
                Next::End => return Ok(None),
            }
        }
    }

    /// Whether the supervisor has said that no new keys will come. Heard inside
    /// [`accept`](Self::accept). A server that keeps connections open between requests can close each
    /// after its next answer from now on.
    pub fn draining(&self) -> bool {
        self.core.draining()
    }

    /// The handle that announces sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions::of(&self.core)
    }

    /// See [`Sessions::session`].
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::session`].
    pub fn session(&self, id: &str) -> Result<Session, Error> {
        self.sessions().session(id)
    }

    /// Gives a connection back, to be placed again. Nothing may have been read from it: bytes that
    /// were are lost to whoever gets it next. It no longer counts as this worker's.
    ///
    /// # Errors
    ///
    /// [`Error::SupervisorGone`] and [`Error::Io`]; the connection is closed then.
    pub fn back(&self, connection: Connection) -> Result<(), Error> {
        let (stream, accepted) = connection.take_apart();
        stream.set_nonblocking(false).map_err(Error::io("make a connection blocking again"))?;
        let ticket = self.core.back(stream.into_fd(), accepted.open)?;
        wait_sent(&self.core, ticket)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("draining", &self.draining()).finish_non_exhaustive()
    }
}
