//! Whose word about clients counts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::forwarded::{self, ForwardedHeader};

/// So many bits of an address say that the rest is one of IPv4.
const MAPPED: u8 = 96;

/// The peers that are proxies of ours, and how they say who their clients are. By default nobody.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trust {
    peers: Vec<Peers>,
    header: ForwardedHeader,
}

/// Some peers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Peers {
    /// Those with an address in this network.
    Network(IpNet),
    /// Those that have none: they come over a Unix socket.
    Unix,
}

/// Why peers cannot be trusted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrongPeers {
    /// It names nobody.
    #[error(
        "\"{0}\" is no network: use an address, a network such as 10.0.0.0/8 or fd00::/8, or unix"
    )]
    NoNetwork(String),
    /// It begins in the addresses that stand for those of IPv4, and ends elsewhere.
    #[error("\"{0}\" is only in part a network of IPv4: write that as 10.0.0.0/8")]
    HalfMapped(String),
}

impl Trust {
    /// Trusts these peers, who name their clients in this header.
    pub fn new(peers: Vec<Peers>, header: ForwardedHeader) -> Self {
        Self { peers, header }
    }

    /// The peers, as they are written.
    pub fn peers(&self) -> Vec<String> {
        self.peers.iter().map(Peers::to_string).collect()
    }

    /// The name of the header in which they name their clients.
    pub fn header(&self) -> Option<&'static str> {
        self.header.name()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether a peer is trusted; one without an address comes over a Unix socket.
    pub fn covers(&self, peer: Option<IpAddr>) -> bool {
        let peer = peer.map(|ip| ip.to_canonical());
        self.peers.iter().any(|trusted| match (trusted, peer) {
            (Peers::Network(network), Some(ip)) => network.contains(&ip),
            (Peers::Unix, None) => true,
            (Peers::Network(_), None) | (Peers::Unix, Some(_)) => false,
        })
    }

    /// Whether anybody may name a client in a header.
    pub fn names_clients(&self) -> bool {
        self.header_of_any().is_some()
    }

    /// The name of the header in which anybody may say who its clients are.
    pub fn header_of_any(&self) -> Option<&'static str> {
        self.header.name().filter(|_| !self.is_empty())
    }

    /// The name of the header in which this peer may say who its clients are.
    pub fn header_of(&self, peer: Option<IpAddr>) -> Option<&'static str> {
        self.header.name().filter(|_| self.covers(peer))
    }

    /// Whose request it is that this peer has sent: the last one of a chain of trusted peers of whom
    /// is known who they are. `lines` are the values of all headers of the name [`Self::header_of`],
    /// as they stand in the request.
    ///
    /// Each proxy adds its peer on the right, so what stands left of an address that is not trusted is
    /// what that one claims.
    pub fn origin(&self, peer: Option<IpAddr>, lines: &[&[u8]]) -> Option<IpAddr> {
        let mut origin = peer;
        for hop in forwarded::hops(self.header, lines) {
            match hop {
                Some(ip) if self.covers(origin) => origin = Some(ip),
                Some(_) | None => break,
            }
        }
        origin
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{network}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl FromStr for Peers {
    type Err = WrongPeers;

    fn from_str(text: &str) -> Result<Self, WrongPeers> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| WrongPeers::NoNetwork(text.to_owned()))?;
        let network = canonical(network).ok_or_else(|| WrongPeers::HalfMapped(text.to_owned()))?;
        Ok(Self::Network(network))
    }
}

/// The network of IPv4 that a mapped one stands for (RFC 4291, 2.5.5.2), since peers are looked at as
/// such. `None` if it is only in part mapped.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpAddr::V6(address) = network.addr() else { return Some(network) };
    match address.to_ipv4_mapped() {
        Some(mapped) => {
            let length = network.prefix_len().checked_sub(MAPPED)?;
            IpNet::new(mapped.into(), length).ok()
        }
        None => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(peers: &str) -> Trust {
        let peers = peers.split(',').map(|peers| peers.parse().unwrap()).collect();
        Trust::new(peers, ForwardedHeader::XForwardedFor)
    }

    #[test]
    fn peers_are_addresses_networks_and_unix_sockets() {
        let trust = trust("10.1.2.3/8,192.0.2.1,fd00::/8,unix");
        let covers = |ip: &str| trust.covers(Some(ip.parse().unwrap()));
        assert!(covers("10.255.0.1") && covers("::ffff:10.0.0.1") && !covers("11.0.0.1"));
        assert!(covers("192.0.2.1") && !covers("192.0.2.2"));
        assert!(covers("fd12::1") && !covers("fe80::1"));
        assert!(trust.covers(None));
        assert!(!self::trust("0.0.0.0/0,::/0").covers(None));
        assert!(!Trust::default().covers(None));
    }

    #[test]
    fn what_is_no_network_says_what_to_write() {
        for text in ["", "10.0.0.0/33", "proxy.example", "10.0.0", "Unix", "::1%lo"] {
            assert_eq!(text.parse::<Peers>(), Err(WrongPeers::NoNetwork(text.to_owned())));
        }
    }

    #[test]
    fn mapped_networks_are_those_of_ipv4() {
        for (text, inside, outside) in [
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("::ffff:0:0/96", "192.0.2.1", "::1"),
        ] {
            let trust = trust(text);
            let covers = |ip: &str| trust.covers(Some(ip.parse().unwrap()));
            assert!(covers(inside) && covers(&format!("::ffff:{inside}")), "{text}");
            assert!(!covers(outside), "{text}");
        }
        let half = "::ffff:10.0.0.0/90";
        assert_eq!(half.parse::<Peers>(), Err(WrongPeers::HalfMapped(half.to_owned())));
        assert!("::/0".parse::<Peers>().is_ok());
    }

    #[test]
    fn the_origin_is_the_rightmost_hop_that_is_not_trusted() {
        let trust = trust("10.0.0.0/8,unix");
        let origin = |peer: &str, line: &str| {
            let peer = (peer != "unix").then(|| peer.parse().unwrap());
            let origin = trust.origin(peer, &[line.as_bytes()]);
            origin.map_or("unix".to_owned(), |ip| ip.to_string())
        };
        let cases = [
            ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
            ("10.0.0.1", "192.0.2.7, 10.0.0.2, 10.0.0.3", "192.0.2.7"),
            // What the client itself claims to have got from others.
            ("10.0.0.1", "6.6.6.6, 10.6.6.6, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
            ("10.0.0.1", "unknown, \"\", 192.0.2.7", "192.0.2.7"),
            // Nobody is known beyond the last one that is.
            ("10.0.0.1", "192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "192.0.2.7, _hidden", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            // All of them are ours.
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("unix", "192.0.2.7", "192.0.2.7"),
            ("unix", "", "unix"),
            // A peer that is not trusted gets nothing by it.
            ("192.0.2.9", "10.0.0.1", "192.0.2.9"),
        ];
        for (peer, line, expected) in cases {
            assert_eq!(origin(peer, line), expected, "{peer} says {line}");
        }
    }

    #[test]
    fn the_header_matters_for_trusted_peers_alone() {
        let trust = trust("10.0.0.1");
        let header = |trust: &Trust, ip: &str| trust.header_of(Some(ip.parse().unwrap()));
        assert_eq!(header(&trust, "10.0.0.1"), Some("x-forwarded-for"));
        assert_eq!(header(&trust, "10.0.0.2"), None);
        let silent = Trust::new(vec!["10.0.0.1".parse().unwrap()], ForwardedHeader::None);
        assert_eq!(header(&silent, "10.0.0.1"), None);
    }
}
