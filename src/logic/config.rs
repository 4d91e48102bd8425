//! What the supervisor was asked to do, checked: combinations that make no sense cannot be written.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::fleet::FleetConfig;
use super::route::RouteConfig;

/// Everything that the engine needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program of a worker and its arguments.
    pub command: Command,
    /// Where clients connect to, in the order asked for; at least one.
    pub listen: Vec<Listen>,
    /// Who lives.
    pub fleet: FleetConfig,
    /// Who gets a connection.
    pub route: RouteConfig,
    /// The time for a client's first bytes.
    pub head_timeout: Duration,
}

/// The command of every worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// A path, or a name that is searched for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// One thing to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// A TCP address; port 0 lets the kernel pick one.
    Tcp(SocketAddr),
    /// This port on every address of the machine, of both families.
    Port(u16),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
    /// A listening socket that the supervisor inherited.
    Inherited(RawFd),
}
