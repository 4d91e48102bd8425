//! The keys of requests: what the supervisor places connections by.

use std::borrow::Cow;

use crate::head::{Answer, Head};

/// Where keys stand, in the order in which they are looked for: the first one present decides.
///
/// Written as in `--by`, and as the value of `STICKY_CHANNEL_KEYS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys(Vec<Source>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Source {
    /// The query parameter `sid` of Engine.IO.
    Sid,
    /// The address of the client.
    Ip,
    /// The query parameter of this name.
    Query(String),
    /// The header of this name.
    Header(String),
    /// All headers of this name, in which a proxy tells its client.
    Forwarded(String),
    /// The cookie of this name.
    Cookie(String),
}

/// What a request says of its client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// This key.
    Key(Box<[u8]>),
    /// It begins a session of Engine.IO.
    Handshake,
    /// Nothing that another request on the same connection could not say as well.
    Nothing,
}

impl Keys {
    /// Reads a list. None if all requests on a connection have the same key, or if it names
    /// something that this version does not know.
    pub(crate) fn parse(list: &str) -> Option<Self> {
        let sources: Vec<_> = list.split(',').map(Source::parse).collect::<Option<_>>()?;
        sources.iter().any(|source| *source != Source::Ip).then_some(Self(sources))
    }

    /// What a whole head says; `has_address` of a client that has one.
    pub(crate) fn find(&self, head: &Head<'_>, has_address: bool) -> Found {
        for source in &self.0 {
            if *source == Source::Ip && has_address {
                break;
            }
            if let Some(key) = source.find(head) {
                return Found::Key(key.into());
            }
        }
        let begins = || matches!(head.query("EIO"), Answer::Yes(_));
        if self.0.contains(&Source::Sid) && begins() { Found::Handshake } else { Found::Nothing }
    }
}

impl Source {
    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        match (kind, name) {
            ("sid", None) => Some(Self::Sid),
            ("ip", None) => Some(Self::Ip),
            ("query", name) => name.map(Self::Query),
            ("header", name) => name.map(Self::Header),
            ("forwarded", name) => name.map(Self::Forwarded),
            ("cookie", name) => name.map(Self::Cookie),
            _ => None,
        }
    }

    fn find<'a>(&self, head: &Head<'a>) -> Option<Cow<'a, [u8]>> {
        let found = match self {
            Self::Sid => head.query("sid"),
            Self::Ip => Answer::No,
            Self::Query(name) => head.query(name),
            Self::Header(name) => head.header(name).map(Cow::Borrowed),
            Self::Forwarded(name) => head.headers(name).map(|lines| lines.join(&b',').into()),
            Self::Cookie(name) => head.cookie(name).map(Cow::Borrowed),
        };
        match found {
            Answer::Yes(key) => Some(key),
            Answer::No | Answer::NotYet => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(keys: &str, head: &str, has_address: bool) -> String {
        let keys = Keys::parse(keys).unwrap();
        match keys.find(&Head::new(head.as_bytes(), true), has_address) {
            Found::Key(key) => String::from_utf8(key.into()).unwrap(),
            Found::Handshake => "a handshake".into(),
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn the_first_key_present_decides() {
        let head = "GET /?sid=a%62&user=b HTTP/1.1\r\nCookie: c=d\r\nX-E: f\r\nX-E: g\r\n\r\n";
        assert_eq!(find("sid,cookie:c", head, true), "ab");
        assert_eq!(find("header:none,cookie:c,sid", head, true), "d");
        assert_eq!(find("query:user", head, true), "b");
        assert_eq!(find("header:x-e", head, true), "f");
        assert_eq!(find("forwarded:x-e,ip", head, true), "f,g");
        assert_eq!(find("ip,sid", head, true), "nothing");
        assert_eq!(find("ip,sid", head, false), "ab");
        assert_eq!(find("cookie:none", head, true), "nothing");
    }

    #[test]
    fn a_handshake_has_the_version_of_the_protocol_and_no_sid() {
        let head = |query: &str| format!("GET /socket.io/?{query} HTTP/1.1\r\n\r\n");
        assert_eq!(find("sid", &head("EIO=4&transport=polling"), true), "a handshake");
        assert_eq!(find("sid,ip", &head("EIO=4&transport=polling"), true), "a handshake");
        assert_eq!(find("sid", &head("EIO=4&sid=a"), true), "a");
        assert_eq!(find("sid", &head("transport=polling"), true), "nothing");
        assert_eq!(find("cookie:a", &head("EIO=4"), true), "nothing");
    }

    #[test]
    fn lists_that_need_no_look_or_cannot_be_read_are_none() {
        for list in ["", "ip", "none", "sid,", "sid:x", "cookie", "cookie:", "path:1", "sid,path:1"]
        {
            assert_eq!(Keys::parse(list), None, "{list}");
        }
    }
}
