//! The worker for tokio.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ::tokio::time::sleep;

use super::connection::Connection;
use super::link::{Link, Phase, wait_sent};
use super::session::Sessions;
use crate::connection as blocking;
use crate::core::{Core, Next};
use crate::environment;
use crate::error::Error;
use crate::keys::Keys;
use crate::session::Session;

/// This process as a worker of sticky-run. Clones are the same worker; any number of tasks may
/// accept.
#[derive(Clone)]
pub struct Worker {
    link: Arc<Link>,
}

impl Worker {
    /// The worker that the environment describes. Call it once in a process, inside the runtime.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Worker::from_env`], and [`Error::Io`] when the runtime does not take the
    /// channel.
    pub fn from_env() -> Result<Self, Error> {
        Self::of(environment::channel()?, environment::keys())
    }

    /// The worker on this channel, an `AF_UNIX` `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the thread that reports closed connections cannot be started or the runtime
    /// does not take the channel.
    pub fn new(channel: OwnedFd) -> Result<Self, Error> {
        Self::of(channel, None)
    }

    /// The same with keys, as [`crate::Worker::with_keys`].
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn with_keys(channel: OwnedFd, keys: &str) -> Result<Self, Error> {
        Self::of(channel, Keys::parse(keys))
    }

    fn of(channel: OwnedFd, keys: Option<Keys>) -> Result<Self, Error> {
        let link = Link::new(Core::new(channel, keys)?);
        Ok(Self {
            link: Arc::new(link.map_err(Error::io("register the channel with the runtime"))?),
        })
    }

    /// Waits for the next connection, as [`crate::Worker::accept`] does: the first call says that this
    /// worker is ready, and `Ok(None)` means that the supervisor is gone.
    ///
    /// It may be cancelled: a connection is either returned or still in the channel.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the channel fails otherwise.
    pub async fn accept(&self) -> Result<Option<Connection>, Error> {
        let core = self.link.core();
        core.ready()?;
        loop {
            let mut readable = self.link.fd().readable().await.map_err(Error::io("poll"))?;
            match core.next()? {
                Next::Arrival(arrival) => {
                    let taken = blocking::Connection::from_arrival(arrival);
                    match taken.and_then(Connection::from_blocking) {
                        Ok(connection) => return Ok(Some(connection)),
                        Err(error) => core.complain("serve a connection", &error),
                    }
                }
                Next::Drain => self.link.enter(Phase::Draining),
                Next::Empty => readable.clear_ready(),
                Next::Starved(time) => sleep(time).await,
                Next::End => {
                    self.link.enter(Phase::Gone);
                    return Ok(None);
                }
            }
        }
    }

    /// Whether the supervisor has said that no new keys will come, or is gone.
    pub fn is_draining(&self) -> bool {
        self.link.phase() != Phase::Serving
    }

    /// Waits for the drain, or for the end of the supervisor. Heard by [`accept`](Self::accept), so
    /// somebody has to be waiting there.
    ///
    /// Connections of this worker's own keys still come while it drains. A server that stops
    /// accepting at once loses none of them, since the supervisor places what is left in the channel
    /// again, but a session kept in memory is then met by another worker. Such a server goes on until
    /// SIGTERM or [`gone`](Self::gone).
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.link.reached(Phase::Draining)
    }

    /// Waits for the end of the supervisor, which [`accept`](Self::accept) sees.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        self.link.reached(Phase::Gone)
    }

    /// The handle that announces sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions::of(&self.link)
    }

    /// See [`Sessions::session`].
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::session`].
    pub async fn session(&self, id: &str) -> Result<Session, Error> {
        self.sessions().session(id).await
    }

    /// Gives an unread connection back, as [`crate::Worker::back`] does.
    ///
    /// # Errors
    ///
    /// [`Error::SupervisorGone`] and [`Error::Io`]; the connection is closed then.
    pub async fn back(&self, connection: Connection) -> Result<(), Error> {
        let (stream, open) = connection.take_apart();
        let stream = stream.into_blocking().map_err(Error::io("take a connection back"))?;
        let ticket = self.link.core().back(stream.into_fd(), open)?;
        wait_sent(&self.link, ticket).await
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("phase", &self.link.phase()).finish_non_exhaustive()
    }
}
