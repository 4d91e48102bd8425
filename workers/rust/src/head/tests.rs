use proptest::prelude::*;

use super::*;

fn sid(head: &str) -> Lookup<String> {
    Head::new(head.as_bytes(), false).query("sid").map(text)
}

fn text(value: Cow<'_, [u8]>) -> String {
    value.iter().map(|byte| char::from(*byte)).collect()
}

fn yes(value: &str) -> Lookup<String> {
    Lookup::Found(value.to_owned())
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
    assert_eq!(sid("GET /?x#sid=abc HTTP/1.1\r\n"), Lookup::Absent);
    assert_eq!(sid("GET /sid=abc HTTP/1.1\r\n"), Lookup::Absent);
    assert_eq!(sid("GET /?SID=abc&sid=&sids=1 HTTP/1.1\r\n"), Lookup::Absent);
    assert_eq!(sid("GET /?sid HTTP/1.1\r\n"), Lookup::Absent);
    assert_eq!(
        sid("GET / HTTP/1.1\r\nReferer: /?sid=a\r\nCookie: sid=b\r\n\r\nsid=c"),
        Lookup::Absent
    );
}

#[test]
fn a_sid_is_read_in_every_request_line_that_some_server_serves() {
    // Each was tried with Node, Python's `http.server`, gunicorn, h11 and httptools: at least one of them
    // serves it, and whoever does sees this target.
    for line in [
        "GET  /?sid=abc HTTP/1.1\r\n",
        "GET /?sid=abc  HTTP/1.1\r\n",
        "GET /?sid=abc HTTP/1.1 \r\n",
        "GET\t/?sid=abc\tHTTP/1.1\r\n",
        " \tGET /?sid=abc HTTP/1.1\r\n",
        "\n\r\n\nGET /?sid=abc HTTP/1.1\r\n",
        "\rGET /?sid=abc HTTP/1.1\r\n",
        "GET /?sid=abc HTTP/1.1\n",
        "GET /?sid=abc HTTP/2.0\r\n",
        "GET /?sid=abc HTTP/1.2\r\n",
        "GET /?sid=abc HTTP/01.10\r\n",
        "GET /?sid=abc HTTP/0.9\r\n",
        "GET /?sid=abc\r\n",
        "GET /?sid=abc \n",
        "get /?sid=abc HTTP/1.1\r\n",
        "GET ?sid=abc HTTP/1.1\r\n",
        "SOURCE /?sid=abc ICE/1.0\r\n",
    ] {
        assert_eq!(sid(line), yes("abc"), "{line:?}");
    }
    let bytes = b"GET /?sid=\xff\0\"<\x7f HTTP/1.1\r\n";
    let found = Head::new(bytes, false).query("sid").map(text);
    assert_eq!(found, yes("\u{ff}\0\"<\u{7f}"));
    for line in ["GET /?sid=abc b HTTP/1.1\r\n", "GET /?sid=abc http/1.1\r\n", "/?sid=abc\r\n"] {
        assert_eq!(sid(line), Lookup::Absent, "{line:?}");
    }
}

#[test]
fn headers_are_read_in_every_head_that_some_server_serves() {
    let cookie = |head: &str| {
        let found = Head::new(head.as_bytes(), false).cookie("c").map(|found| text(found.into()));
        assert_ne!(found, Lookup::Incomplete, "{head:?}");
        found
    };
    for head in [
        "GET / HTTP/1.1\nCookie: c=1\n\n",
        "GET / HTTP/1.1\nCookie: c=1\n\r\n",
        "GET / HTTP/1.1 \r\nX: y\r\n z: c=2\r\nCookie: c=1\r\n\r\n",
        "GET / HTTP/1.1\r\nCookie: a=0;\r\n\tc=1\r\n\r\n",
        "GET / HTTP/1.1\r\nCookie:\r\n c=1\r\n\r\n",
        "GET / HTTP/1.1\r\n Cookie: c=2\r\nCookie: c=1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: \0\x01\r\nX(y): z\r\n: v\r\nCookie: c=1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\rCookie: c=1\r\n\r\n",
        "GET / HTTP/2.0\r\nCookie: c=1\r\nCookie: c=2\r\n\r\n",
    ] {
        assert_eq!(cookie(head), yes("1"), "{head:?}");
    }
    // Whoever lets these pass reads no more headers behind the line in question.
    for head in [
        "GET / HTTP/1.1\r\nbroken\r\nCookie: c=1\r\n\r\n",
        "GET / HTTP/1.1\r\nCookie : c=1\r\n\r\n",
        "GET / HTTP/1.1\r\n\u{e9}: x\r\nCookie: c=1\r\n\r\n",
        "GET /\r\nCookie: c=1",
    ] {
        assert_eq!(cookie(head), Lookup::Absent, "{head:?}");
    }
}

#[test]
fn the_query_is_known_as_soon_as_the_request_line_is_there_and_not_before() {
    let line = "GET /?EIO=4&sid=abc HTTP/1.1";
    for end in 0..line.len() {
        assert_eq!(sid(&line[..end]), Lookup::Incomplete, "{}", &line[..end]);
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
    assert_eq!(protocol(b"GET /\r\n"), Protocol::Http1);
    assert_eq!(protocol(b"GET / HTTP/3"), Protocol::Undecided);
    assert_eq!(protocol(b"SET a b\r\n"), Protocol::Unknown);
}

#[test]
fn headers_wait_for_the_whole_head() {
    let whole = b"GET / HTTP/1.1\r\nX-User:  ann \r\nx-user: bob\r\nX-Empty:\r\n\r\nbody";
    let head = Head::new(whole, false);
    assert_eq!(head.header("x-USER"), Lookup::Found(b"ann".as_slice()));
    assert_eq!(head.header("x-empty"), Lookup::Absent);
    assert_eq!(head.header("x-other"), Lookup::Absent);
    assert_eq!(head.headers("X-user"), Lookup::Found(vec![b"ann".as_slice(), b"bob"]));
    assert_eq!(head.headers("x-other"), Lookup::Absent);
    for end in 0..whole.len() - 4 {
        assert_eq!(Head::new(&whole[..end], false).header("x-user"), Lookup::Incomplete);
        assert_eq!(Head::new(&whole[..end], true).header("x-user"), Lookup::Absent);
        assert_eq!(Head::new(&whole[..end], false).headers("x-user"), Lookup::Incomplete);
    }
}

#[test]
fn cookies_are_found_by_exact_name_in_any_cookie_header() {
    let head =
        b"GET / HTTP/1.1\r\nCookie: id2=no; xid=no\r\nCOOKIE: a=1;id=\"one\"; id=two\r\n\r\n";
    let head = Head::new(head, false);
    assert_eq!(head.cookie("id"), Lookup::Found(b"one".as_slice()));
    assert_eq!(head.cookie("a"), Lookup::Found(b"1".as_slice()));
    assert_eq!(head.cookie("ID"), Lookup::Absent);
}

#[test]
fn a_head_may_have_thousands_of_headers_and_64_kib() {
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    while head.len() < MAX_HEAD - 64 {
        head.extend_from_slice(b"a:\r\n");
    }
    head.extend_from_slice(b"x-user: ann\r\n\r\n");
    assert_eq!(Head::new(&head, false).header("x-user"), Lookup::Found(b"ann".as_slice()));
    assert_eq!(Head::new(&[b'a'; MAX_HEAD], false).query("sid"), Lookup::Absent);
}

/// Bytes of which many are heads, or nearly.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ \t\r\n]{0,2}(GET|PRI|g)[ \t]{1,2}/[ -~]{0,20}( HTTP/[0-9]\\.[0-9])?[\r\n]{1,2}\
                ([A-Za-z]{1,4}:? ?[ -~]{0,9}[\r\n]{1,2}){0,3}\r?\n?";
    prop_oneof![
        text.prop_map(String::into_bytes),
        prop::collection::vec(prop::sample::select(b"G :/?a1.\r\n\0".to_vec()), 0..60),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// Everything that is asked about a head.
fn answers(bytes: &[u8]) -> impl PartialEq + std::fmt::Debug {
    let head = Head::new(bytes, false);
    (head.query("a").map(Cow::into_owned), head.header("a").map(<[u8]>::to_vec), head.protocol())
}

proptest! {
    #[test]
    fn any_bytes_are_answered_and_more_bytes_never_take_an_answer_back(
        bytes in heads(),
        cut in any::<prop::sample::Index>(),
    ) {
        let part = Head::new(&bytes[..cut.index(bytes.len() + 1)], false);
        let whole = Head::new(&bytes, false);
        let (early, late) = (part.query("a"), whole.query("a"));
        prop_assert!(early == Lookup::Incomplete || early == late);
        let (early, late) = (part.header("a"), whole.header("a"));
        prop_assert!(early == Lookup::Incomplete || early == late);
        prop_assert!(part.protocol() == Protocol::Undecided || part.protocol() == whole.protocol());
    }

    #[test]
    fn a_growing_head_tells_whenever_an_answer_may_be_another_one(
        bytes in heads(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        let mut growth = Growth::default();
        let mut before = answers(b"");
        for end in ends {
            let tells = growth.see(&bytes[growth.seen()..end]);
            let now = answers(&bytes[..end]);
            prop_assert!(tells || before == now, "{now:?} after {before:?}");
            before = now;
        }
    }

    #[test]
    fn a_growing_head_tells_nothing_for_most_of_its_bytes(
        line in "[\r\n]{0,9}GET {1,9}/[!-~]{0,30} {1,9}HTTP/1",
        head in "(\r\n[a:=, ]{1,9}){1,9}",
    ) {
        let mut growth = Growth::default();
        let mut tells = |bytes: &str| bytes.bytes().map(|byte| growth.see(&[byte])).collect::<Vec<_>>();
        prop_assert!(!tells(&line).contains(&true));
        prop_assert_eq!(tells(".1"), [false, true]);
        prop_assert!(!tells(&head).contains(&true));
        prop_assert_eq!(tells("\r\n\r\n"), [false, false, false, true]);
    }
}
