//! The first bytes of a connection, to what is known of its request so far.
//!
//! Nothing here decides. A question about the head is answered with yes, no or not yet, and the
//! head never has to be longer than the question needs: one about the query is answered by the
//! request line.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use percent_encoding::percent_decode_str;

/// A head longer than this, in bytes, is asked no further questions: what is not known is absent.
pub const MAX_HEAD: usize = 64 * 1024;

/// The client connection preface of HTTP/2 (RFC 9113, section 3.4), up to where it is distinctive.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The content type of a TLS record that carries a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What the first bytes are the beginning of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112).
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
pub enum Answer<T> {
    /// It is there.
    Yes(T),
    /// It is not there and will not come.
    No,
    /// More bytes are needed.
    NotYet,
}

impl<T> Answer<T> {
    /// The same answer about another form of the value.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Yes(value) => Answer::Yes(form(value)),
            Self::No => Answer::No,
            Self::NotYet => Answer::NotYet,
        }
    }
}

/// The first bytes of a connection.
#[derive(Debug)]
pub struct Head<'a> {
    bytes: &'a [u8],
    last: bool,
    protocol: Protocol,
    target: &'a str,
}

impl<'a> Head<'a> {
    /// Looks at `bytes`; `last` says that no more will come.
    pub fn new(bytes: &'a [u8], last: bool) -> Self {
        let (protocol, target) = identify(bytes);
        Self { bytes, last: last || bytes.len() >= MAX_HEAD, protocol, target }
    }

    /// What the bytes are the beginning of.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The value of the parameter `name` in the query of the request line, decoded as
    /// `application/x-www-form-urlencoded`, to bytes of any kind. The first of several counts, an
    /// empty one does not.
    pub fn query(&self, name: &str) -> Answer<Cow<'a, [u8]>> {
        if let Some(answer) = self.without_line() {
            return answer;
        }
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let mut parameters = query.split('&').map(|one| one.split_once('=').unwrap_or((one, "")));
        let named = |(found, _): &(&str, &str)| decode(found) == name.as_bytes();
        match parameters.find(named).map(|(_, value)| decode(value)) {
            Some(value) if !value.is_empty() => Answer::Yes(value),
            Some(_) | None => Answer::No,
        }
    }

    /// The value of the first header `name` (of any case), without the white space around it. An
    /// empty one does not count.
    pub fn header(&self, name: &str) -> Answer<&'a [u8]> {
        self.find_header(|header| {
            let value = header.value.trim_ascii();
            (header.name.eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
        })
    }

    /// The value of the first cookie `name` (case counts, RFC 6265 section 5.4), without quotes.
    pub fn cookie(&self, name: &str) -> Answer<&'a [u8]> {
        self.find_header(|header| {
            let mut cookies = header
                .name
                .eq_ignore_ascii_case("cookie")
                .then(|| header.value.split(|byte| *byte == b';'))?;
            cookies.find_map(|cookie| cookie_value(cookie, name))
        })
    }

    /// The answer to every question while there is no request line to read it from.
    fn without_line<T>(&self) -> Option<Answer<T>> {
        match self.protocol {
            Protocol::Http1 => None,
            Protocol::Undecided if !self.last => Some(Answer::NotYet),
            Protocol::Undecided | Protocol::Http2 | Protocol::Tls | Protocol::Unknown => {
                Some(Answer::No)
            }
        }
    }

    /// The values of all headers `name` (of any case), in order, without the white space around them.
    pub fn headers(&self, name: &str) -> Answer<Vec<&'a [u8]>> {
        self.with_headers(|headers| {
            let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            let values: Vec<_> = named.map(|header| header.value.trim_ascii()).collect();
            (!values.is_empty()).then_some(values)
        })
    }

    fn find_header<T>(&self, find: impl Fn(&Header<'a>) -> Option<T>) -> Answer<T> {
        self.with_headers(|headers| headers.iter().find_map(find))
    }

    fn with_headers<T>(&self, find: impl FnOnce(&[Header<'a>]) -> Option<T>) -> Answer<T> {
        if let Some(answer) = self.without_line() {
            return answer;
        }
        // There are at most as many headers as lines, so the parser never runs out of places.
        let lines = self.bytes.iter().filter(|byte| **byte == b'\n').count();
        let mut headers = vec![EMPTY_HEADER; lines];
        let mut request = Request::new(&mut headers);
        match request.parse(self.bytes) {
            Ok(Status::Partial) if !self.last => Answer::NotYet,
            Ok(Status::Partial) | Err(_) => Answer::No,
            Ok(Status::Complete(_)) => find(request.headers).map_or(Answer::No, Answer::Yes),
        }
    }
}

/// What the bytes are, and the request target where they hold a whole one of HTTP/1.
fn identify(bytes: &[u8]) -> (Protocol, &str) {
    if bytes.first() == Some(&TLS_HANDSHAKE) {
        return (Protocol::Tls, "");
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return (Protocol::Http2, "");
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return (Protocol::Undecided, "");
    }
    let mut request = Request::new(&mut []);
    let parsed = request.parse(bytes);
    match (request.version, request.path, parsed) {
        // An error after the version lies in the headers, or is that there is no place for them.
        (Some(_), Some(target), _) => (Protocol::Http1, target),
        (_, _, Ok(_)) => (Protocol::Undecided, ""),
        (_, _, Err(_)) => (Protocol::Unknown, ""),
    }
}

/// A name or a value in a query as bytes. That they are UTF-8 is usual, and not for sure.
fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('+') {
        return percent_decode_str(text).into();
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).collect())
}

/// The value in `name=value`, with white space around it, when the name is this one.
fn cookie_value<'a>(cookie: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let cookie = cookie.trim_ascii();
    let value = cookie.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let value = quoted.unwrap_or(value);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sid(head: &str) -> Answer<String> {
        Head::new(head.as_bytes(), false).query("sid").map(text)
    }

    fn text(value: Cow<'_, [u8]>) -> String {
        value.iter().map(|byte| char::from(*byte)).collect()
    }

    fn yes(value: &str) -> Answer<String> {
        Answer::Yes(value.to_owned())
    }

    #[test]
    fn the_sid_is_the_parameter_of_exactly_this_name_in_the_query() {
        assert_eq!(sid("GET /socket.io/?EIO=4&sid=abc HTTP/1.1\r\n"), yes("abc"));
        assert_eq!(sid("POST /?sid=abc&x=1 HTTP/1.0\r\n"), yes("abc"));
        assert_eq!(sid("GET http://host/a?sid=abc HTTP/1.1\r\n"), yes("abc"));
        assert_eq!(sid("GET /?appsid=evil&sid=abc HTTP/1.1\r\n"), yes("abc"));
        assert_eq!(sid("GET /?%73id=a%62c&sid=no HTTP/1.1\r\n"), yes("abc"));
        assert_eq!(sid("GET /?sid=a+b%2Bc HTTP/1.1\r\n"), yes("a b+c"));
        assert_eq!(sid("GET /?sid=a?b HTTP/1.1\r\n"), yes("a?b"));
        assert_eq!(
            sid("GET /?sid=%FF%fe%00%C3%A9%2 HTTP/1.1\r\n"),
            yes("\u{ff}\u{fe}\0\u{c3}\u{a9}%2")
        );
        assert_eq!(sid("GET /?&&x=1&sid=a=b& HTTP/1.1\r\n"), yes("a=b"));
        assert_eq!(sid("GET /?x#sid=abc HTTP/1.1\r\n"), Answer::No);
        assert_eq!(sid("GET /sid=abc HTTP/1.1\r\n"), Answer::No);
        assert_eq!(sid("GET /?SID=abc&sid=&sids=1 HTTP/1.1\r\n"), Answer::No);
        assert_eq!(sid("GET /?sid HTTP/1.1\r\n"), Answer::No);
        assert_eq!(
            sid("GET / HTTP/1.1\r\nReferer: /?sid=a\r\nCookie: sid=b\r\n\r\nsid=c"),
            Answer::No
        );
    }

    #[test]
    fn the_query_is_known_as_soon_as_the_request_line_is_there_and_not_before() {
        let line = "GET /?EIO=4&sid=abc HTTP/1.1";
        for end in 0..line.len() {
            assert_eq!(sid(&line[..end]), Answer::NotYet, "{}", &line[..end]);
        }
        assert_eq!(sid(line), yes("abc"));
        assert_eq!(sid(&format!("{line}\r\nHost: a\r\nbroken header")), yes("abc"));
    }

    #[test]
    fn protocols_are_told_apart_at_once() {
        let protocol = |bytes: &[u8]| Head::new(bytes, false).protocol();
        assert_eq!(protocol(b"GET / HTTP/1.0\r\n"), Protocol::Http1);
        assert_eq!(protocol(b"\r\nGET / HTTP/1.1\r\n"), Protocol::Http1);
        assert_eq!(protocol(b"PRI * HTTP/2.0\r\n"), Protocol::Http2);
        assert_eq!(protocol(b"PRI / HTTP/1.1\r\n"), Protocol::Http1);
        assert_eq!(protocol(b"PRI * HTTP"), Protocol::Undecided);
        assert_eq!(protocol(b"P"), Protocol::Undecided);
        assert_eq!(protocol(b""), Protocol::Undecided);
        assert_eq!(protocol(&[0x16]), Protocol::Tls);
        assert_eq!(protocol(b"\0"), Protocol::Unknown);
        assert_eq!(protocol(b"SSH-2.0-OpenSSH"), Protocol::Undecided);
        assert_eq!(protocol(b"SSH-2.0-OpenSSH\r\n"), Protocol::Unknown);
        assert_eq!(protocol(b"GET /\r\n"), Protocol::Unknown);
        assert_eq!(protocol(b"GET / HTTP/3"), Protocol::Unknown);
    }

    #[test]
    fn headers_wait_for_the_whole_head() {
        let whole = b"GET / HTTP/1.1\r\nX-User:  ann \r\nx-user: bob\r\nX-Empty:\r\n\r\nbody";
        let head = Head::new(whole, false);
        assert_eq!(head.header("x-USER"), Answer::Yes(b"ann".as_slice()));
        assert_eq!(head.header("x-empty"), Answer::No);
        assert_eq!(head.header("x-other"), Answer::No);
        assert_eq!(head.headers("X-user"), Answer::Yes(vec![b"ann".as_slice(), b"bob"]));
        assert_eq!(head.headers("x-other"), Answer::No);
        for end in 0..whole.len() - 4 {
            assert_eq!(Head::new(&whole[..end], false).header("x-user"), Answer::NotYet);
            assert_eq!(Head::new(&whole[..end], true).header("x-user"), Answer::No);
            assert_eq!(Head::new(&whole[..end], false).headers("x-user"), Answer::NotYet);
        }
    }

    #[test]
    fn cookies_are_found_by_exact_name_in_any_cookie_header() {
        let head =
            b"GET / HTTP/1.1\r\nCookie: id2=no; xid=no\r\nCOOKIE: a=1;id=\"one\"; id=two\r\n\r\n";
        let head = Head::new(head, false);
        assert_eq!(head.cookie("id"), Answer::Yes(b"one".as_slice()));
        assert_eq!(head.cookie("a"), Answer::Yes(b"1".as_slice()));
        assert_eq!(head.cookie("ID"), Answer::No);
    }

    #[test]
    fn a_head_may_have_thousands_of_headers_and_64_kib() {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        while head.len() < MAX_HEAD - 64 {
            head.extend_from_slice(b"a:\r\n");
        }
        head.extend_from_slice(b"x-user: ann\r\n\r\n");
        assert_eq!(Head::new(&head, false).header("x-user"), Answer::Yes(b"ann".as_slice()));
        assert_eq!(Head::new(&[b'a'; MAX_HEAD], false).query("sid"), Answer::No);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_more_bytes_never_take_an_answer_back(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            text in "(GET|POST|PRI) /[ -~]{0,40} HTTP/1\\.1\r\n([A-Za-z]{1,8}: [ -~]{0,20}\r\n){0,3}\r\n",
            cut in any::<prop::sample::Index>(),
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let part = Head::new(&bytes[..cut.index(bytes.len() + 1)], false);
                let whole = Head::new(bytes, false);
                let (early, late) = (part.query("sid"), whole.query("sid"));
                prop_assert!(early == Answer::NotYet || early == late);
                let (early, late) = (part.header("host"), whole.header("host"));
                prop_assert!(early == Answer::NotYet || early == late);
                prop_assert!(part.protocol() == Protocol::Undecided || part.protocol() == whole.protocol());
            }
        }
    }
}
