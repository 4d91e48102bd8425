//! The listener of a server that runs under sticky-run or alone, for tokio.

use std::fmt;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};

use ::tokio::net::TcpListener;
use ::tokio::time::sleep;

use super::connection::Connection;
use super::session::Sessions;
use super::worker::Worker;
use crate::error::Error;
use crate::listener::{or_alone, wait_after};
use crate::patience::Patience;

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
    /// that the same binary works both ways. Looking up a name blocks; an address does not.
    ///
    /// # Errors
    ///
    /// [`Error::Environment`] when the variables of sticky-run are there and broken: such a server
    /// does not silently bind. [`Error::Listen`] when the address cannot be bound.
    pub fn from_env_or_bind(address: impl ToSocketAddrs + fmt::Display) -> Result<Self, Error> {
        let bind = || bind(&address).map(Self::alone).map_err(Error::listen(&address));
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
    pub async fn accept(&self) -> Result<Option<Connection>, Error> {
        match self {
            Self::Worker(worker) => worker.accept().await,
            Self::Alone(alone) => alone.accept().await.map(Some),
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
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        let draining = self.worker().map(Worker::draining);
        async move {
            match draining {
                Some(draining) => draining.await,
                None => pending().await,
            }
        }
    }

    /// See [`Worker::gone`]; never, alone.
    pub fn gone(&self) -> impl Future<Output = ()> + Send + 'static {
        let gone = self.worker().map(Worker::gone);
        async move {
            match gone {
                Some(gone) => gone.await,
                None => pending().await,
            }
        }
    }

    /// The handle that announces sessions.
    pub fn sessions(&self) -> Sessions {
        self.worker().map_or_else(Sessions::alone, Worker::sessions)
    }

    fn worker(&self) -> Option<&Worker> {
        match self {
            Self::Worker(worker) => Some(worker),
            Self::Alone(_) => None,
        }
    }
}

impl Alone {
    async fn accept(&self) -> Result<Connection, Error> {
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    self.patience.reset();
                    return Ok(Connection::alone(stream, client));
                }
                Err(error) => sleep(wait_after(error, &self.patience)?).await,
            }
        }
    }
}

fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
