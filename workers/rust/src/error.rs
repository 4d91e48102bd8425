//! What can go wrong on the worker's side.

use std::fmt;
use std::io;

use crate::message::MAX_KEY;

/// Why a call on a worker or a listener failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The environment announces a channel that cannot be used.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The other end of the channel is closed: there is nobody to tell. Stop.
    #[error("the supervisor is gone: stop this worker")]
    SupervisorGone,
    /// A session id that cannot be a key.
    #[error("a session id is 1 to {MAX_KEY} bytes long, this one has {0}: use a shorter id")]
    KeyLength(usize),
    /// A server that runs alone cannot have its address.
    #[error("cannot listen on {address}: give another address or stop what listens there")]
    Listen {
        /// The address as it was given.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn listen(address: &dyn fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let address = address.to_string();
        move |source| Self::Listen { address, source }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Why the environment gives no channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// `STICKY_CHANNEL` is not set.
    #[error("not under sticky-run: STICKY_CHANNEL is not set; start with `sticky-run -- COMMAND`")]
    Unset,
    /// The variables are those of a parent process, which kept its channel to itself.
    #[error(
        "not a worker of sticky-run: descriptor {0} of STICKY_CHANNEL belongs to a parent process"
    )]
    Inherited(i32),
    /// A variable has a value that no sticky-run sets.
    #[error("{name} is {value:?}, not {expected}: leave the variables of sticky-run as they are")]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// Its value, empty when it is not set.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// The supervisor speaks another version of the protocol.
    #[error("sticky-run speaks protocol {0:?}, this worker speaks 1: build both of one release")]
    Protocol(String),
    /// The descriptor is the announced one, yet it cannot be used as a channel.
    #[error("descriptor {fd} of STICKY_CHANNEL cannot be used as a channel")]
    Channel {
        /// The descriptor's number.
        fd: i32,
        /// What the operating system said.
        source: io::Error,
    },
}

impl EnvironmentError {
    /// Whether this process simply was not started by sticky-run, so that a server may listen for
    /// itself. Everything else is a fault that should be seen.
    pub fn is_alone(&self) -> bool {
        matches!(self, Self::Unset | Self::Inherited(_))
    }
}
