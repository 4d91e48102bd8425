//! Where the configuration comes from, and what becomes of one that was read anew.

use std::fmt::Debug;

use tracing::{error, info, warn};

use super::Engine;
use crate::logic::config::{Config, Handoff, changes};

/// Reads what the supervisor is asked to do.
pub trait Source: Debug {
    /// Reads it anew. An error is about one line for the log, and leaves everything as it is.
    fn read(&mut self) -> anyhow::Result<Config>;

    /// What was read last holds from now on.
    fn adopted(&mut self);
}

impl Engine {
    /// Reads the configuration anew, says what is different, and takes over what can be had without
    /// an upgrade. Whether it could be read: if not, all stays as it was.
    pub(super) fn reread(&mut self) -> bool {
        let new = match self.source.read() {
            Ok(new) => new,
            Err(error) => {
                error!("configuration: {error:#}: nothing is restarted, the old one stays");
                return false;
            }
        };
        let changes = changes(&self.config, &new);
        for change in &changes {
            if change.needs_upgrade {
                warn!("configuration: {change}");
            } else {
                info!("configuration: {change}");
            }
        }
        if changes.is_empty() {
            info!("configuration: nothing changed");
        }
        if self.config.adopt(new) {
            self.source.adopted();
            self.apply();
        }
        true
    }

    /// Has everybody know what was adopted.
    fn apply(&mut self) {
        let config = self.config.clone();
        self.origins.adopt(config.proxy);
        self.pending.set_head_timeout(config.head_timeout);
        self.workers.set_command(config.command);
        self.router.reconfigure(config.route, self.room.queues());
        match (&mut self.node, config.handoff) {
            (Some(node), Handoff::Node(config)) => node.reconfigure(config),
            (None, Handoff::Channel) => {}
            (Some(_), Handoff::Channel) | (None, Handoff::Node(_)) => {
                unreachable!("the handoff stays what it was at the start")
            }
        }
    }
}
