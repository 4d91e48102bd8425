//! A worker that speaks Node's channel by hand, so that it can do with it what no Node
//! does: say one thing without reading the answer, and send descriptors with anything.
//!
//! | path | what it does |
//! |---|---|
//! | `/hold` | keeps the connection without an answer |
//! | `/linger` | closes it with an answer that nobody reads, and only then says that it has arrived |
//! | `/abuse/WHAT` | misuses the channel, see [`Worker::abuse`], then answers |
//! | anything else | answers, also with the length of the longest message that another worker has sent, and what became of descriptors |
//!
//! It listens on the port `PORT` and serves one connection after the other.

use std::env;
use std::io::{self, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use sendfd::SendWithFd;
use serde_json::{Value, json};
use socket2::SockRef;

use self::plain::{decode, encode as frame};
use super::node::Port;
use super::supervisor::{Builder, Supervisor, without_listener};

#[path = "../../../src/protocol/node/tests/plain.rs"]
mod plain;

/// The variable that turns the test binary into a worker.
const SWITCH: &str = "STICKY_RUN_TEST_NODE_WORKER";
/// A mebibyte.
const MIB: usize = 1024 * 1024;
/// How long the last close of a connection waits.
const LINGER: Duration = Duration::from_secs(60);
/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(1);

/// sticky-run with so many of these workers, which are ready, and their port.
pub fn start(workers: u16, flags: &[&str]) -> (Supervisor, Port) {
    let binary = env::current_exe().expect("the test binary has a path");
    let switch = format!("{SWITCH}=1");
    let command = ["env", &switch, binary.to_str().expect("its path is text"), "--exact"];
    let command = [&command[..], &["support::node_worker::main", "--nocapture"]].concat();
    let port = Port::free();
    let node = ["--handoff", "node", "-b", "round-robin"];
    let builder: Builder = without_listener(workers, &[&node[..], flags].concat());
    let builder = builder.command(&command).env("PORT", &port.number.to_string());
    (builder.start(), port)
}

/// Not a test but the worker, when the supervisor runs this binary.
#[test]
fn main() {
    if env::var_os(SWITCH).is_some() {
        process::exit(Worker::new().run());
    }
}

struct Worker {
    channel: UnixStream,
    port: u16,
    /// What was read of the channel and is no whole frame yet.
    read: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// Connections without an answer.
    held: Vec<TcpStream>,
    /// The length of the longest message of an adapter.
    heard: usize,
    /// What became of the descriptors that it has sent.
    told: String,
}

impl Worker {
    fn new() -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let fd = number("NODE_CHANNEL_FD").expect("the supervisor has set it");
        let port = number("PORT").and_then(|port| u16::try_from(port).ok());
        Self {
            channel: UnixStream::from(own(fd)),
            port: port.expect("the test has set it"),
            read: Vec::new(),
            descriptors: Vec::new(),
            held: Vec::new(),
            heard: 0,
            told: String::new(),
        }
    }

    fn run(mut self) -> i32 {
        self.say(&json!({"cmd": "NODE_CLUSTER", "act": "online", "seq": 0}));
        self.say(&json!({"cmd": "NODE_STICKY", "act": "hello", "version": 2}));
        self.say(&self.query(1, &json!({})));
        while let Some(frame) = self.receive() {
            // The supervisor writes an older version of the format.
            let is_of_another_worker = frame[4..].starts_with(b"\xFF\x0F");
            if is_of_another_worker {
                self.heard = self.heard.max(frame.len());
            } else {
                self.hear(&decode(&frame));
            }
        }
        0
    }

    fn hear(&mut self, message: &Value) {
        let handle = &message["msg"];
        match (message["cmd"].as_str(), message["act"].as_str()) {
            (Some("NODE_CLUSTER"), _) if message["ack"] == 1 => {
                self.say(&json!({"cmd": "NODE_CLUSTER", "act": "listening", "seq": 2}));
            }
            (Some("NODE_HANDLE"), _) if message["type"] == "net.Native" => {
                let socket = self.descriptors.remove(0);
                let client = linger(TcpStream::from(socket)).expect("a connection");
                self.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
                self.say(&json!({"cmd": "NODE_CLUSTER", "ack": handle["seq"], "accepted": true}));
                match client {
                    Some(client) => self.serve(client),
                    None => self.say(&json!({"cmd": "NODE_STICKY", "act": "closed", "count": 1})),
                }
            }
            (Some("NODE_HANDLE"), _) if message["type"] == "dgram.Native" => {
                self.descriptors.remove(0);
                self.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
            }
            (Some("NODE_HANDLE"), _) => {
                // One that was handed back: nobody here reads it again.
                self.say(&json!({"cmd": "NODE_HANDLE_ACK"}));
                self.descriptors.remove(0);
                self.say(&json!({"cmd": "NODE_STICKY", "act": "closed", "count": 1}));
            }
            (Some("NODE_HANDLE_ACK"), _) => self.told.push_str("arrived "),
            (Some("NODE_HANDLE_NACK"), _) => self.told.push_str("lost "),
            (Some("NODE_STICKY"), Some("ping")) => {
                self.say(&json!({"cmd": "NODE_STICKY", "act": "pong"}));
            }
            (Some("NODE_STICKY"), Some("close" | "close-now")) => process::exit(0),
            _ => {}
        }
    }

    fn serve(&mut self, mut client: TcpStream) {
        // Node wants it so.
        client.set_nonblocking(false).expect("it is a socket");
        let mut head = [0; 4096];
        let length = client.read(&mut head).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/hold" {
            return self.held.push(client);
        }
        if let Some(what) = path.strip_prefix("/abuse/") {
            self.abuse(what);
        }
        let (slot, pid) = (env::var("STICKY_WORKER_ID").unwrap_or_default(), process::id());
        let (heard, told) = (self.heard, &self.told);
        let body = format!("slot={slot}\npid={pid}\nheard={heard}\ntold={told}\n");
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        self.say(&json!({"cmd": "NODE_STICKY", "act": "closed", "count": 1}));
        client.write_all(answer.as_bytes()).ok();
    }

    /// Misuses the channel in the way named. The supervisor may end this process meanwhile.
    fn abuse(&mut self, what: &str) {
        match what {
            // Answers of 80 MiB that nobody reads.
            "questions" => {
                let key = "x".repeat(4096);
                let frame = frame(&json!({"cmd": "NODE_SOCKET_GET_COUNT", "key": key}));
                self.repeat(&frame, 20_000);
            }
            // 60 MiB to be kept with ports, each of which is another one.
            "data" => {
                for index in 0..60 {
                    let data = "x".repeat(MIB);
                    self.say(&self.query(9, &json!({"port": 0, "index": index, "data": data})));
                }
            }
            // 80 MiB of names.
            "names" => {
                for index in 0..8 {
                    let address = format!("/{index}{}", "x".repeat(10 * MIB));
                    self.say(&self.query(9, &json!({"address": address, "addressType": -1})));
                }
            }
            // The same connection, of which 80 MiB were read.
            "heads" => self.hand_back(80, "/", MIB),
            // Every connection that it has, with what may go with each.
            "held" => self.hand_back(self.held.len(), "/", 190 * 1024),
            // The same, for the worker that has announced a session.
            "held-of-one" => self.hand_back(self.held.len(), "/?sid=one", 190 * 1024),
            // As many as it had, when it has little more than the one that asked for this.
            "own" => {
                self.say(&json!({"cmd": "NODE_STICKY", "act": "closed", "count": self.held.len()}));
                self.hand_back(self.held.len(), "/", 0);
            }
            "announce-one" => {
                self.say(&json!({"cmd": "NODE_STICKY", "act": "session", "key": "one"}));
            }
            // A descriptor whose arrival is never told, again and again.
            "sockets" => {
                // Several sockets may have the address.
                let more = json!({"port": self.port, "addressType": "udp4", "flags": 4});
                let key = format!("127.0.0.1:{}:Udp4::0", self.port);
                let again = [
                    frame(&self.query(9, &more)),
                    frame(&json!({"cmd": "NODE_CLUSTER", "act": "close", "key": key})),
                ];
                for _ in 0..200_000 {
                    self.write(&again.concat());
                    self.read_all();
                }
            }
            // 300 sockets, as fast as they may be opened, which are told to have arrived afterwards.
            "many-sockets" => {
                for number in 0..300 {
                    if number >= 250 {
                        thread::sleep(Duration::from_millis(5));
                    }
                    let address = format!("127.1.1.{}", number % 150 + 1);
                    let port = self.port + number / 150;
                    let more = json!({"address": address, "port": port, "addressType": "udp4"});
                    self.say(&self.query(9, &more));
                }
            }
            // A message of the app that is too long, and a connection right behind it.
            "long-and-back" => {
                self.say(&json!({"type": "nobody", "data": "x".repeat(17 * MIB)}));
                self.hand_back(1, "/", 0);
            }
            "short" => {
                let end = Instant::now() + FLOOD;
                let session = |number: u32| {
                    frame(
                        &json!({"cmd": "NODE_STICKY", "act": "session", "key": number.to_string()}),
                    )
                };
                let frames: Vec<u8> = (0..10_000).flat_map(session).collect();
                while Instant::now() < end {
                    self.write(&frames);
                }
            }
            "tell-much" => self.broadcast(1, 4 * MIB),
            "tell-too-much" => self.broadcast(1, 20 * MIB),
            "tell-often" => self.broadcast(80, MIB),
            // For nobody here, and slow to read.
            "dear" => {
                let end = Instant::now() + FLOOD;
                let message = json!({"type": "nobody", "data": vec![json!([]); 4 * MIB / 3]});
                let frame = frame(&message);
                while Instant::now() < end {
                    self.write(&frame);
                }
            }
            // For nobody here.
            "long" => {
                let end = Instant::now() + FLOOD;
                let text = "x".repeat(15 * MIB);
                let frame = frame(&json!({"type": "nobody", "data": text}));
                while Instant::now() < end {
                    self.write(&frame);
                }
            }
            _ => panic!("no such abuse: {what}"),
        }
    }

    fn query(&self, seq: u32, more: &Value) -> Value {
        let mut query = json!({
            "cmd": "NODE_CLUSTER", "act": "queryServer", "seq": seq, "index": 0, "flags": 0,
            "address": "127.0.0.1", "port": self.port, "addressType": 4, "backlog": 511,
        });
        for (name, value) in more.as_object().expect("an object") {
            query[name] = value.clone();
        }
        query
    }

    fn broadcast(&self, times: usize, length: usize) {
        let data = "x".repeat(length);
        let message =
            json!({"source": "_sio_adapter", "type": 3, "uid": "u", "nsp": "/", "data": data});
        self.repeat(&frame(&message), times);
    }

    /// Hands so many connections back, with as much as was read of each. A connection may be the same.
    fn hand_back(&self, times: usize, path: &str, length: usize) {
        let head = format!("GET {path} HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(length));
        let head = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, head);
        let message = json!({"cmd": "NODE_STICKY", "act": "handback", "head": head});
        let frame = frame(&json!({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": message}));
        for number in 0..times {
            let socket = &self.held[number % self.held.len()];
            let sent = self.channel.send_with_fd(&frame[..1], &[socket.as_raw_fd()]);
            if sent.is_ok() {
                self.write(&frame[1..]);
            }
        }
    }

    fn say(&self, message: &Value) {
        self.write(&frame(message));
    }

    fn repeat(&self, frame: &[u8], times: usize) {
        for _ in 0..times {
            self.write(frame);
        }
    }

    /// Writes all of it. Who is not read any more has been told so before.
    fn write(&self, bytes: &[u8]) {
        (&self.channel).write_all(bytes).ok();
    }

    /// The next frame; none when the supervisor is gone.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = self.read.first_chunk() {
                let end = 4 + usize::try_from(u32::from_be_bytes(*length)).ok()?;
                if self.read.len() >= end {
                    return Some(self.read.drain(..end).collect());
                }
            }
            if self.read_some(MsgFlags::empty()).ok()? == 0 {
                return None;
            }
        }
    }

    /// Reads what is there and keeps nothing of it.
    fn read_all(&mut self) {
        while self.read_some(MsgFlags::MSG_DONTWAIT).is_ok_and(|count| count > 0) {}
        self.read.clear();
        self.descriptors.clear();
    }

    fn read_some(&mut self, flags: MsgFlags) -> io::Result<usize> {
        let mut chunk = vec![0; 64 * 1024];
        let mut control = nix::cmsg_space!([RawFd; 4]);
        let mut into = [IoSliceMut::new(&mut chunk)];
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.channel.as_raw_fd();
        let received = recvmsg::<()>(fd, &mut into, Some(&mut control), flags)?;
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors.into_iter().map(own));
            }
        }
        let count = received.bytes;
        self.read.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

#[expect(unsafe_code, reason = "the supervisor says which descriptor is the channel")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: nobody else in this process owns the channel or a descriptor that just came over it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes a connection whose request asks for that, full of bytes for whose delivery its last close waits.
fn linger(mut client: TcpStream) -> io::Result<Option<TcpStream>> {
    let mut head = [0; 64];
    client.set_nonblocking(true)?;
    let length = client.peek(&mut head).unwrap_or(0);
    if !head[..length].starts_with(b"GET /linger") {
        return Ok(Some(client));
    }
    // What is unread would have the connection reset.
    client.read_exact(&mut head[..length])?;
    SockRef::from(&client).set_linger(Some(LINGER))?;
    while client.write(&[0; 65536]).is_ok() {}
    Ok(None)
}
