//! The head of a request, as far as it says where the next one begins.

use httparse::{EMPTY_HEADER, Error, Header, Status};

use super::body::{Body, Unclear};

/// What a whole head says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    /// How long the head is, in bytes.
    pub(super) head: usize,
    /// What follows it.
    pub(super) body: Body,
    /// What the answer has to be read with.
    pub(super) due: Due,
    /// No request comes after this one.
    pub(super) is_last: bool,
}

/// What an answer has to be read with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Due {
    /// It has no body, whatever its head says.
    pub(super) is_to_head: bool,
    /// It may begin another protocol.
    pub(super) may_upgrade: bool,
    /// The body may never come, if the answer does not ask for it.
    pub(super) expects: bool,
}

/// Reads a request's head; none while it is not whole.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Request>, Unclear> {
    let mut headers = vec![EMPTY_HEADER; lines(bytes)];
    let mut request = httparse::Request::new(&mut headers);
    let Status::Complete(head) = request.parse(bytes).map_err(|_: Error| Unclear)? else {
        return Ok(None);
    };
    if has_bare_lf(&bytes[..head]) || request.method == Some("CONNECT") {
        return Err(Unclear);
    }
    let has = |name: &str| request.headers.iter().any(|it| it.name.eq_ignore_ascii_case(name));
    let body = Body::told_by(request.headers)?;
    let is_old = request.version == Some(0);
    if is_old && body == Some(Body::chunked()) {
        return Err(Unclear);
    }
    Ok(Some(Request {
        head,
        body: body.unwrap_or(Body::Length(0)),
        due: Due {
            is_to_head: request.method == Some("HEAD"),
            may_upgrade: has("upgrade"),
            expects: has("expect"),
        },
        is_last: is_last(request.version, request.headers),
    }))
}

/// Whether a message of this version and with these headers is the last one in its direction.
pub(super) fn is_last(version: Option<u8>, headers: &[Header<'_>]) -> bool {
    let says = |token: &[u8]| {
        let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        let mut tokens = named.flat_map(|header| header.value.split(|byte| *byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token))
    };
    says(b"close") || version == Some(0) && !says(b"keep-alive")
}

/// At most so many headers there are.
pub(super) fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Whether a line ends in LF alone, which not every reader takes for the end of a line.
pub(super) fn has_bare_lf(head: &[u8]) -> bool {
    head.first() == Some(&b'\n') || head.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        read(head.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_head_says_where_the_next_one_begins() {
        let head = "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let due = Due { is_to_head: false, may_upgrade: false, expects: false };
        let expected = Request { head: head.len(), body: Body::Length(3), due, is_last: false };
        assert_eq!(request(&format!("{head}abcGET /")), expected);
        assert_eq!(request("GET / HTTP/1.1\r\n\r\n").body, Body::Length(0));
        assert_eq!(
            request("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").body,
            Body::chunked()
        );
        assert!(request("HEAD / HTTP/1.1\r\n\r\n").due.is_to_head);
        assert!(request("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n").due.may_upgrade);
        assert!(request("PUT / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n").due.expects);
        for end in 0..head.len() {
            assert_eq!(read(&head.as_bytes()[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn the_last_request_says_so() {
        let is_last = |version: &str, connection: &str| {
            let head = format!("GET / HTTP/{version}\r\nConnection: {connection}\r\n\r\n");
            request(&head).is_last
        };
        assert!(is_last("1.1", "a, Close") && !is_last("1.1", "closed") && !is_last("1.1", ""));
        assert!(is_last("1.0", "") && !is_last("1.0", "Keep-Alive"));
        assert!(is_last("1.0", "keep-alive, close"));
    }

    #[test]
    fn what_is_no_clear_request_is_unclear() {
        for head in [
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\x16\x03\x01",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(read(head.as_bytes()), Err(Unclear), "{head:?}");
        }
    }
}
