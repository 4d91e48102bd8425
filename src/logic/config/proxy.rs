//! What proxies before the supervisor tell about their clients.

use crate::logic::origin::Trust;

/// Which peers are proxies, and what they send.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyConfig {
    /// Every connection of a trusted peer begins with a header of the PROXY protocol.
    pub protocol: bool,
    /// Whose word counts.
    pub trust: Trust,
}
