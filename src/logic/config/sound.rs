//! What cannot be had together.

use super::{Config, Handoff, NodeConfig};

/// Why a configuration makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsound {
    /// Connections are limited whose end nobody tells.
    #[error(
        "without the preload, nobody tells when a connection is over: leave --no-node-preload out, or \
         --max-connections and --max-connections-per-worker"
    )]
    Limits,
    /// A worker that was replaced would never be ended.
    #[error(
        "without the preload, nobody tells when a worker has drained, and with --drain-timeout none \
         it would drain for ever: leave --no-node-preload out, or set a --drain-timeout"
    )]
    Drains,
}

impl Config {
    /// Whether all of it can be had together.
    ///
    /// # Errors
    /// Two things of it cannot.
    pub fn check(&self) -> Result<(), Unsound> {
        let limited = self.most_connections.is_some() || self.route.max_open.is_some();
        match &self.handoff {
            Handoff::Node(NodeConfig { preload: None, .. }) if limited => Err(Unsound::Limits),
            Handoff::Node(NodeConfig { preload: None, .. })
                if self.fleet.drain_timeout.is_none() =>
            {
                Err(Unsound::Drains)
            }
            Handoff::Node(_) | Handoff::Channel => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::tests::config;
    use super::*;
    use crate::logic::config::KeepAlive;

    #[test]
    fn what_needs_the_end_of_connections_needs_the_preload() {
        let with = |preload| Handoff::Node(NodeConfig { preload, ..NodeConfig::default() });
        let check = |handoff, most_connections, most_open, drains_for_ever| {
            let mut config = config(handoff, &[]);
            config.most_connections = most_connections;
            config.route.max_open = most_open;
            if drains_for_ever {
                config.fleet.drain_timeout = None;
            }
            config.check()
        };
        for (most, most_open, for_ever, wrong) in [
            (Some(5), None, false, Err(Unsound::Limits)),
            (None, Some(5), false, Err(Unsound::Limits)),
            (None, None, true, Err(Unsound::Drains)),
            (None, None, false, Ok(())),
        ] {
            assert_eq!(check(with(None), most, most_open, for_ever), wrong);
            for handoff in [with(Some(KeepAlive::Close)), Handoff::Channel] {
                assert_eq!(check(handoff, most, most_open, for_ever), Ok(()));
            }
        }
    }
}
