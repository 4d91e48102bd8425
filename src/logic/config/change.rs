//! What is different in a configuration that was read anew, and what it takes to have it.
//!
//! Most of it holds for whatever happens next, or for the workers that are started next. What was made
//! when the program began stays as it was made until another one begins in an upgrade: listening
//! sockets, the log, the rights of the supervisor. How messages get into workers, and whether these have
//! the preload, is the same for all that live at the same time, and rights that were given up are gone: that takes a stop
//! and a start. If connections themselves are to get into workers in another way, then all else about
//! the workers is different too, and nothing is adopted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Account, Command, Config, Handoff, NodeConfig, ProcessConfig};
use crate::logic::fleet::FleetConfig;
use crate::logic::route::RouteConfig;

/// How the command is called among what was asked for.
pub const COMMAND: &str = "COMMAND";

/// The flags whose meaning is settled when the program begins.
const BY_PROGRAM: [&str; 12] = [
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
/// The flags whose meaning is settled at the start, and stays in an upgrade.
const AT_START: [&str; 2] = ["--handoff", "--no-node-preload"];
/// The flag that gives up rights, which nobody gets back.
const USER: &str = "--user";
/// The flag that goes with it.
const GROUP: &str = "--group";
/// The flags that say what workers run, and how many there are.
const OF_WORKERS: [&str; 5] = ["--chdir", "--env", "--keep-alive", "--workers", COMMAND];
/// The flags whose values nobody should find in a log, without their dashes.
const SECRET: [&str; 1] = ["env"];

/// A flag, or the command, as it was asked for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Asked {
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
    /// What it takes.
    pub takes: Takes,
}

/// What it takes to have a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Takes {
    /// A restart of the workers.
    Restart,
    /// An upgrade, be it to the same program.
    Upgrade,
    /// That sticky-run stops and is started anew.
    Start,
}

impl Takes {
    /// Its word in a log for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Upgrade => "upgrade",
            Self::Start => "start",
        }
    }
}

/// Whether nobody should find the values of this flag in a log or a ticket: they may be passwords.
pub fn is_secret(name: &str) -> bool {
    SECRET.contains(&name)
}

/// What is different, in the order of the flags.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let other_handoff = !old.handoff.is_like(&new.handoff);
    let user_stays = !value(old, USER).is_empty() && value(new, USER).is_empty();
    let mut changes = Vec::new();
    for asked in &new.asked {
        let (from, to) = match asked.name.as_str() {
            // What "auto" is can be different from what it was.
            "--workers" => (old.fleet.workers.to_string(), new.fleet.workers.to_string()),
            "--handoff" => (old.handoff.name().to_owned(), new.handoff.name().to_owned()),
            name => (value(old, name).to_owned(), asked.value.clone()),
        };
        if from != to {
            let name = asked.name.clone();
            let stays = other_handoff || (user_stays && name == GROUP);
            let takes = if stays { Takes::Start } else { takes(&name, &to) };
            changes.push(Change { name, from, to, takes });
        }
    }
    changes
}

/// What was asked for this flag; empty if nothing was.
fn value<'a>(config: &'a Config, name: &str) -> &'a str {
    config.asked.iter().find(|asked| asked.name == name).map_or("", |asked| &asked.value)
}

/// What it takes for this flag to be this.
fn takes(name: &str, to: &str) -> Takes {
    if AT_START.contains(&name) || (name == USER && to.is_empty()) {
        Takes::Start
    } else if BY_PROGRAM.contains(&name) {
        Takes::Upgrade
    } else {
        Takes::Restart
    }
}

/// What says what workers run: all that a supervisor has to know to go back there.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InForce {
    asked: Vec<Asked>,
    command: Command,
    node: Option<NodeConfig>,
    /// How many there are.
    workers: u16,
    /// Who they are.
    account: Option<Account>,
}

impl Config {
    /// What workers run by this configuration.
    pub fn in_force(&self) -> InForce {
        let node = match &self.handoff {
            Handoff::Node(node) => Some(node.clone()),
            Handoff::Channel => None,
        };
        InForce {
            asked: self.asked.clone(),
            command: self.command.clone(),
            node,
            workers: self.fleet.workers,
            account: self.process.account.clone(),
        }
    }

    /// Goes on after an upgrade from what was in force: with all that is new, but for what only a stop
    /// and a start can change. Comes back with what is different, and, if workers are to run
    /// something else, with the configuration to fall back to should that not work.
    pub fn go_on_from(&mut self, before: InForce) -> (Vec<Change>, Option<Self>) {
        let mut was = self.with(&before);
        was.asked.clone_from(&before.asked);
        let mut changes = changes(&was, self);
        for change in changes.iter_mut().filter(|change| change.takes == Takes::Upgrade) {
            // This is the upgrade.
            change.takes = Takes::Restart;
        }
        let kept: Vec<_> = changes.iter().filter(|change| change.takes == Takes::Start).collect();
        for asked in &mut self.asked {
            if let Some(change) = kept.iter().find(|change| change.name == asked.name) {
                asked.value.clone_from(&change.from);
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
    fn with(&self, before: &InForce) -> Self {
        let mut config = Self { command: before.command.clone(), ..self.clone() };
        for asked in &mut config.asked {
            let old = before.asked.iter().find(|old| old.name == asked.name);
            if let Some(old) = old.filter(|old| OF_WORKERS.contains(&old.name.as_str())) {
                asked.clone_from(old);
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
        if !self.handoff.is_like(&new.handoff) {
            return false;
        }
        let Self {
            asked,
            command,
            listen: _,
            socket: _,
            handoff,
            process,
            fleet,
            wear,
            route,
            proxy,
            head_timeout,
            most_connections,
            output: _,
            systemd: _,
        } = new;
        for (old, new) in self.asked.iter_mut().zip(asked) {
            if takes(&new.name, &new.value) == Takes::Restart {
                *old = new;
            }
        }
        self.command = command;
        self.handoff.adopt(handoff);
        self.process.adopt(process);
        self.fleet = FleetConfig { seed: self.fleet.seed, ..fleet };
        self.wear = wear;
        self.route = RouteConfig { mint: self.route.mint.take(), ..route };
        self.proxy = proxy;
        self.head_timeout = head_timeout;
        self.most_connections = most_connections;
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
    fn is_like(&self, other: &Self) -> bool {
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
        f.write_str(match self.takes {
            Takes::Restart => "",
            Takes::Upgrade => "; needs an upgrade (USR2), not a restart",
            Takes::Start => "; needs a stop and a start",
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
