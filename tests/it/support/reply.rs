//! An HTTP client that keeps its connection, and raw Engine.IO sessions.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::{client, uninterrupted};

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        Some(&found.1)
    }

    /// Whether the connection is over with it.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a name in the answer of an app; see `tests/node/apps/who.js`.
    #[track_caller]
    pub fn value(&self, name: &str) -> String {
        let text = self.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in {}: {text}", self.status)).to_owned()
    }

    /// The pid of the worker that answered.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.value("pid").parse().expect("a number")
    }

    /// Its slot.
    #[track_caller]
    pub fn slot(&self) -> u16 {
        self.value("slot").parse().expect("a number")
    }
}

/// A connection that carries one request after the other.
pub struct Kept {
    stream: TcpStream,
    /// What was read and not yet used.
    read: Vec<u8>,
}

impl Kept {
    /// A new connection.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::over(client::connect(address).expect("a connection"))
    }

    /// A new connection, if somebody listens there.
    pub fn open_if(address: SocketAddr) -> Option<Self> {
        client::connect(address).ok().map(Self::over)
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Asks for a path.
    pub fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send("GET", path, b"")?;
        self.reply()
    }

    /// Posts a body.
    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Reply> {
        self.send("POST", path, body)?;
        self.reply()
    }

    /// Sends a request and leaves the answer for later.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        if method == "POST" {
            write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
        }
        head.push_str("\r\n");
        self.write(&[head.as_bytes(), body].concat())
    }

    /// Sends these bytes in one segment, if they fit.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.write_all(bytes)
    }

    /// Reads one answer: so many bytes as it announces, or all until the end.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.reply_without_body()?;
        match reply.header("content-length").map(str::parse) {
            Some(Ok(length)) => {
                while self.read.len() < length {
                    self.more()?;
                }
                reply.body = self.read.drain(..length).collect();
            }
            _ => {
                self.stream.read_to_end(&mut self.read)?;
                reply.body = std::mem::take(&mut self.read);
            }
        }
        Ok(reply)
    }

    /// Reads the head of an answer.
    pub fn reply_without_body(&mut self) -> io::Result<Reply> {
        let (length, reply) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.read).map_err(io::Error::other)?;
            if let httparse::Status::Complete(length) = parsed {
                let headers = response.headers.iter().map(|header| {
                    (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned())
                });
                let status = response.code.expect("it is complete");
                break (length, Reply { status, headers: headers.collect(), body: Vec::new() });
            }
            self.more()?;
        };
        self.read.drain(..length);
        Ok(reply)
    }

    /// Waits until the other side closes, and says what it sent before.
    pub fn end(mut self) -> io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.read)?;
        Ok(self.read)
    }

    fn more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        match uninterrupted(|| self.stream.read(&mut chunk))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.read.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// Asks for a path on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Reply {
    Kept::open(address).get(path).expect("an answer")
}

/// Asks for a path on a connection of its own from this address of the machine.
#[track_caller]
pub fn get_from(source: IpAddr, address: SocketAddr, path: &str) -> Reply {
    let stream = client::connect_from(source, address).expect("a connection");
    Kept::over(stream).get(path).expect("an answer")
}

/// Posts a body on a connection of its own.
#[track_caller]
pub fn post(address: SocketAddr, path: &str, body: &[u8]) -> Reply {
    Kept::open(address).post(path, body).expect("an answer")
}

/// A raw Engine.IO session by polling, on which Socket.IO has said hello.
pub struct Session {
    /// Its id.
    pub sid: String,
    /// The worker that it lives in.
    pub pid: i32,
}

/// The path of Engine.IO requests that have no id yet.
pub const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

impl Session {
    /// A handshake and the first requests of an app in `tests/node/apps`, each on a new connection.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::greet(address, handshake(address))
    }

    /// The first requests after a handshake, each on a new connection.
    #[track_caller]
    pub fn greet(address: SocketAddr, sid: String) -> Self {
        let path = format!("{POLLING}&sid={sid}");
        let posted = post(address, &path, b"40");
        assert_eq!((posted.status, posted.text()), (200, "ok".to_owned()), "sid {sid}");
        let mut heard = String::new();
        while !heard.contains(r#""pid":"#) {
            let polled = get(address, &path);
            assert_eq!(polled.status, 200, "sid {sid}: {}", polled.text());
            heard.push_str(&polled.text());
        }
        let pid = heard.split(r#""pid":"#).nth(1).expect("it is there");
        let digits = pid.split(|letter: char| !letter.is_ascii_digit()).next();
        let pid = digits.and_then(|digits| digits.parse().ok()).expect("a pid");
        Self { sid, pid }
    }

    /// The path of its requests.
    pub fn path(&self) -> String {
        format!("{POLLING}&sid={}", self.sid)
    }

    /// Whether the worker that is asked knows the session.
    #[track_caller]
    pub fn is_known(&self, address: SocketAddr) -> bool {
        // The packet 6 means nothing and is answered by nothing.
        post(address, &self.path(), b"6").status == 200
    }
}

/// A handshake on a connection of its own: the id that it gave.
#[track_caller]
pub fn handshake(address: SocketAddr) -> String {
    sid_of(&get(address, POLLING))
}

/// The id in the answer to a handshake.
#[track_caller]
pub fn sid_of(reply: &Reply) -> String {
    let text = reply.text();
    let sid = text.split(r#""sid":""#).nth(1).and_then(|rest| rest.split('"').next());
    sid.unwrap_or_else(|| panic!("no sid in {}: {text}", reply.status)).to_owned()
}
