//! The blocking listener of a server that runs under sticky-run or alone.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use nix::errno::Errno;

use crate::connection::{Connection, Stream};
use crate::error::Error;
use crate::patience::{self, Patience};
use crate::session::Sessions;
use crate::worker::Worker;

/// Where connections come from: the channel, or a socket of this process.
#[derive(Debug)]
pub enum Listener {
    /// Under sticky-run.
    Worker(Worker),
    /// Alone.
    Alone(Alone),
}

/// A listening socket of this process.
#[derive(Debug)]
pub struct Alone {
    listener: TcpListener,
    patience: Patience,
}

impl Listener {
    /// The channel if sticky-run started this process, otherwise a socket bound to this address, so
    /// that the same binary works both ways.
    ///
    /// # Errors
    ///
    /// [`Error::Environment`] when the variables of sticky-run are there and broken: such a server
    /// does not silently bind. [`Error::Listen`] when the address cannot be bound.
    pub fn from_env_or_bind(address: impl ToSocketAddrs + fmt::Display) -> Result<Self, Error> {
        let bind = || TcpListener::bind(&address).map(Self::alone).map_err(Error::listen(&address));
        or_alone(Worker::from_env().map(Self::Worker), bind)
    }

    /// The listener over a socket that this process has bound itself.
    pub fn alone(listener: TcpListener) -> Self {
        Self::Alone(Alone { listener, patience: Patience::default() })
    }

    /// Waits for the next connection, as [`Worker::accept`] does. Alone it never returns `Ok(None)`.
    ///
    /// # Errors
    ///
    /// Those of [`Worker::accept`]; alone, those of `accept(2)` that do not pass by themselves.
    pub fn accept(&self) -> Result<Option<Connection>, Error> {
        match self {
            Self::Worker(worker) => worker.accept(),
            Self::Alone(alone) => alone.accept().map(Some),
        }
    }

    /// The address of the socket of this process; none under sticky-run, where the supervisor
    /// listens.
    pub fn local_addr(&self) -> Option<io::Result<SocketAddr>> {
        match self {
            Self::Worker(_) => None,
            Self::Alone(alone) => Some(alone.listener.local_addr()),
        }
    }

    /// See [`Worker::draining`]; never, alone.
    pub fn draining(&self) -> bool {
        match self {
            Self::Worker(worker) => worker.draining(),
            Self::Alone(_) => false,
        }
    }

    /// The handle that announces sessions.
    pub fn sessions(&self) -> Sessions {
        match self {
            Self::Worker(worker) => worker.sessions(),
            Self::Alone(_) => Sessions::alone(),
        }
    }
}

impl Alone {
    fn accept(&self) -> Result<Connection, Error> {
        loop {
            match self.listener.accept() {
                Ok((stream, client)) => {
                    self.patience.reset();
                    return Ok(Connection::alone(Stream::Tcp(stream), Some(client)));
                }
                Err(error) => patience::sleep(wait_after(error, &self.patience)?),
            }
        }
    }
}

/// The worker's listener, or another one where sticky-run did not start this process.
pub(crate) fn or_alone<T>(
    worker: Result<T, Error>,
    alone: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    match worker {
        Err(Error::Environment(error)) if error.is_alone() => alone(),
        worker => worker,
    }
}

/// How long to wait after an accept that has failed. An error is one that does not pass by itself.
pub(crate) fn wait_after(error: io::Error, patience: &Patience) -> Result<Duration, Error> {
    // What is lacked is something that closing connections gives back.
    let lacks = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) if lacks.contains(&errno) => Ok(patience.wait(
            "no free file descriptor or memory, connections wait: raise `ulimit -n` or close some",
        )),
        Some(Errno::ECONNABORTED) => Ok(Duration::ZERO),
        Some(_) | None => Err(Error::io("accept a connection")(error)),
    }
}
