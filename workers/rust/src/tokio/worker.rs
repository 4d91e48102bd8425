//! The worker for tokio.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use ::tokio::io::unix::AsyncFd;
use ::tokio::sync::watch;
use ::tokio::time::sleep;

use super::connection::Connection;
use super::session::{Sessions, wait_sent};
use crate::connection as blocking;
use crate::core::{Core, Next};
use crate::environment;
use crate::error::Error;
use crate::message::FromWorker;
use crate::session::Session;

/// This process as a worker of sticky-run. Clones are the same worker; any number of tasks may
/// accept.
#[derive(Clone)]
pub struct Worker {
    link: Arc<Link>,
}

/// The channel in a runtime.
pub(super) struct Link {
    fd: AsyncFd<Registered>,
    phase: watch::Sender<Phase>,
}

/// The channel as the runtime's poller sees it.
pub(super) struct Registered(Arc<Core>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.channel().as_fd()
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Serving,
    Draining,
    Gone,
}

impl Worker {
    /// The worker that the environment describes. Call it once in a process, inside the runtime.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Worker::from_env`], and [`Error::Io`] when the runtime does not take the
    /// channel.
    pub fn from_env() -> Result<Self, Error> {
        Self::new(environment::channel()?)
    }

    /// The worker on this channel, an `AF_UNIX` `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the thread that reports closed connections cannot be started or the runtime
    /// does not take the channel.
    pub fn new(channel: OwnedFd) -> Result<Self, Error> {
        let core = Core::new(channel)?;
        let fd = register(core).map_err(Error::io("register the channel with the runtime"))?;
        let (phase, _) = watch::channel(Phase::Serving);
        Ok(Self { link: Arc::new(Link { fd, phase }) })
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
            let mut readable = self.link.fd.readable().await.map_err(Error::io("poll"))?;
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
        *self.link.phase.borrow() != Phase::Serving
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
        let (stream, open) = connection.into_parts();
        let stream = stream.into_blocking().map_err(Error::io("take a connection back"))?;
        let ticket = self.link.core().say_with(FromWorker::Back, Some(stream.into_fd()))?;
        open.forget();
        wait_sent(&self.link, ticket).await
    }
}

#[expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor")]
fn register(core: Arc<Core>) -> io::Result<AsyncFd<Registered>> {
    // SAFETY: the descriptor is owned by the core, always the same one, and open as long as the core
    // that moves in here.
    unsafe { AsyncFd::register(Registered(core)) }.map_err(io::Error::from)
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("phase", &*self.link.phase.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.fd.get_ref().0
    }

    pub(super) fn fd(&self) -> &AsyncFd<Registered> {
        &self.fd
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    fn reached(self: &Arc<Self>, phase: Phase) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.phase.subscribe();
        // The link lives as long as somebody waits, so that the wait cannot end by its drop.
        let link = Arc::clone(self);
        async move {
            let reached = changes.wait_for(|now| *now >= phase).await.map(drop);
            reached.expect("the sender is in the link, which is held here");
            drop(link);
        }
    }
}
