//! The first bytes of a connection, to what is known of its request so far.
//!
//! Nothing here decides. A question about the head is answered with yes, no or not yet, and the
//! head never has to be longer than the question needs: one about the query is answered by the
//! request line.

mod fields;
mod growth;
mod line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use percent_encoding::percent_decode;

use self::fields::{Field, Fields};
pub use self::growth::Growth;
use self::line::{Line, Place};

/// A head longer than this, in bytes, is asked no further questions: what is not known is absent.
pub const MAX_HEAD: usize = 64 * 1024;

/// The client connection preface of HTTP/2 (RFC 9113, section 3.4), up to where it is distinctive.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The content type of a TLS record that carries a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What the first bytes are the beginning of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112), or whatever some server takes for it.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113).
    Http2,
    /// TLS, so everything else is hidden.
    Tls,
    /// Anything else.
    Unknown,
    /// Too few bytes to tell.
    Undecided,
}

/// The answer to a question about a head that may still be growing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not there and will not come.
    Absent,
    /// More bytes are needed.
    Incomplete,
}

impl<T> Lookup<T> {
    /// The same answer about another form of the value.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Found(value) => Lookup::Found(form(value)),
            Self::Absent => Lookup::Absent,
            Self::Incomplete => Lookup::Incomplete,
        }
    }
}

/// The first bytes of a connection.
#[derive(Debug)]
pub struct Head<'a> {
    bytes: &'a [u8],
    last: bool,
    line: Line<'a>,
}

impl<'a> Head<'a> {
    /// Looks at `bytes`; `last` says that no more will come.
    pub fn new(bytes: &'a [u8], last: bool) -> Self {
        Self { bytes, last: last || bytes.len() >= MAX_HEAD, line: line::read(bytes) }
    }

    /// What the bytes are the beginning of.
    pub fn protocol(&self) -> Protocol {
        match self.line.place {
            Place::Wrong if self.bytes.first() == Some(&TLS_HANDSHAKE) => Protocol::Tls,
            Place::Wrong => Protocol::Unknown,
            Place::Whole if self.bytes.starts_with(HTTP2_PREFACE) => Protocol::Http2,
            Place::Whole | Place::Simple => Protocol::Http1,
            Place::Before
            | Place::Method
            | Place::BehindMethod
            | Place::Target
            | Place::BehindTarget
            | Place::Name
            | Place::Major
            | Place::Dot => Protocol::Undecided,
        }
    }

    /// The value of the parameter `name` in the query of the request line, decoded as
    /// `application/x-www-form-urlencoded`, to bytes of any kind. The first of several counts, an
    /// empty one does not.
    pub fn query(&self, name: &str) -> Lookup<Cow<'a, [u8]>> {
        if let Some(answer) = self.without_line() {
            return answer;
        }
        let (_, query) = split(self.line.target, b'?');
        let (query, _) = split(query, b'#');
        let mut parameters = query.split(|byte| *byte == b'&').map(|one| split(one, b'='));
        let named = |(found, _): &(&[u8], &[u8])| *decode(found) == *name.as_bytes();
        match parameters.find(named).map(|(_, value)| decode(value)) {
            Some(value) if !value.is_empty() => Lookup::Found(value),
            Some(_) | None => Lookup::Absent,
        }
    }

    /// The value of the first header `name` (of any case), without the white space around it. An
    /// empty one does not count.
    pub fn header(&self, name: &str) -> Lookup<&'a [u8]> {
        let find =
            |field: Field<'a>| (field.is(name) && !field.value.is_empty()).then_some(field.value);
        self.with_headers(|mut fields| fields.find_map(find))
    }

    /// The value of the first cookie `name` (case counts, RFC 6265 section 5.4), without quotes.
    pub fn cookie(&self, name: &str) -> Lookup<&'a [u8]> {
        let find = |field: Field<'a>| {
            let mut cookies = field.value.split(|byte| *byte == b';');
            cookies.find_map(|cookie| cookie_value(cookie, name))
        };
        self.with_headers(|fields| fields.filter(|field| field.is("cookie")).find_map(find))
    }

    /// The answer to every question while there is no request line to read it from.
    fn without_line<T>(&self) -> Option<Lookup<T>> {
        match self.protocol() {
            Protocol::Http1 => None,
            Protocol::Undecided if !self.last => Some(Lookup::Incomplete),
            Protocol::Undecided | Protocol::Http2 | Protocol::Tls | Protocol::Unknown => {
                Some(Lookup::Absent)
            }
        }
    }

    /// The values of all headers `name` (of any case), in order, without the white space around them.
    pub fn headers(&self, name: &str) -> Lookup<Vec<&'a [u8]>> {
        self.with_headers(|fields| {
            let named = fields.filter(|field| field.is(name));
            let values: Vec<_> = named.map(|field| field.value).collect();
            (!values.is_empty()).then_some(values)
        })
    }

    fn with_headers<T>(&self, find: impl FnOnce(Fields<'a>) -> Option<T>) -> Lookup<T> {
        if let Some(answer) = self.without_line() {
            return answer;
        }
        match fields::whole(self.line.rest) {
            _ if self.line.place == Place::Simple => Lookup::Absent,
            None if !self.last => Lookup::Incomplete,
            None => Lookup::Absent,
            Some(fields) => find(fields).map_or(Lookup::Absent, Lookup::Found),
        }
    }
}

/// What stands before and behind the first of these; behind none stands nothing.
fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    let mut parts = text.splitn(2, |byte| *byte == at);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A name or a value in a query as bytes. That they are UTF-8 is usual, and not for sure.
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'+') {
        return percent_decode(text).into();
    }
    let spaced: Vec<_> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// The value in `name=value`, with white space around it, when the name is this one.
fn cookie_value<'a>(cookie: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let cookie = cookie.trim_ascii();
    let value = cookie.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let value = quoted.unwrap_or(value);
    (!value.is_empty()).then_some(value)
}
