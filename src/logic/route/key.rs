//! Keys: what identifies a client, and where in a connection it stands.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use sticky_worker::keys::{KeySource, WrongKeySource};
use sticky_worker::message::MAX_KEY;

use super::head::{Head, Lookup};
use crate::logic::origin::Trust;

/// The sources of keys in the order in which they are asked: the first one present decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyList {
    sources: Vec<KeySource>,
    /// Whose word about addresses counts.
    trust: Trust,
}

/// A key as it was found on a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PresentedKey<'a> {
    /// An Engine.IO session id, which a worker has announced or should have.
    Sid(Cow<'a, [u8]>),
    /// Any other text, which a worker may have announced.
    Text(Cow<'a, [u8]>),
    /// An address, in the part of it that stays with a client.
    Ip(IpKey),
}

/// The part of an address that stays with a client: all of an IPv4 address, the /64 of an IPv6 one.
///
/// An IPv4-mapped address is the IPv4 address. A link-local address counts whole, since all of
/// them share one /64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IpKey([u8; 19]);

/// Why a key list cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrongKey {
    /// Something in it is no source.
    #[error(transparent)]
    Source(#[from] WrongKeySource),
    /// `none` together with others.
    #[error("\"none\" stands alone, without other keys")]
    NoneStandsAlone,
}

impl KeyList {
    /// The same keys, where `ip` is the address that these peers tell of a request that they pass on.
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// The first key that is present, as far as the head tells.
    pub fn find<'a>(&self, client: Option<IpAddr>, head: &Head<'a>) -> Lookup<PresentedKey<'a>> {
        for source in &self.sources {
            let found = match source {
                KeySource::Ip => {
                    origin(client, head, &self.trust).map(|ip| PresentedKey::Ip(IpKey::new(ip)))
                }
                KeySource::Sid => source.find(head).map(PresentedKey::Sid),
                KeySource::Query(_) | KeySource::Header(_) | KeySource::Cookie(_) => {
                    source.find(head).map(PresentedKey::Text)
                }
            };
            match found {
                Lookup::Absent => {}
                decided => return decided,
            }
        }
        Lookup::Absent
    }

    /// Whether session ids of Engine.IO matter.
    pub fn has_sid(&self) -> bool {
        self.sources.contains(&KeySource::Sid)
    }

    /// Whether no source is asked.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The sources as they are written in a list.
    pub fn names(&self) -> Vec<String> {
        self.sources.iter().map(KeySource::to_string).collect()
    }

    /// What workers are to look for in the next requests of connections that they keep, in the form of
    /// `STICKY_CHANNEL_KEYS`.
    pub fn looked_for(&self) -> String {
        let forwarded = self.trust.header_of_any();
        let written = |source: &KeySource| match (source, forwarded) {
            (KeySource::Ip, Some(name)) => format!("forwarded:{name},{source}"),
            (source, _) => source.to_string(),
        };
        self.sources.iter().map(written).collect::<Vec<_>>().join(",")
    }

    /// Whether the bytes of a connection from this client have to be seen before its key is known.
    pub fn needs_head(&self, client: Option<IpAddr>) -> bool {
        let told = self.trust.header_of(client).is_some();
        let known = client.is_some() || told;
        let first = self.sources.iter().find(|source| known || **source != KeySource::Ip);
        first.is_some_and(|source| told || *source != KeySource::Ip)
    }

    /// Whether that is so for any client with an address.
    pub fn may_need_head(&self) -> bool {
        match self.sources.first() {
            Some(KeySource::Ip) => self.trust.names_clients(),
            Some(
                KeySource::Sid | KeySource::Query(_) | KeySource::Header(_) | KeySource::Cookie(_),
            ) => true,
            None => false,
        }
    }
}

impl FromStr for KeyList {
    type Err = WrongKey;

    /// Reads a list such as `sid,cookie:user,ip`; `none` is the empty list.
    fn from_str(list: &str) -> Result<Self, WrongKey> {
        if list == "none" {
            return Ok(Self { sources: Vec::new(), trust: Trust::default() });
        }
        let source = |text| match text {
            "none" => Err(WrongKey::NoneStandsAlone),
            text => Ok(text.parse()?),
        };
        let sources = list.split(',').map(source).collect::<Result<_, _>>()?;
        Ok(Self { sources, trust: Trust::default() })
    }
}

/// The address of whom a request is from.
fn origin(client: Option<IpAddr>, head: &Head<'_>, trust: &Trust) -> Lookup<IpAddr> {
    let told = trust.header_of(client).map(|name| head.headers(name));
    let origin = match told {
        Some(Lookup::Incomplete) => return Lookup::Incomplete,
        Some(Lookup::Found(lines)) => trust.origin(client, &lines),
        Some(Lookup::Absent) | None => client,
    };
    origin.map_or(Lookup::Absent, Lookup::Found)
}

impl PresentedKey<'_> {
    /// The bytes that stand for this key in a memory or a hash. Text and addresses never meet.
    pub fn identity(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Sid(text) | Self::Text(text) => text_identity(text),
            Self::Ip(ip) => ip.0.as_slice().into(),
        }
    }

    /// The length of a key that no worker can announce.
    pub fn too_long(&self) -> Option<usize> {
        match self {
            Self::Sid(text) | Self::Text(text) => Some(text.len()).filter(|len| *len > MAX_KEY),
            Self::Ip(_) => None,
        }
    }
}

/// The identity of a key that is text, whoever presents or announces it.
pub fn text_identity(text: &[u8]) -> Cow<'_, [u8]> {
    // A leading NUL would look like an address; it is told apart by a second one.
    if text.first() == Some(&0) { [b"\0", text].concat().into() } else { text.into() }
}

impl IpKey {
    fn new(ip: IpAddr) -> Self {
        let stays = match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => ip,
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64),
        };
        // No text has this beginning, see `text_identity`.
        let mut bytes = *b"\0ip0123456789abcdef";
        bytes[3..].copy_from_slice(&stays.octets());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::origin::ForwardedHeader;

    fn find(keys: &str, head: &str) -> Lookup<String> {
        let keys: KeyList = keys.parse().unwrap();
        let client = Some(IpAddr::from([127, 0, 0, 1]));
        keys.find(client, &Head::new(head.as_bytes(), false)).map(|found| match found {
            PresentedKey::Sid(text) => format!("sid {}", String::from_utf8_lossy(&text)),
            PresentedKey::Text(text) => format!("text {}", String::from_utf8_lossy(&text)),
            PresentedKey::Ip(_) => "ip".to_owned(),
        })
    }

    fn yes(text: &str) -> Lookup<String> {
        Lookup::Found(text.to_owned())
    }

    #[test]
    fn a_list_is_written_as_it_is_read() {
        let list = "sid,cookie:connect.sid,query:a,header:Mcp-Id,ip";
        assert_eq!(list.parse::<KeyList>().unwrap().names().join(","), list);
        assert!("none".parse::<KeyList>().unwrap().is_empty());
    }

    #[test]
    fn workers_look_for_the_same_and_for_what_a_proxy_tells() {
        for list in ["sid", "ip", "sid,cookie:a.b,query:a,header:Mcp-Id,ip"] {
            assert_eq!(list.parse::<KeyList>().unwrap().looked_for(), list);
        }
        assert_eq!("none".parse::<KeyList>().unwrap().looked_for(), "");
        let trust = Trust::new(vec!["unix".parse().unwrap()], ForwardedHeader::XForwardedFor);
        let keys = "sid,ip".parse::<KeyList>().unwrap().trusting(trust);
        assert_eq!(keys.looked_for(), "sid,forwarded:x-forwarded-for,ip");
    }

    #[test]
    fn the_first_key_present_decides_and_does_not_wait_for_later_ones() {
        let line = "GET /?sid=a&user=b HTTP/1.1\r\n";
        let whole = "GET /?user=b HTTP/1.1\r\nCookie: c=d\r\nX-E: f\r\n\r\n";
        assert_eq!(find("sid,cookie:c", line), yes("sid a"));
        assert_eq!(find("cookie:c,sid", line), Lookup::Incomplete);
        assert_eq!(find("sid,cookie:c", whole), yes("text d"));
        assert_eq!(find("header:x-e,query:user", whole), yes("text f"));
        assert_eq!(find("sid,query:user,ip", whole), yes("text b"));
        assert_eq!(find("sid,ip", whole), yes("ip"));
        assert_eq!(find("ip,sid", ""), yes("ip"));
        assert_eq!(find("sid", whole), Lookup::Absent);
        assert_eq!(find("none", line), Lookup::Absent);
        assert_eq!(find("sid,ip", "\x16\x03\x01"), yes("ip"));
    }

    #[test]
    fn a_sid_has_any_length_but_none() {
        for length in [0, 1, 129, 10_000] {
            let sid = "x".repeat(length);
            let expected = if length == 0 { Lookup::Absent } else { yes(&format!("sid {sid}")) };
            assert_eq!(find("sid", &format!("GET /?sid={sid} HTTP/1.1\r\n")), expected);
        }
    }

    #[test]
    fn only_the_keys_that_stand_in_the_bytes_need_them() {
        let keys = |keys: &str| keys.parse::<KeyList>().unwrap();
        let client = Some(IpAddr::from([127, 0, 0, 1]));
        assert!(keys("sid").needs_head(client) && keys("sid").may_need_head());
        assert!(keys("header:a,ip").needs_head(client));
        assert!(!keys("ip,sid").needs_head(client) && !keys("ip,sid").may_need_head());
        assert!(keys("ip,sid").needs_head(None));
        assert!(!keys("ip").needs_head(None));
        assert!(!keys("none").needs_head(client) && !keys("none").may_need_head());
    }

    #[test]
    fn an_ip_that_a_trusted_proxy_tells_stands_in_the_bytes_of_its_connections_alone() {
        let trust = |header| {
            let peers = ["10.0.0.1", "unix"].map(|peers| peers.parse().unwrap());
            Trust::new(peers.to_vec(), header)
        };
        let keys: KeyList = "ip".parse().unwrap();
        let silent = keys.clone().trusting(trust(ForwardedHeader::None));
        let keys = keys.trusting(trust(ForwardedHeader::XForwardedFor));
        let proxy = Some(IpAddr::from([10, 0, 0, 1]));
        let other = Some(IpAddr::from([10, 0, 0, 2]));
        assert!(keys.needs_head(proxy) && keys.needs_head(None) && !keys.needs_head(other));
        assert!(keys.may_need_head() && !silent.needs_head(proxy) && !silent.may_need_head());

        let key = |ip: [u8; 4]| Lookup::Found(PresentedKey::Ip(IpKey::new(ip.into())));
        let bytes = "GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
        let head = Head::new(bytes.as_bytes(), false);
        assert_eq!(keys.find(proxy, &head), key([192, 0, 2, 7]));
        assert_eq!(keys.find(None, &head), key([192, 0, 2, 7]));
        assert_eq!(keys.find(other, &head), key([10, 0, 0, 2]));
        assert_eq!(silent.find(proxy, &head), key([10, 0, 0, 1]));
        for (bytes, last) in [("\x16", false), ("GET / HTTP/1.1\r\n\r\n", false), ("GET /", true)] {
            let head = Head::new(bytes.as_bytes(), last);
            assert_eq!(keys.find(proxy, &head), key([10, 0, 0, 1]), "{bytes}");
            assert_eq!(keys.find(None, &head), Lookup::Absent, "{bytes}");
        }
        assert_eq!(keys.find(proxy, &Head::new(b"GET /", false)), Lookup::Incomplete);
    }

    #[test]
    fn an_ip_is_keyed_by_what_stays_with_a_client() {
        let key = |ip: &str| IpKey::new(ip.parse().unwrap());
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("fe80::1"), key("fe80::2"));
    }

    #[test]
    fn wrong_lists_say_what_is_wrong() {
        let wrong = |keys: &str| keys.parse::<KeyList>().unwrap_err();
        assert_eq!(wrong("sid,"), WrongKeySource::Unknown(String::new()).into());
        assert_eq!(wrong("sid:x"), WrongKeySource::Unknown("sid:x".to_owned()).into());
        assert_eq!(wrong("header:"), WrongKeySource::Name("header:".to_owned()).into());
        assert_eq!(wrong("cookie"), WrongKeySource::Name("cookie".to_owned()).into());
        assert_eq!(wrong("header:a b"), WrongKeySource::Name("header:a b".to_owned()).into());
        assert_eq!(wrong("sid,none"), WrongKey::NoneStandsAlone);
    }
}
