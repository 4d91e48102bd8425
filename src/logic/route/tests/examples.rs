//! Examples of keys that the preload of Node workers is held to as well.

use std::net::{IpAddr, Ipv6Addr};

use serde::Deserialize;

use crate::logic::origin::{ForwardedHeader, Trust};
use crate::logic::route::head::{Head, Lookup};
use crate::logic::route::key::{KeyList, PresentedKey};

const EXAMPLES: &str = include_str!("../../../../workers/node/test/keys.json");

/// A request from 127.0.0.1 and its key. Both are bytes, a character each; an address is written as
/// `ip` and the part of it that stays with a client.
#[derive(Debug, Deserialize)]
struct Example {
    by: String,
    head: String,
    key: Option<String>,
    #[serde(default)]
    trust: Vec<String>,
    forwarded: Option<String>,
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|byte| u8::try_from(byte).expect("it is a byte")).collect()
}

fn text(found: &PresentedKey<'_>) -> String {
    let identity = found.identity();
    let PresentedKey::Ip(_) = found else {
        return identity.iter().map(|byte| char::from(*byte)).collect();
    };
    let octets: [u8; 16] = identity[3..].try_into().expect("a prefix and an address");
    let ip = Ipv6Addr::from(octets);
    if let Some(ip) = ip.to_ipv4_mapped() {
        return format!("ip {ip}");
    }
    let stays = if ip.is_unicast_link_local() { 8 } else { 4 };
    let groups: Vec<_> = ip.segments().iter().map(|group| format!("{group:x}")).collect();
    format!("ip {}", groups[..stays].join(":"))
}

#[test]
fn keys_are_found_as_the_preload_finds_them() {
    let examples: Vec<Example> = serde_json::from_str(EXAMPLES).expect("a list of examples");
    for example in &examples {
        let peers = example.trust.iter().map(|peers| peers.parse().expect("peers"));
        let header = match example.forwarded.as_deref() {
            Some("forwarded") => ForwardedHeader::Forwarded,
            Some(_) => ForwardedHeader::XForwardedFor,
            None => ForwardedHeader::None,
        };
        let keys: KeyList = example.by.parse().expect("a list of keys");
        let keys = keys.trusting(Trust::new(peers.collect(), header));
        let head = bytes(&example.head);
        let client = Some(IpAddr::from([127, 0, 0, 1]));
        let found = match keys.find(client, &Head::new(&head, true)) {
            Lookup::Found(found) => Some(text(&found)),
            Lookup::Absent | Lookup::Incomplete => None,
        };
        assert_eq!(found, example.key, "{example:?}");
    }
}
