//! What is different in a configuration that was read anew, and what of it can be had without an
//! upgrade.
//!
//! Most of it holds for whatever happens next, or for the workers that are started next. What was made
//! at the start stays as it was made: listening sockets, and how connections and messages get into
//! workers. If that itself is different, then so is all else about the workers, and nothing is adopted.

use std::fmt;

use super::{Config, Handoff, NodeConfig};
use crate::logic::fleet::FleetConfig;
use crate::logic::route::RouteConfig;

/// How the command is called among what was asked for.
pub const COMMAND: &str = "COMMAND";

/// The flags whose meaning is settled at the start.
const AT_START: [&str; 8] = [
    "--listen",
    "--listen-fds",
    "--log-format",
    "--log-level",
    "--node-package",
    "--node-serialization",
    "--no-node-preload",
    "--prefix-output",
];
/// The flags whose values nobody should find in a log.
const SECRET: [&str; 1] = ["--env"];

/// A flag, or the command, as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
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
    /// Whether a restart of the workers does not do.
    pub needs_upgrade: bool,
}

/// What is different, in the order of the flags.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let other_handoff = !old.handoff.is_like(&new.handoff);
    let mut changes = Vec::new();
    for asked in &new.asked {
        let before = old.asked.iter().find(|before| before.name == asked.name);
        let (from, to) = match asked.name.as_str() {
            // What "auto" is can be different from what it was.
            "--workers" => (old.fleet.workers.to_string(), new.fleet.workers.to_string()),
            "--handoff" => (old.handoff.name().to_owned(), new.handoff.name().to_owned()),
            _ => (before.map(|it| it.value.clone()).unwrap_or_default(), asked.value.clone()),
        };
        if from != to {
            let name = asked.name.clone();
            let needs_upgrade = other_handoff || AT_START.contains(&name.as_str());
            changes.push(Change { name, from, to, needs_upgrade });
        }
    }
    changes
}

impl Config {
    /// Takes over what can be had without an upgrade.
    pub fn adopt(&mut self, new: Self) {
        if !self.handoff.is_like(&new.handoff) {
            return;
        }
        let Self {
            asked,
            command,
            listen: _,
            handoff,
            fleet,
            wear,
            route,
            head_timeout,
            output: _,
            systemd: _,
        } = new;
        for (old, new) in self.asked.iter_mut().zip(asked) {
            if !AT_START.contains(&new.name.as_str()) {
                *old = new;
            }
        }
        self.command = command;
        self.handoff.adopt(handoff);
        self.fleet = FleetConfig { seed: self.fleet.seed, ..fleet };
        self.wear = wear;
        self.route = RouteConfig { mint: self.route.mint.take(), ..route };
        self.head_timeout = head_timeout;
    }
}

impl Handoff {
    fn name(&self) -> &'static str {
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

impl NodeConfig {
    fn adopt(&mut self, new: Self) {
        let Self { serialization: _, package: _, preload, answered, options, arguments_at } = new;
        // Its files are written, and its secret made, at the start or never.
        if let (Some(old), Some(new)) = (&mut self.preload, preload) {
            *old = new;
        }
        self.answered = answered;
        self.options = options;
        self.arguments_at = arguments_at;
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &str| if value.is_empty() { "not set" } else { value }.to_owned();
        if SECRET.contains(&self.name.as_str()) {
            write!(f, "{} is different", self.name)?;
        } else {
            write!(f, "{} {} -> {}", self.name, shown(&self.from), shown(&self.to))?;
        }
        if self.needs_upgrade {
            f.write_str(" needs an upgrade (USR2), not a restart")?;
        }
        Ok(())
    }
}
