//! Where the configuration comes from, and what becomes of one that was read anew.

use std::fmt::Debug;
use std::mem;
use std::path::Path;

use anyhow::Context;
use tracing::{error, info, warn};

use super::Engine;
use crate::logic::config::{Change, Config, Requires, changes};
use crate::logic::core::{Command, Input};

/// What it means if a configuration is sound by itself, and not with the one that is in force.
pub(super) const STAYS: &str = "what needs a stop and a start stays as it is";

/// Reads what the supervisor is asked to do.
pub trait Source: Debug {
    /// Reads it anew. An error is about one line for the log, and leaves everything as it is.
    fn read(&mut self) -> anyhow::Result<Config>;

    /// What reading it would come to now; nothing of it is logged.
    fn rehearse(&self) -> anyhow::Result<Config>;

    /// The file that it is read from, if there is one.
    fn file(&self) -> Option<&Path>;

    /// What was read last holds from now on.
    fn adopted(&mut self);

    /// What held before that holds again.
    fn fell_back(&mut self);
}

impl Engine {
    /// Reads the configuration anew, says what is different, and takes over what can be had without
    /// an upgrade. If it cannot be read, all stays as it was, and the error is the line about it.
    pub(super) fn reread(&mut self) -> Result<(), String> {
        let (adopted, new) = self.read_and_adopt().map_err(|error| {
            let line = format!(
                "configuration rejected: {error:#}; nothing is restarted, the current one stays in force"
            );
            error!(name: "configuration_rejected", error = %format_args!("{error:#}"), "{line}");
            line
        })?;
        let changes = changes(&self.config, &new);
        say(&changes);
        if changes.is_empty() {
            info!(name: "configuration_unchanged", "configuration unchanged");
        }
        if let Some(adopted) = adopted {
            let before = mem::replace(&mut self.config, adopted);
            self.fallback.get_or_insert(before);
            self.source.adopted();
            self.apply();
        }
        Ok(())
    }

    /// What there is with what can be adopted, if that is anything, and what was read.
    fn read_and_adopt(&mut self) -> anyhow::Result<(Option<Config>, Config)> {
        let new = self.source.read()?;
        let mut config = self.config.clone();
        let adopted = config.adopt(new.clone()).then_some(config);
        // It is sound by itself, but perhaps not with what stays.
        adopted.as_ref().map_or(Ok(()), Config::check).context(STAYS)?;
        Ok((adopted, new))
    }

    /// The workers that were to run with what was adopted last do not become ready: what was before
    /// holds again.
    pub(super) fn fall_back(&mut self) {
        if let Some(before) = self.fallback.take() {
            info!(name: "configuration_reverted", "reverted to the previous configuration");
            self.config = before;
            self.source.fell_back();
            self.apply();
            let command = Command::Configure(self.config.fleet.clone());
            self.core.handle(self.now, Input::Command(command));
        }
    }

    /// Has everybody but the fleet know what was adopted.
    fn apply(&mut self) {
        let config = self.config.clone();
        self.links.reconfigure(&config);
        self.core.reconfigure(config.core(self.workers.slots), config.route);
        self.intake.origins.adopt(config.proxy);
        self.workers.set_command(config.command, config.process);
    }
}

/// Says what is different.
pub(super) fn say(changes: &[Change]) {
    for change in changes {
        match change.requires {
            Requires::Restart => info!(
                name: "configuration_changed", flag = change.name, takes = change.requires.name(),
                "configuration changed: {change}"
            ),
            Requires::Upgrade | Requires::Start => warn!(
                name: "configuration_changed", flag = change.name, takes = change.requires.name(),
                "configuration changed: {change}"
            ),
        }
    }
}
