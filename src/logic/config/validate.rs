//! Combinations that exclude each other.

use super::{Config, Handoff, NodeConfig};

/// Why a configuration is invalid.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// Connections are limited, but closed ones are not reported.
    #[error(
        "without the preload, nobody tells when a connection is over: leave --no-node-preload out, or \
         --max-connections and --max-connections-per-worker"
    )]
    Limits,
    /// A replaced worker would drain forever.
    #[error(
        "without the preload, nobody tells when a worker has drained, and with --drain-timeout none \
         it would drain for ever: leave --no-node-preload out, or set a --drain-timeout"
    )]
    Drains,
}

impl Config {
    /// Whether the configuration is valid.
    ///
    /// # Errors
    /// Two settings exclude each other.
    pub fn check(&self) -> Result<(), Invalid> {
        let limited = self.max_connections.is_some() || self.route.max_open.is_some();
        match &self.handoff {
            Handoff::Node(NodeConfig { preload: None, .. }) if limited => Err(Invalid::Limits),
            Handoff::Node(NodeConfig { preload: None, .. })
                if self.fleet.drain_timeout.is_none() =>
            {
                Err(Invalid::Drains)
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
            config.max_connections = most_connections;
            config.route.max_open = most_open;
            if drains_for_ever {
                config.fleet.drain_timeout = None;
            }
            config.check()
        };
        for (most, most_open, for_ever, wrong) in [
            (Some(5), None, false, Err(Invalid::Limits)),
            (None, Some(5), false, Err(Invalid::Limits)),
            (None, None, true, Err(Invalid::Drains)),
            (None, None, false, Ok(())),
        ] {
            assert_eq!(check(with(None), most, most_open, for_ever), wrong);
            for handoff in [with(Some(KeepAlive::Close)), Handoff::Channel] {
                assert_eq!(check(handoff, most, most_open, for_ever), Ok(()));
            }
        }
    }
}
