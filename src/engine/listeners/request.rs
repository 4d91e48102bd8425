//! What servers of workers ask to listen on, and what they get, in words of no handoff.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::rc::Rc;

use mio::Registry;

use crate::logic::capacity::PortLimits as Allowed;
use crate::logic::config::ProcessConfig;
use crate::logic::core::First;
use crate::logic::time::Time;
use crate::os::listen::{Asked, Mode};

/// What a server of a worker asks to listen on.
#[derive(Debug)]
pub(in crate::engine) struct Request {
    /// The worker's number of the question.
    pub(in crate::engine) seq: u32,
    /// Servers that ask for the same name share what is opened.
    pub(in crate::engine) name: String,
    /// Where, for the log.
    pub(in crate::engine) place: String,
    pub(in crate::engine) ask: Ask,
    /// How many connections may wait in the kernel.
    pub(in crate::engine) backlog: i32,
    pub(in crate::engine) first: First,
    /// It speaks TLS.
    pub(in crate::engine) is_tls: bool,
    /// Whether everybody may read from a Unix socket, and write to it.
    pub(in crate::engine) open_to: (bool, bool),
    /// What it wants all to have that share it, which the first one decides; only the handoff reads it.
    pub(in crate::engine) shared: Option<Rc<[u8]>>,
}

/// What is asked for. An error is that of its address, and counts if it has to be opened.
#[derive(Debug)]
pub(in crate::engine) enum Ask {
    /// A TCP address, if its host can be read, and how to open it.
    Tcp { port: u16, ip: Option<IpAddr>, open: Result<Asked, Errno> },
    /// A path; for an abstract name, that after a null byte.
    Unix(PathBuf),
    /// A UDP socket, which all workers share.
    Udp { address: Result<SocketAddr, Errno>, only_v6: bool, reuse: bool },
    /// What the user named by this number.
    Descriptor(Option<RawFd>),
}

/// The number of an error.
pub(in crate::engine) type Errno = i32;

/// What a server gets.
#[derive(Debug)]
pub(in crate::engine) struct Granted {
    /// The listeners that lead to it.
    pub(in crate::engine) listeners: Vec<u32>,
    /// The address of the first of them that has one.
    pub(in crate::engine) address: Option<SocketAddr>,
    /// The UDP socket instead.
    pub(in crate::engine) socket: Option<Rc<OwnedFd>>,
    /// It was opened for this server.
    pub(in crate::engine) is_new: bool,
    /// What the first server wants all to have.
    pub(in crate::engine) shared: Option<Rc<[u8]>>,
}

/// What there is to know for opening something.
#[derive(Debug)]
pub(in crate::engine) struct Opening<'a> {
    pub(in crate::engine) now: Time,
    pub(in crate::engine) registry: &'a Registry,
    /// How much may be open for workers.
    pub(in crate::engine) allowed: Allowed,
    /// How many descriptors are on their way to this worker.
    pub(in crate::engine) on_their_way: usize,
    /// As whom the workers run.
    pub(in crate::engine) process: &'a ProcessConfig,
    /// How workers want their sockets.
    pub(in crate::engine) mode: Mode,
    /// Listeners may hold back connections without a byte.
    pub(in crate::engine) defers: bool,
    /// Keys may stand in heads.
    pub(in crate::engine) needs_head: bool,
}
