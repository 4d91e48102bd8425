//! The blocking listener of a server that runs under sticky-run or alone.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

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
        match Worker::from_env() {
            Ok(worker) => Ok(Self::Worker(worker)),
            Err(Error::Environment(error)) if error.is_alone() => {
                let bound = TcpListener::bind(&address);
                Ok(Self::alone(bound.map_err(Error::listen(&address))?))
            }
            Err(error) => Err(error),
        }
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
                Err(error) if is_lack(&error) => patience::sleep(self.patience.wait(LACK)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(Error::io("accept a connection")(error)),
            }
        }
    }
}

pub(crate) const LACK: &str =
    "no free file descriptor or memory, connections wait: raise `ulimit -n` or close some";

/// Whether an accept failed for want of something that closing connections gives back.
pub(crate) fn is_lack(error: &io::Error) -> bool {
    let lacks = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| lacks.contains(&Errno::from_raw(code)))
}
