//! The native channel protocol, version 1: messages to bytes and back.
//!
//! One message is one datagram: one line of ASCII, a verb followed by arguments or `name=value`
//! fields, one space between them, an optional newline at the end. Those of the supervisor have at
//! most [`MAX_MESSAGE`] bytes, those of a worker, which carry keys, [`MAX_WORKER_MESSAGE`].
//! File descriptors travel beside the bytes and are not this module's business. Both sides use this
//! codec; `sticky-run-channel(7)` is the same protocol for people who write a worker in another
//! language. Unknown verbs and unknown fields are ignored, so that either side may be the newer one.

use std::io::Write;
use std::net::SocketAddr;
use std::str::{self, FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

/// The version of the protocol that this crate speaks, as in `STICKY_PROTOCOL`.
pub const PROTOCOL: u32 = 1;
/// A message of the supervisor is at most this long, in bytes. A longer datagram is malformed.
pub const MAX_MESSAGE: usize = 1024;
/// A message of a worker is at most this long, in bytes: enough for the longest key, with every byte
/// of it escaped.
pub const MAX_WORKER_MESSAGE: usize = 16 * 1024;
/// A key that is announced is 1 to this many bytes, counted before escaping.
pub const MAX_KEY: usize = 4096;

/// The variable that holds the number of the channel's descriptor.
pub const ENV_CHANNEL: &str = "STICKY_CHANNEL";
/// The variable that holds the inode of the channel, so that a process which inherited the variable
/// but not the socket can tell.
pub const ENV_CHANNEL_INODE: &str = "STICKY_CHANNEL_INODE";
/// The variable that says what the supervisor places connections by, in the order in which it looks, as
/// in `--by`; `forwarded:NAME` are all headers of that name, in which a proxy tells its client. It is
/// there if the supervisor knows `BACK next=1`.
pub const ENV_CHANNEL_KEYS: &str = "STICKY_CHANNEL_KEYS";
/// The variable that holds the version of the protocol.
pub const ENV_PROTOCOL: &str = "STICKY_PROTOCOL";
/// The variable that holds the worker's slot, counted from 0.
pub const ENV_WORKER_ID: &str = "STICKY_WORKER_ID";
/// The variable that holds the number of slots.
pub const ENV_WORKERS: &str = "STICKY_WORKERS";

/// What stands escaped in a key: everything that is not graphic ASCII, and `%` itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What identifies a client: an Engine.IO session id, an MCP session, any announced id.
///
/// The bytes are those that the client presents, after the decoding of `%` escapes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Box<[u8]>);

impl Key {
    /// A key of these bytes, or `None` unless they are 1 to [`MAX_KEY`].
    pub fn new(bytes: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = bytes.as_ref();
        (1..=MAX_KEY).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The key's bytes, unescaped.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a worker says to the supervisor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromWorker {
    /// `READY`: place connections here.
    Ready,
    /// `SESSION <key>`: this key lives here. Sent before the answer that tells the client the key.
    Session(Key),
    /// `END <key>`: this key is over.
    End(Key),
    /// `CLOSED <n>`: this many connections are finished since the last time.
    Closed(u32),
    /// `BACK`, with one descriptor: this connection is not mine, route it again. Its bytes are unread.
    Back {
        /// `next=1`: I have served what it was routed here for. Route its next request, of which
        /// nothing was read, as if the connection had just come; it may be mine. An older supervisor
        /// takes it for a plain `BACK`.
        next: bool,
    },
    /// `PONG`: the answer to `PING`.
    Pong,
}

/// What the supervisor says to a worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToWorker {
    /// `CONN`, with one descriptor: a connection, in blocking mode, as from `accept(2)`.
    Conn {
        /// The client's address; absent for a client of a Unix socket.
        client: Option<SocketAddr>,
        /// The number of the listener it came from, counted from 0 in the order of `--listen`.
        listener: Option<u16>,
    },
    /// `DRAIN`: finish what you have, no new keys will come.
    Drain,
    /// `PING`: say `PONG`.
    Ping,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Longer than this, in bytes: [`MAX_MESSAGE`] or [`MAX_WORKER_MESSAGE`].
    #[error("the message is longer than {0} bytes")]
    TooLong(usize),
    /// Not a single line of printable ASCII.
    #[error("the message is not one line of printable ASCII")]
    NotALine,
    /// A known verb with an argument that is missing, wrong or too much.
    #[error("{0} has a wrong argument")]
    Argument(&'static str),
    /// A key that is longer than [`MAX_KEY`].
    #[error("{0} has a key of more than {MAX_KEY} bytes, which does not count: use a shorter key")]
    LongKey(&'static str),
}

/// A message split at its spaces: the verb and the rest.
struct Line<'a> {
    verb: &'a str,
    arguments: str::SplitAsciiWhitespace<'a>,
}

impl<'a> Line<'a> {
    fn parse(datagram: &'a [u8], most: usize) -> Result<Self, Malformed> {
        if datagram.len() > most {
            return Err(Malformed::TooLong(most));
        }
        let line = datagram.strip_suffix(b"\n").unwrap_or(datagram);
        let graphic = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        if !line.iter().all(graphic) {
            return Err(Malformed::NotALine);
        }
        let line = str::from_utf8(line).map_err(|_| Malformed::NotALine)?;
        let mut arguments = line.split_ascii_whitespace();
        let verb = arguments.next().ok_or(Malformed::NotALine)?;
        Ok(Self { verb, arguments })
    }

    /// The only argument, parsed; `None` when there is none, more than one, or a wrong one.
    fn only<T>(mut self, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let argument = parse(self.arguments.next()?)?;
        self.arguments.next().is_none().then_some(argument)
    }

    /// The value of a field, parsed: `None` when it is absent, an error when it does not parse.
    fn field<T: FromStr>(&self, name: &str) -> Result<Option<T>, T::Err> {
        self.arguments
            .clone()
            .filter_map(|field| field.split_once('='))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.parse())
            .transpose()
    }

    /// Whether the field is `1`; `0` is as if it were absent, and anything else is wrong.
    fn flag(&self, name: &str) -> Option<bool> {
        match self.field(name).ok()? {
            None | Some(0) => Some(false),
            Some(1_u8) => Some(true),
            Some(_) => None,
        }
    }
}

/// The only argument of a message with this verb, as a key.
fn key(line: Line<'_>, verb: &'static str) -> Result<Key, Malformed> {
    let bytes = line.only(|escaped| Some(percent_decode_str(escaped).collect::<Vec<u8>>()));
    let bytes = bytes.ok_or(Malformed::Argument(verb))?;
    let error = if bytes.len() > MAX_KEY { Malformed::LongKey } else { Malformed::Argument };
    Key::new(bytes).ok_or(error(verb))
}

fn count(digits: &str) -> Option<u32> {
    digits.parse().ok()
}

impl FromWorker {
    /// Reads one datagram; `Ok(None)` is a verb that this version does not know.
    pub fn parse(datagram: &[u8]) -> Result<Option<Self>, Malformed> {
        let line = Line::parse(datagram, MAX_WORKER_MESSAGE)?;
        Ok(Some(match line.verb {
            "READY" => Self::Ready,
            "SESSION" => Self::Session(key(line, "SESSION")?),
            "END" => Self::End(key(line, "END")?),
            "CLOSED" => Self::Closed(line.only(count).ok_or(Malformed::Argument("CLOSED"))?),
            "BACK" => Self::Back { next: line.flag("next").ok_or(Malformed::Argument("BACK"))? },
            "PONG" => Self::Pong,
            _ => return Ok(None),
        }))
    }

    /// Writes the message as one datagram.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready => b"READY\n".to_vec(),
            Self::Session(key) => format!("SESSION {}\n", percent_encode(&key.0, ESCAPED)).into(),
            Self::End(key) => format!("END {}\n", percent_encode(&key.0, ESCAPED)).into(),
            Self::Closed(count) => format!("CLOSED {count}\n").into(),
            Self::Back { next: false } => b"BACK\n".to_vec(),
            Self::Back { next: true } => b"BACK next=1\n".to_vec(),
            Self::Pong => b"PONG\n".to_vec(),
        }
    }
}

impl ToWorker {
    /// Reads one datagram; `Ok(None)` is a verb that this version does not know.
    pub fn parse(datagram: &[u8]) -> Result<Option<Self>, Malformed> {
        let line = Line::parse(datagram, MAX_MESSAGE)?;
        Ok(match line.verb {
            "CONN" => Some(Self::Conn {
                client: line.field("client").map_err(|_| Malformed::Argument("CONN"))?,
                listener: line.field("listener").map_err(|_| Malformed::Argument("CONN"))?,
            }),
            "DRAIN" => Some(Self::Drain),
            "PING" => Some(Self::Ping),
            _ => None,
        })
    }

    /// Writes the message into `buffer`, without allocating, and returns the part written.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; MAX_MESSAGE]) -> &'a [u8] {
        let mut rest = &mut buffer[..];
        let written = match self {
            Self::Conn { client, listener } => write_conn(&mut rest, *client, *listener),
            Self::Drain => rest.write_all(b"DRAIN\n"),
            Self::Ping => rest.write_all(b"PING\n"),
        };
        // An address is at most 58 characters and a listener's number at most 5.
        written.expect("the longest message is far below MAX_MESSAGE");
        let left = rest.len();
        &buffer[..MAX_MESSAGE - left]
    }
}

fn write_conn(
    to: &mut &mut [u8],
    client: Option<SocketAddr>,
    listener: Option<u16>,
) -> std::io::Result<()> {
    to.write_all(b"CONN")?;
    if let Some(client) = client {
        write!(to, " client={client}")?;
    }
    if let Some(listener) = listener {
        write!(to, " listener={listener}")?;
    }
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(key: &[u8]) -> FromWorker {
        FromWorker::Session(Key::new(key).unwrap())
    }

    #[test]
    fn every_message_of_a_worker_survives_the_way_there_and_back() {
        let all = [
            FromWorker::Ready,
            session(b"AAAA-_9z"),
            session(&[b'x'; MAX_KEY]),
            session(&[0xFF; MAX_KEY]),
            session(b"with space, 100% and \n newline"),
            FromWorker::End(Key::new(b"a").unwrap()),
            FromWorker::Closed(17),
            FromWorker::Back { next: false },
            FromWorker::Back { next: true },
            FromWorker::Pong,
        ];
        for message in all {
            let bytes = message.encode();
            assert!(bytes.len() <= MAX_WORKER_MESSAGE);
            assert_eq!(FromWorker::parse(&bytes), Ok(Some(message)));
        }
    }

    #[test]
    fn every_message_of_the_supervisor_survives_the_way_there_and_back() {
        let conn = |client: Option<&str>, listener| ToWorker::Conn {
            client: client.map(|text| text.parse().unwrap()),
            listener,
        };
        let all = [
            conn(None, None),
            conn(Some("127.0.0.1:65535"), Some(0)),
            conn(Some("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), Some(u16::MAX)),
            conn(Some("[fe80::1%2]:1"), None),
            ToWorker::Drain,
            ToWorker::Ping,
        ];
        for message in all {
            let mut buffer = [0; MAX_MESSAGE];
            assert_eq!(ToWorker::parse(message.encode(&mut buffer)), Ok(Some(message)));
        }
    }

    #[test]
    fn unknown_verbs_and_fields_are_ignored() {
        assert_eq!(FromWorker::parse(b"HELLO world\n"), Ok(None));
        assert_eq!(ToWorker::parse(b"HELLO"), Ok(None));
        let conn = ToWorker::Conn { client: None, listener: Some(3) };
        assert_eq!(ToWorker::parse(b"CONN colour=blue listener=3 x"), Ok(Some(conn)));
        let back = FromWorker::Back { next: false };
        assert_eq!(FromWorker::parse(b"BACK colour=blue next=0 x"), Ok(Some(back)));
    }

    #[test]
    fn what_is_not_a_message_says_why() {
        let parse = FromWorker::parse;
        assert_eq!(parse(b""), Err(Malformed::NotALine));
        assert_eq!(parse(b"\n"), Err(Malformed::NotALine));
        assert_eq!(parse(b"READY\nREADY\n"), Err(Malformed::NotALine));
        assert_eq!(parse(b"READY\0"), Err(Malformed::NotALine));
        assert_eq!(parse("SESSION \u{e9}".as_bytes()), Err(Malformed::NotALine));
        let too_long = Err(Malformed::TooLong(MAX_WORKER_MESSAGE));
        assert_eq!(parse(&[b'x'; MAX_WORKER_MESSAGE + 1]), too_long);
        let too_long = Err(Malformed::TooLong(MAX_MESSAGE));
        assert_eq!(ToWorker::parse(&[b'x'; MAX_MESSAGE + 1]), too_long);
        assert_eq!(parse(b"SESSION"), Err(Malformed::Argument("SESSION")));
        assert_eq!(parse(b"SESSION a b"), Err(Malformed::Argument("SESSION")));
        assert_eq!(parse(b"END "), Err(Malformed::Argument("END")));
        assert_eq!(parse(b"CLOSED -1"), Err(Malformed::Argument("CLOSED")));
        assert_eq!(parse(b"CLOSED 99999999999"), Err(Malformed::Argument("CLOSED")));
        assert_eq!(parse(b"BACK next=yes"), Err(Malformed::Argument("BACK")));
        let long = [b"SESSION ".as_slice(), &[b'x'; MAX_KEY + 1]].concat();
        assert_eq!(parse(&long), Err(Malformed::LongKey("SESSION")));
        assert_eq!(ToWorker::parse(b"CONN client=nobody"), Err(Malformed::Argument("CONN")));
    }
}
