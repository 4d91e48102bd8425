//! What a configuration that was read again changes, and what each change requires.
//!
//! Most changes apply at once, or to the workers that are started next. What was created when the program
//! started stays until an upgrade: listening sockets, the log, the privileges of the supervisor. The handoff
//! and the preload are the same for all live workers, and dropped privileges are gone: changing these
//! requires a stop and a start. With another handoff everything about the workers is different, so no
//! change is applied at all.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Account, Command, Config, Handoff, NodeConfig, ProcessConfig};
use crate::logic::fleet::FleetConfig;
use crate::logic::route::RouteConfig;

/// The name of the command among the flags.
pub const COMMAND: &str = "COMMAND";

/// The flags that are read when the program starts.
const NEEDS_UPGRADE: [&str; 12] = [
    "--forward",
    "--group",
    "--listen",
    "--listen-fds",
    "--log-format",
    "--node-package",
    "--prefix-output",
    "--socket-group",
    "--socket-mode",
    "--socket-user",
    "--subreaper",
    "--user",
];
/// The flags that are read at the start, and stay in an upgrade.
const NEEDS_START: [&str; 2] = ["--handoff", "--no-node-preload"];
/// The flag that drops privileges for good.
const USER: &str = "--user";
/// The flag that goes with it.
const GROUP: &str = "--group";
/// The flags that say what workers run, and how many there are.
const FOR_WORKERS: [&str; 5] = ["--chdir", "--env", "--keep-alive", "--workers", COMMAND];
/// The flags whose values are not logged, without their dashes.
const SECRET: [&str; 1] = ["env"];

/// A flag, or the command, as given.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FlagValue {
    /// The flag with its dashes, or [`COMMAND`].
    pub name: String,
    /// Its value as it was written; empty if there is none.
    pub value: String,
}

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The flag with its dashes, or [`COMMAND`].
    pub name: String,
    /// Its value before.
    pub from: String,
    /// Its value now.
    pub to: String,
    /// What it requires.
    pub requires: Requires,
}

/// What a change requires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Requires {
    /// A restart of the workers.
    Restart,
    /// An upgrade, if only to the same program.
    Upgrade,
    /// A stop and a start of sticky-run.
    Start,
}

impl Requires {
    /// Its word in a log for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Upgrade => "upgrade",
            Self::Start => "start",
        }
    }
}

/// Whether the values of this flag may be passwords, and are not logged.
pub fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

/// The changes, in the order of the flags.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let other_handoff = !old.handoff.is_same_kind(&new.handoff);
    let user_stays = !value(old, USER).is_empty() && value(new, USER).is_empty();
    let mut changes = Vec::new();
    for flag in &new.flags {
        let (from, to) = match flag.name.as_str() {
            // What "auto" is can be different from what it was.
            "--workers" => (old.fleet.workers.to_string(), new.fleet.workers.to_string()),
            "--handoff" => (old.handoff.name().to_owned(), new.handoff.name().to_owned()),
            name => (value(old, name).to_owned(), flag.value.clone()),
        };
        if from != to {
            let name = flag.name.clone();
            let stays = other_handoff || (user_stays && name == GROUP);
            let requires = if stays { Requires::Start } else { requires(&name, &to) };
            changes.push(Change { name, from, to, requires });
        }
    }
    changes
}

/// The value of this flag; empty if it was not given.
fn value<'a>(config: &'a Config, name: &str) -> &'a str {
    config.flags.iter().find(|flag| flag.name == name).map_or("", |flag| &flag.value)
}

/// What it requires to give this flag this value.
fn requires(name: &str, to: &str) -> Requires {
    if NEEDS_START.contains(&name) || (name == USER && to.is_empty()) {
        Requires::Start
    } else if NEEDS_UPGRADE.contains(&name) {
        Requires::Upgrade
    } else {
        Requires::Restart
    }
}

/// The part of a configuration that says what workers run, in order to go back to it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WorkerConfig {
    flags: Vec<FlagValue>,
    command: Command,
    node: Option<NodeConfig>,
    /// How many there are.
    workers: u16,
    /// Who they are.
    account: Option<Account>,
}

impl Config {
    /// What workers run by this configuration.
    pub fn worker_config(&self) -> WorkerConfig {
        let node = match &self.handoff {
            Handoff::Node(node) => Some(node.clone()),
            Handoff::Channel => None,
        };
        WorkerConfig {
            flags: self.flags.clone(),
            command: self.command.clone(),
            node,
            workers: self.fleet.workers,
            account: self.process.account.clone(),
        }
    }

    /// Goes on after an upgrade from what was in force: with all that is new, but for what only a stop
    /// and a start can change. Comes back with what is different, and, if workers are to run
    /// something else, with the configuration to fall back to should that not work.
    pub fn resume_from(&mut self, before: WorkerConfig) -> (Vec<Change>, Option<Self>) {
        let mut was = self.with(&before);
        was.flags.clone_from(&before.flags);
        let mut changes = changes(&was, self);
        for change in changes.iter_mut().filter(|change| change.requires == Requires::Upgrade) {
            // This is the upgrade.
            change.requires = Requires::Restart;
        }
        let kept: Vec<_> =
            changes.iter().filter(|change| change.requires == Requires::Start).collect();
        for flag in &mut self.flags {
            if let Some(change) = kept.iter().find(|change| change.name == flag.name) {
                flag.value.clone_from(&change.from);
            }
        }
        if kept.iter().any(|change| change.name == USER) {
            self.process.account.clone_from(&before.account);
        }
        if let (Handoff::Node(own), Some(node)) = (&mut self.handoff, &before.node) {
            own.keep(node);
        }
        let fallback = (before.command != self.command).then(|| self.with(&before));
        (changes, fallback)
    }

    /// The same configuration, but for what workers run.
    fn with(&self, before: &WorkerConfig) -> Self {
        let mut config = Self { command: before.command.clone(), ..self.clone() };
        for flag in &mut config.flags {
            let old = before.flags.iter().find(|old| old.name == flag.name);
            if let Some(old) = old.filter(|old| FOR_WORKERS.contains(&old.name.as_str())) {
                flag.clone_from(old);
            }
        }
        config.fleet.workers = before.workers;
        if let (Handoff::Node(own), Some(node)) = (&mut config.handoff, &before.node) {
            own.adopt(node.clone());
        }
        config
    }

    /// Takes over what can be had without an upgrade. Whether there is anything: with another handoff
    /// there is not.
    pub fn adopt(&mut self, new: Self) -> bool {
        if !self.handoff.is_same_kind(&new.handoff) {
            return false;
        }
        let Self {
            flags,
            command,
            listen: _,
            socket: _,
            handoff,
            process,
            fleet,
            recycle: wear,
            route,
            proxy,
            head_timeout,
            max_connections: most_connections,
            output: _,
            systemd: _,
        } = new;
        for (old, new) in self.flags.iter_mut().zip(flags) {
            if requires(&new.name, &new.value) == Requires::Restart {
                *old = new;
            }
        }
        self.command = command;
        self.handoff.adopt(handoff);
        self.process.adopt(process);
        self.fleet = FleetConfig { seed: self.fleet.seed, ..fleet };
        self.recycle = wear;
        self.route = RouteConfig { mint: self.route.mint.take(), ..route };
        self.proxy = proxy;
        self.head_timeout = head_timeout;
        self.max_connections = most_connections;
        true
    }
}

impl Handoff {
    /// How `--handoff` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Node(_) => "node",
        }
    }

    /// Whether connections get into a worker in the same way.
    fn is_same_kind(&self, other: &Self) -> bool {
        self.name() == other.name()
    }

    fn adopt(&mut self, new: Self) {
        match (self, new) {
            (Self::Node(old), Self::Node(new)) => old.adopt(new),
            (Self::Channel, Self::Channel)
            | (Self::Channel, Self::Node(_))
            | (Self::Node(_), Self::Channel) => {}
        }
    }
}

impl ProcessConfig {
    fn adopt(&mut self, new: Self) {
        // The supervisor gave up rights, and asked the kernel for signals, at the start.
        let Self { account: _, subreaper: _, forward: _, no_new_privs, umask, limits } = new;
        self.no_new_privs = no_new_privs;
        self.umask = umask;
        self.limits = limits;
    }
}

impl NodeConfig {
    /// Keeps what all workers have that live at the same time.
    fn keep(&mut self, old: &Self) {
        if self.preload.is_some() != old.preload.is_some() {
            self.preload = old.preload;
        }
    }

    fn adopt(&mut self, new: Self) {
        let Self { package: _, preload, keys, options, arguments_at } = new;
        // Its files are written, and its secret made, at the start or never.
        if let (Some(old), Some(new)) = (&mut self.preload, preload) {
            *old = new;
        }
        self.keys = keys;
        self.options = options;
        self.arguments_at = arguments_at;
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &str| if value.is_empty() { "not set" } else { value }.to_owned();
        if is_secret(self.name.trim_start_matches('-')) {
            write!(f, "{} is different", self.name)?;
        } else {
            write!(f, "{} {} -> {}", self.name, shown(&self.from), shown(&self.to))?;
        }
        f.write_str(match self.requires {
            Requires::Restart => "",
            Requires::Upgrade => "; needs an upgrade (USR2), not a restart",
            Requires::Start => "; needs a stop and a start",
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
