//! The configuration. Most invalid combinations cannot be expressed; `validate.rs` refuses the others, whether
//! they come from the command line, a file or an upgrade.

mod change;
mod log;
mod process;
mod proxy;
mod recycle;
mod socket;
mod systemd;
mod validate;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::change::{COMMAND, Change, FlagValue, Requires, WorkerConfig, changes, is_secret};
pub use self::log::{LogFormat, OutputConfig};
pub use self::process::{Account, ProcessConfig, ResourceLimit, with_slot};
pub use self::proxy::ProxyConfig;
pub use self::recycle::RecycleConfig;
pub use self::socket::SocketConfig;
pub use self::systemd::SystemdConfig;
pub use self::validate::Invalid;
use crate::logic::capacity::Footprint;
use crate::logic::core::CoreConfig;
use crate::logic::fleet::FleetConfig;
use crate::logic::route::RouteConfig;

/// Everything that the engine needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// All flags and the command as given, in the order of their declaration.
    pub flags: Vec<FlagValue>,
    /// The program of a worker and its arguments.
    pub command: Command,
    /// Where clients connect to, in the order asked for; at least one, unless workers ask for more
    /// themselves.
    pub listen: Vec<Listen>,
    /// Who may connect to those with a file.
    pub socket: SocketConfig,
    /// How connections get into a worker.
    pub handoff: Handoff,
    /// How the processes of workers are set up.
    pub process: ProcessConfig,
    /// How workers are started, replaced and stopped.
    pub fleet: FleetConfig,
    /// When a worker is recycled.
    pub recycle: RecycleConfig,
    /// How connections are routed.
    pub route: RouteConfig,
    /// Which peers are proxies, and what they send.
    pub proxy: ProxyConfig,
    /// The time for a client's first bytes.
    pub head_timeout: Duration,
    /// How the output of workers is handled.
    pub output: OutputConfig,
    /// What the service manager said.
    pub systemd: SystemdConfig,
    /// How many connections may be held and open in workers together; `None` for any number.
    pub max_connections: Option<u64>,
}

impl Config {
    /// The workers that there may be with so many slots.
    pub fn footprint(&self, slots: u16) -> Footprint {
        Footprint { slots, draining: self.fleet.max_draining, pipes: self.output.prefix }
    }

    /// What the core has to know of it, beside the fleet's and the router's part.
    pub fn core(&self, slots: u16) -> CoreConfig {
        CoreConfig {
            head_timeout: self.head_timeout,
            most_connections: self.max_connections,
            connections_of_one: self.recycle.connections,
            seed: self.fleet.seed,
            watches: self.fleet.watchdog.is_some(),
            crew: self.footprint(slots),
        }
    }
}

/// The command of every worker.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Command {
    /// A path, or a name that is searched for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs, if not where the supervisor does.
    pub directory: Option<PathBuf>,
    /// Variables that differ from the supervisor's own; `None` takes one away.
    pub environment: Vec<(OsString, Option<OsString>)>,
}

impl Command {
    /// A program and its arguments, without more.
    pub fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        Self { program, arguments, directory: None, environment: Vec::new() }
    }
}

/// One thing to listen on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Listen {
    /// A TCP address; port 0 lets the kernel pick one.
    Tcp(SocketAddr),
    /// This port on every address of the machine, of both families.
    Port(u16),
    /// A Unix stream socket at this path.
    Unix(PathBuf),
    /// An abstract Unix stream socket of this name (`unix(7)`).
    Abstract(OsString),
    /// A listening socket that the supervisor inherited.
    Inherited(RawFd),
    /// One that a service manager passed, under this name (`sd_listen_fds(3)`).
    Passed {
        /// Its number.
        fd: RawFd,
        /// How the service manager calls it; may be empty.
        name: String,
    },
}

/// How connections get into a worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Handoff {
    /// Over the channel that `sticky-run-channel(7)` describes.
    Channel,
    /// As Node's own `cluster` does it.
    Node(NodeConfig),
}

/// What there is to know about workers that are Node.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeConfig {
    /// The package that takes the connections of the workers.
    pub package: PackageConfig,
    /// What the preload does, unless there is none.
    pub preload: Option<KeepAlive>,
    /// What identifies a client, for the preload, which sees the later requests of connections.
    #[serde(default)]
    pub keys: NodeKeys,
    /// The options that Node gets from the environment, `NODE_OPTIONS`.
    pub options: OsString,
    /// Where the words after `node` begin among the arguments of the command, if that is known.
    pub arguments_at: Option<usize>,
}

/// What identifies a client, as text.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeKeys {
    /// The sources of keys, as in `--by`.
    pub by: Vec<String>,
    /// The peers that name their clients in a header.
    pub trust: Vec<String>,
    /// That header.
    pub forwarded: Option<String>,
    /// For how long an announced key is remembered that nobody uses.
    pub session_idle: Duration,
    /// Likewise any other key.
    pub key_idle: Duration,
}

/// Which package takes the connections of the workers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum PackageConfig {
    /// The one that they load, as they say themselves.
    #[default]
    Reported,
    /// None.
    Ignored,
    /// The one with this name in the registry of npm.
    Named(String),
}

/// What happens to a connection on which requests with the sids of several workers may come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum KeepAlive {
    /// The answer to an Engine.IO polling request closes it.
    Close,
    /// It stays open, and goes to another worker when a request for that one comes.
    HandBack,
    /// Nothing: sids do not matter.
    Ignore,
}
