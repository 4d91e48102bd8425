//! The keys of requests: what the supervisor places connections by.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use httparse::Header;

use crate::head::{Head, Lookup};

/// One place where the key of a request can stand, written as in `--by`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// The Engine.IO session id: the query parameter `sid`.
    Sid,
    /// The address of the client.
    Ip,
    /// The query parameter of this name.
    Query(String),
    /// The header of this name.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
}

/// Why a source cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrongKeySource {
    /// Not the name of one.
    #[error("unknown key \"{0}\": use sid, ip, query:NAME, header:NAME, cookie:NAME or none")]
    Unknown(String),
    /// One that needs a name has none, or one that could never match.
    #[error("\"{0}\" needs a name made of letters, digits and -_.!#$%&'*+^`|~ after the colon")]
    Name(String),
}

/// Where keys stand, in the order in which they are looked for: the first one present decides.
///
/// Written as the value of `STICKY_CHANNEL_KEYS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys(Vec<Place>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    /// Where the supervisor finds keys as well.
    Of(KeySource),
    /// All headers of this name, in which a proxy tells its client.
    Forwarded(String),
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
        let places: Vec<_> = list.split(',').map(Place::parse).collect::<Option<_>>()?;
        places.iter().any(|place| *place != Place::Of(KeySource::Ip)).then_some(Self(places))
    }

    /// Whether clients may learn keys from answers.
    pub(crate) fn are_given_out(&self) -> bool {
        let is_given =
            |place: &Place| matches!(place, Place::Of(KeySource::Header(_) | KeySource::Cookie(_)));
        self.0.iter().any(is_given)
    }

    /// The keys that an answer with these headers gives to its client.
    pub(crate) fn given_out(&self, headers: &[Header<'_>]) -> Vec<Box<[u8]>> {
        let named = |name: &str| {
            let name = name.to_owned();
            headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(&name))
        };
        let mut given = Vec::new();
        for place in &self.0 {
            match place {
                Place::Of(KeySource::Header(name)) => {
                    given.extend(named(name).map(|header| header.value));
                }
                Place::Of(KeySource::Cookie(name)) => {
                    given.extend(named("set-cookie").filter_map(|header| set(header.value, name)));
                }
                Place::Of(KeySource::Sid | KeySource::Ip | KeySource::Query(_))
                | Place::Forwarded(_) => {}
            }
        }
        let given = given.into_iter().map(<[u8]>::trim_ascii).filter(|key| !key.is_empty());
        given.map(Box::from).collect()
    }

    /// What a whole head says; `has_address` of a client that has one.
    pub(crate) fn find(&self, head: &Head<'_>, has_address: bool) -> Found {
        for place in &self.0 {
            if *place == Place::Of(KeySource::Ip) && has_address {
                break;
            }
            if let Lookup::Found(key) = place.find(head) {
                return Found::Key(key.into());
            }
        }
        let begins = || matches!(head.query("EIO"), Lookup::Found(_));
        let has_sid = self.0.contains(&Place::Of(KeySource::Sid));
        if has_sid && begins() { Found::Handshake } else { Found::Nothing }
    }
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("forwarded:") {
            Some(name) => Some(Self::Forwarded(name.to_owned())).filter(|_| !name.is_empty()),
            None => text.parse().map(Self::Of).ok(),
        }
    }

    fn find<'a>(&self, head: &Head<'a>) -> Lookup<Cow<'a, [u8]>> {
        match self {
            Self::Of(source) => source.find(head),
            Self::Forwarded(name) => head.headers(name).map(|lines| lines.join(&b',').into()),
        }
    }
}

impl KeySource {
    /// The key that stands there. The address stands in no head.
    pub fn find<'a>(&self, head: &Head<'a>) -> Lookup<Cow<'a, [u8]>> {
        match self {
            Self::Sid => head.query("sid"),
            Self::Ip => Lookup::Absent,
            Self::Query(name) => head.query(name),
            Self::Header(name) => head.header(name).map(Cow::Borrowed),
            Self::Cookie(name) => head.cookie(name).map(Cow::Borrowed),
        }
    }
}

impl FromStr for KeySource {
    type Err = WrongKeySource;

    fn from_str(text: &str) -> Result<Self, WrongKeySource> {
        let (kind, name) =
            text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        let named = |name: Option<&str>| {
            let legal =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
            let name = name.filter(|name| !name.is_empty() && name.bytes().all(legal));
            name.map(str::to_owned).ok_or_else(|| WrongKeySource::Name(text.to_owned()))
        };
        match (kind, name) {
            ("sid", None) => Ok(Self::Sid),
            ("ip", None) => Ok(Self::Ip),
            ("query", name) => named(name).map(Self::Query),
            ("header", name) => named(name).map(Self::Header),
            ("cookie", name) => named(name).map(Self::Cookie),
            _ => Err(WrongKeySource::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sid => f.write_str("sid"),
            Self::Ip => f.write_str("ip"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// The value to which a `Set-Cookie` header sets the cookie of this name; none if it takes it away by
/// its age, as servers do besides giving it a day in the past.
fn set<'a>(header: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut parts = header.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value =
        parts.next()?.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
    let value = value.trim_ascii();
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let is_over = |part: &[u8]| {
        let part = part.to_ascii_lowercase();
        let over: [&[u8]; 3] = [b"max-age=0", b"max-age=-", b"expires=thu, 01 jan 1970"];
        over.iter().any(|over| part.starts_with(over))
    };
    (!parts.any(is_over)).then_some(quoted.unwrap_or(value))
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

    fn given_out(keys: &str, headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let header =
            |(name, value): &(&'static str, &'static str)| Header { name, value: value.as_bytes() };
        let headers: Vec<_> = headers.iter().map(header).collect();
        let given = Keys::parse(keys).unwrap().given_out(&headers);
        given.into_iter().map(|key| String::from_utf8(key.into()).unwrap()).collect()
    }

    #[test]
    fn an_answer_gives_out_what_the_client_sends_back() {
        let keys = "sid,cookie:a,header:Mcp-Session-Id,ip";
        let headers = [
            ("set-cookie", "a=one; Path=/; HttpOnly"),
            ("Set-Cookie", "ab=no"),
            ("Set-Cookie", "a = \"two\""),
            ("mcp-session-id", " three "),
            ("Cookie", "a=no"),
        ];
        assert_eq!(given_out(keys, &headers), ["one", "two", "three"]);
        for over in ["a=", "a=x; max-age=0", "a=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(given_out(keys, &[("Set-Cookie", over)]), Vec::<String>::new(), "{over}");
        }
        assert!(Keys::parse(keys).unwrap().are_given_out());
        assert!(!Keys::parse("sid,query:a,ip").unwrap().are_given_out());
    }

    #[test]
    fn lists_that_need_no_look_or_cannot_be_read_are_none() {
        for list in ["", "ip", "none", "sid,", "sid:x", "cookie", "cookie:", "path:1", "sid,path:1"]
        {
            assert_eq!(Keys::parse(list), None, "{list}");
        }
    }
}
