//! Whole connections, in memory.

use proptest::prelude::*;

use super::*;
use crate::patience::now;

/// A connection on a worker on which the key `mine` lives.
struct World {
    keys: Keys,
    owned: Mutex<OwnedKeys>,
    kept: Kept,
    /// What the client has sent and the server has not read.
    unread: Vec<u8>,
}

/// What the server gets when it reads.
#[derive(Debug, Eq, PartialEq)]
enum Got {
    Bytes(String),
    Waits(Look),
    Left,
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl World {
    fn new(keys: &str) -> Self {
        let mut owned = OwnedKeys::default();
        owned.announce(b"mine");
        Self {
            keys: Keys::parse(keys).unwrap(),
            owned: Mutex::new(owned),
            kept: Kept::default(),
            unread: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &str) -> &mut Self {
        self.unread.extend(bytes.bytes());
        self
    }

    /// The keys in what is about to be written, in parts.
    fn gives_out(&self, parts: &[&str]) -> Vec<String> {
        let looking =
            Looking { keys: &self.keys, owned: &self.owned, now: now(), has_address: true };
        let buffers: Vec<_> = parts.iter().map(|part| IoSlice::new(part.as_bytes())).collect();
        let given = self.kept.gives_out(&buffers, &looking);
        given.into_iter().map(|key| String::from_utf8(key.into()).unwrap()).collect()
    }

    /// One read with a buffer of this size, when something is there.
    fn read_some(&mut self, size: usize) -> Got {
        let looking =
            Looking { keys: &self.keys, owned: &self.owned, now: now(), has_address: true };
        let size = loop {
            match self.kept.may_read() {
                MayRead::All => break size,
                MayRead::UpTo(most) => break size.min(usize::try_from(most).unwrap()),
                MayRead::Nothing => return Got::Left,
                MayRead::AfterALook => match self.kept.look(&self.unread, &looking, true) {
                    Look::Read => {}
                    Look::Elsewhere => return Got::Left,
                    look => return Got::Waits(look),
                },
            }
        };
        let size = size.min(self.unread.len());
        self.kept.read(size);
        Got::Bytes(String::from_utf8_lossy(&self.unread.drain(..size).collect::<Vec<_>>()).into())
    }

    fn read(&mut self) -> Got {
        self.read_some(1 << 20)
    }

    /// The client sends this, the server gets all of it and answers.
    fn serve(&mut self, request: &str) -> &mut Self {
        self.send(request);
        assert_eq!(self.read(), bytes(request));
        assert!(self.kept.wrote(OK));
        self
    }
}

fn bytes(text: &str) -> Got {
    Got::Bytes(text.into())
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_connection_with_very_many_requests_without_an_answer_stays_where_it_is() {
    let mut world = World::new("sid");
    world.send(&get("/").repeat(1000)).send(&get("/?sid=other"));
    let mut read = Vec::new();
    while let Got::Bytes(some) = world.read() {
        if some.is_empty() {
            break;
        }
        read.push(some.len());
    }
    let all = get("/").len() * 1000 + get("/?sid=other").len();
    assert_eq!(read.iter().sum::<usize>(), all);
    assert!(read.len() < 300, "nobody looks at each of them: {}", read.len());
}

#[test]
fn each_request_is_served_or_leaves_by_its_own_key() {
    for (first, next, stays) in [
        ("/", "/?sid=mine", true),
        ("/", "/?sid=other", false),
        ("/", "/favicon.ico", true),
        ("/?sid=mine", "/?sid=mine", true),
        ("/?sid=mine", "/?sid=other", false),
        ("/?sid=mine", "/favicon.ico", false),
        ("/?sid=routed", "/?sid=routed", true),
        ("/?sid=routed", "/?sid=mine", true),
        ("/", "/socket.io/?EIO=4&transport=polling", false),
        ("/?sid=mine", "/socket.io/?EIO=4&transport=polling", false),
    ] {
        let mut world = World::new("sid");
        world.serve(&get(first));
        world.send(&get(next));
        let expected = if stays { bytes(&get(next)) } else { Got::Left };
        assert_eq!(world.read(), expected, "{first} {next}");
    }
}

#[test]
fn a_key_that_was_routed_here_is_known_on_other_connections_too() {
    let mut world = World::new("cookie:user");
    let request = "GET / HTTP/1.1\r\nCookie: user=ann\r\n\r\n";
    world.serve(request);
    world.kept = Kept::default();
    world.serve(&get("/")).serve(request);
    world.send("GET / HTTP/1.1\r\nCookie: user=bob\r\n\r\n");
    assert_eq!(world.read(), Got::Left);
}

#[test]
fn a_request_leaves_unread_and_only_behind_all_answers() {
    let mut world = World::new("sid");
    let post = "POST /?sid=mine HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    let (other, again) = (get("/?sid=other"), get("/?sid=mine"));
    world.send(post).send(&again).send(&other);
    assert_eq!(world.read_some(10), bytes(&post[..10]));
    assert_eq!(world.read(), bytes(&post[10..]));
    // Its own may come before the answer, as it may without us.
    assert_eq!(world.read(), bytes(&again));
    assert_eq!(world.read(), Got::Waits(Look::Unanswered));
    assert!(!world.kept.wrote(&OK[..OK.len() - 1]));
    assert!(!world.kept.wrote(&OK[OK.len() - 1..]) || !world.kept.answers.are_complete());
    assert_eq!(world.read(), Got::Waits(Look::Unanswered));
    assert!(world.kept.wrote(OK));
    assert_eq!(world.read(), Got::Left);
    assert_eq!(world.unread, other.as_bytes());
}

#[test]
fn a_server_that_cannot_wait_gets_what_came_before_the_answer() {
    let mut world = World::new("sid");
    world.send(&get("/")).send(&get("/?sid=other"));
    assert_eq!(world.read(), bytes(&get("/")));
    let looking = Looking { keys: &world.keys, owned: &world.owned, now: now(), has_address: true };
    assert_eq!(world.kept.look(&world.unread, &looking, false), Look::Read);
    assert_eq!(world.read(), bytes(&get("/?sid=other")));
}

#[test]
fn a_body_in_chunks_ends_before_the_next_head() {
    let mut world = World::new("sid");
    let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = "5\r\nGET /\r\n0\r\nX: y\r\n\r\n";
    world.send(post).send(chunks).send(&get("/?sid=other"));
    assert_eq!(world.read(), bytes(post));
    assert_eq!(world.read(), bytes(chunks));
    assert!(world.kept.wrote(OK));
    assert_eq!(world.read(), Got::Left);
    assert_eq!(world.unread, get("/?sid=other").as_bytes());
}

#[test]
fn a_next_head_waits_until_it_is_whole_or_too_long() {
    let mut world = World::new("cookie:a");
    world.serve(&get("/"));
    world.send("GET / HTTP/1.1\r\nCookie: ");
    assert_eq!(world.read(), Got::Waits(Look::Incomplete));
    world.send("a=mine\r\n\r\n");
    assert_eq!(world.read(), bytes("GET / HTTP/1.1\r\nCookie: a=mine\r\n\r\n"));
    assert!(world.kept.wrote(OK));
    let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MAX_HEAD));
    world.send(&long);
    // It may be that the key of this one stands further on, but nobody looks so far.
    assert_eq!(world.read(), Got::Left);
    let mut world = World::new("cookie:a");
    world.serve(&get("/")).send(&long);
    assert_eq!(world.read(), bytes(&long));
}

#[test]
fn of_the_first_request_everything_comes_at_once() {
    let mut world = World::new("sid");
    for part in ["G", "ET /?si", "d=x HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        assert_eq!(world.send(part).read(), bytes(part));
    }
    assert!(world.kept.wrote(OK));
    world.serve(&get("/?sid=x")).send(&get("/?sid=other"));
    assert_eq!(world.read(), Got::Left);
}

#[test]
fn what_is_not_clear_stays() {
    let other = get("/?sid=other");
    for first in [
        "hello\r\n",
        "\x16\x03\x01",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n",
    ] {
        let mut world = World::new("sid");
        world.send(first).send(&other);
        let mut got = String::new();
        while !world.unread.is_empty() {
            let Got::Bytes(bytes) = world.read() else { panic!("{first:?} held up") };
            got += &bytes;
        }
        assert_eq!(got, format!("{first}{other}"));
    }
    for answer in ["HTTP/1.1 200 OK\r\n\r\nuntil the end", "hello", "HTTP/1.0 200 OK\r\n\r\n"] {
        let mut world = World::new("sid");
        world.send(&get("/"));
        assert_eq!(world.read(), bytes(&get("/")));
        assert!(world.kept.wrote(answer.as_bytes()));
        assert_eq!(world.send(&other).read(), bytes(&other), "{answer:?}");
    }
}

#[test]
fn an_upgrade_ends_the_looks_and_a_refused_one_does_not() {
    let upgrade = "GET /?sid=mine HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let other = get("/?sid=other");
    for (answer, expected) in
        [("HTTP/1.1 101 On\r\n\r\n", bytes(&other)), (str::from_utf8(OK).unwrap(), Got::Left)]
    {
        let mut world = World::new("sid");
        world.send(upgrade);
        assert_eq!(world.read(), bytes(upgrade));
        assert!(world.kept.wrote(answer.as_bytes()));
        assert_eq!(world.send(&other).read(), expected, "{answer:?}");
    }
    let mut world = World::new("sid");
    world.send(upgrade).send(&other);
    assert_eq!(world.read(), bytes(upgrade));
    assert_eq!(world.read(), bytes(&other), "nobody knows yet what this is");
}

proptest! {
    #[test]
    fn the_server_gets_what_was_sent_up_to_the_first_foreign_request(
        targets in prop::collection::vec((0..3_usize, 0..3_usize, 0..60_usize), 1..8),
        sizes in prop::collection::vec(1..50_usize, 1..20),
    ) {
        let mut world = World::new("sid");
        let (mut expected, mut left) = (String::new(), String::new());
        for (index, (target, framing, length)) in targets.iter().enumerate() {
            let target = ["/?sid=mine", "/?sid=mine&x", "/?sid=other"][*target];
            // The first one is where the supervisor has sent it.
            let target = if index == 0 { "/?sid=mine" } else { target };
            let body = "x".repeat(*length);
            let request = match framing {
                0 => get(target),
                1 => format!("POST {target} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}"),
                _ => format!(
                    "PUT {target} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                    if body.is_empty() { body } else { format!("{length:x}\r\n{body}\r\n") },
                ),
            };
            let to = if target.contains("other") || !left.is_empty() { &mut left } else { &mut expected };
            to.push_str(&request);
        }
        world.send(&expected).send(&left);
        let (mut got, mut sizes) = (String::new(), sizes.iter().cycle());
        while !world.unread.is_empty() {
            match world.read_some(*sizes.next().unwrap()) {
                Got::Bytes(bytes) => got += &bytes,
                Got::Waits(Look::Unanswered) => {
                    while !world.kept.answers.are_complete() {
                        world.kept.wrote(OK);
                    }
                }
                Got::Waits(_) | Got::Left => break,
            }
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(String::from_utf8(world.unread).unwrap(), left);
    }
}

#[test]
fn keys_in_every_answer_of_one_write_are_given_out_before_it() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let answer = |cookie: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: c={cookie}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let last = format!("HTTP/1.1 200 OK\r\nSet-Cookie: c=last\r\nConnection: close\r\n\r\n{OK:?}");
    let mut world = World::new("cookie:c");
    world.send(&"GET / HTTP/1.1\r\n\r\n".repeat(4));
    while matches!(world.read_some(100), Got::Bytes(_)) && !world.unread.is_empty() {}
    let written =
        [hints.to_owned(), answer("one", "set-cookie: c=no\r\n\r\n"), answer("two", "")].concat();
    let begun = answer("three", "of two parts");
    let (begun, rest) = begun.split_at(begun.len() - 3);
    assert_eq!(world.gives_out(&[&written, begun]), ["one", "two", "three"]);
    world.kept.wrote(written.as_bytes());
    world.kept.wrote(begun.as_bytes());
    assert_eq!(world.gives_out(&[rest, &last]), ["last"]);
}
