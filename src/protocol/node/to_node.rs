//! What the supervisor says, as a whole frame.
//!
//! `seq` is the supervisor's own counter for one worker, `key` its name of a listener. A message
//! whose documentation says *with a descriptor* travels with exactly one.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Data;
use super::from_node::ADAPTER;
use super::writer::{Object, frame};

/// Of `@socket.io/cluster-adapter` 0.3: an adapter is gone.
const ADAPTER_CLOSE: i64 = 13;
/// Of `@socket.io/cluster-adapter` 0.2: a worker is gone.
const WORKER_EXIT: i64 = 3;

/// What the supervisor says to a worker.
#[derive(Clone, Copy, Debug)]
pub enum ToNode<'a> {
    /// The answer to a query: connections will come in [`ToNode::NewConn`].
    Grant {
        /// The `seq` of the query.
        ack: u32,
        /// Counts the messages to this worker.
        seq: u32,
        /// Names the listener.
        key: &'a str,
        /// The data of the first worker that asked.
        data: Option<&'a Data>,
        /// What `server.address()` will say; absent for a Unix socket.
        sockname: Option<Sockname>,
    },
    /// The answer to a query: the app gets an `error` event.
    Refuse {
        /// The `seq` of the query.
        ack: u32,
        /// Counts the messages to this worker.
        seq: u32,
        /// Names the listener.
        key: &'a str,
        /// Why, such as `EADDRINUSE`; positive.
        errno: i32,
        /// The data of the first worker that asked.
        data: Option<&'a Data>,
    },
    /// The answer to a query for UDP, with a descriptor: the bound socket.
    GrantUdp {
        /// The `seq` of the query.
        ack: u32,
        /// Counts the messages to this worker.
        seq: u32,
        /// Names the socket.
        key: &'a str,
        /// The data of the first worker that asked.
        data: Option<&'a Data>,
    },
    /// A connection for a server, with a descriptor.
    NewConn {
        /// Counts the messages to this worker.
        seq: u32,
        /// Names the listener.
        key: &'a str,
    },
    /// The answer to [`FromNode::ExitedAfterDisconnect`](super::FromNode::ExitedAfterDisconnect).
    Ack {
        /// The `seq` of what is answered.
        ack: u32,
        /// Counts the messages to this worker.
        seq: u32,
    },
    /// Close the servers, end when the connections have ended.
    Disconnect {
        /// Counts the messages to this worker.
        seq: u32,
    },
    /// The worker's handle has arrived. Node ends if it waits for no such answer.
    HandleAck,
    /// The worker's message has arrived without its handle. Node ends if it waits for no such answer.
    HandleNack,
    /// The answer to [`FromNode::SocketNotifyClose`](super::FromNode::SocketNotifyClose).
    AllClosed {
        /// The worker's name of its server.
        key: &'a str,
    },
    /// The answer to [`FromNode::SocketGetCount`](super::FromNode::SocketGetCount).
    SocketCount {
        /// The worker's name of its server.
        key: &'a str,
        /// How many of its connections are open here.
        count: u32,
    },
    /// A connection for a worker of a package, with a descriptor.
    Package(PackageMessage<'a>),
    /// A connection that was handed back, with a descriptor.
    Conn {
        /// What was read of it, and is to be read again.
        head: &'a [u8],
        /// The worker's name of its server; absent where a package or the worker has to find it.
        server: Option<&'a str>,
        /// The local port; absent for a Unix socket.
        port: Option<u16>,
    },
    /// To the preload: no new sessions come any more; say when none is left
    /// ([`FromNode::Quiet`](super::FromNode::Quiet)).
    SoftDrain,
    /// To the preload: end, or say [`FromNode::HandlesTerm`](super::FromNode::HandlesTerm).
    Close {
        /// Without waiting for connections.
        at_once: bool,
    },
    /// To the preload: say [`FromNode::Pong`](super::FromNode::Pong).
    Ping,
    /// An adapter of a worker that ended, to the others, for `@socket.io/cluster-adapter` 0.3.
    AdapterClose {
        /// The adapter.
        uid: &'a str,
        /// Its namespace.
        nsp: &'a str,
    },
    /// A worker that ended, to the others, for `@socket.io/cluster-adapter` 0.2.
    AdapterGone {
        /// The worker, as in `NODE_UNIQUE_ID`.
        id: u32,
    },
}

/// The message that a package wants its connections in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PackageMessage<'a> {
    /// The object of `@socket.io/sticky`, without data, for none was read.
    Connection,
    /// A string, such as `sticky:balance`.
    Text(&'a str),
}

/// The address of a listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sockname {
    /// The IP address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

impl From<SocketAddr> for Sockname {
    fn from(address: SocketAddr) -> Self {
        Self { address: address.ip(), port: address.port() }
    }
}

impl ToNode<'_> {
    /// Writes the message as a whole frame.
    pub fn encode(&self) -> Vec<u8> {
        frame(|to| self.write(to))
    }

    fn write(&self, to: &mut Object<'_>) {
        match *self {
            Self::Grant { ack, seq, key, data, sockname } => cluster(to, seq, |to| {
                answer(to, None, key, ack, data);
                if let Some(sockname) = sockname {
                    to.object("sockname", |to| write_sockname(to, sockname));
                }
            }),
            Self::Refuse { ack, seq, key, errno, data } => {
                cluster(to, seq, |to| answer(to, Some(errno), key, ack, data));
            }
            Self::GrantUdp { ack, seq, key, data } => handle(to, "dgram.Native", |to| {
                to.object("msg", |to| cluster(to, seq, |to| answer(to, Some(0), key, ack, data)));
            }),
            Self::NewConn { seq, key } => handle(to, "net.Native", |to| {
                to.object("msg", |to| cluster(to, seq, |to| act(to, "newconn", Some(key))));
            }),
            Self::Ack { ack, seq } => cluster(to, seq, |to| to.number("ack", ack)),
            Self::Disconnect { seq } => cluster(to, seq, |to| act(to, "disconnect", None)),
            Self::HandleAck => to.text("cmd", "NODE_HANDLE_ACK"),
            Self::HandleNack => to.text("cmd", "NODE_HANDLE_NACK"),
            Self::AllClosed { key } => socket(to, "NODE_SOCKET_ALL_CLOSED", key),
            Self::SocketCount { key, count } => {
                socket(to, "NODE_SOCKET_COUNT", key);
                to.number("count", count);
            }
            Self::Package(message) => handle(to, "net.Socket", |to| package(to, message)),
            Self::Conn { head, server, port } => handle(to, "net.Socket", |to| {
                to.object("msg", |to| conn(to, head, server, port));
            }),
            Self::SoftDrain => preload(to, "drain"),
            Self::Close { at_once } => preload(to, if at_once { "close-now" } else { "close" }),
            Self::Ping => preload(to, "ping"),
            Self::AdapterClose { uid, nsp } => adapter(to, ADAPTER_CLOSE, |to| {
                to.text("uid", uid);
                to.text("nsp", nsp);
            }),
            Self::AdapterGone { id } => adapter(to, WORKER_EXIT, |to| to.number("data", id)),
        }
    }
}

fn cluster(to: &mut Object<'_>, seq: u32, fill: impl FnOnce(&mut Object<'_>)) {
    to.text("cmd", "NODE_CLUSTER");
    fill(to);
    to.number("seq", seq);
}

/// The answer to a query; without an error number, the worker expects no descriptor with it.
fn answer(to: &mut Object<'_>, errno: Option<i32>, key: &str, ack: u32, data: Option<&Data>) {
    match errno {
        Some(errno) => to.number("errno", -i64::from(errno)),
        None => to.null("errno"),
    }
    to.text("key", key);
    to.number("ack", ack);
    match data {
        Some(data) => to.raw("data", data.as_bytes()),
        None => to.null("data"),
    }
}

fn write_sockname(to: &mut Object<'_>, sockname: Sockname) {
    let family = if sockname.address.is_ipv4() { "IPv4" } else { "IPv6" };
    to.text("address", &sockname.address.to_string());
    to.text("family", family);
    to.number("port", sockname.port);
}

fn act(to: &mut Object<'_>, act: &str, key: Option<&str>) {
    to.text("act", act);
    if let Some(key) = key {
        to.text("key", key);
    }
}

/// Around a message with a descriptor, which `fill` adds as `msg`.
fn handle(to: &mut Object<'_>, kind: &str, fill: impl FnOnce(&mut Object<'_>)) {
    to.text("cmd", "NODE_HANDLE");
    to.text("type", kind);
    fill(to);
}

fn socket(to: &mut Object<'_>, cmd: &str, key: &str) {
    to.text("cmd", cmd);
    to.text("key", key);
}

fn package(to: &mut Object<'_>, message: PackageMessage<'_>) {
    match message {
        // Version 1 needs a string, version 2 something with a length: "" is both.
        PackageMessage::Connection => to.object("msg", |to| {
            to.text("type", "sticky:connection");
            to.text("data", "");
        }),
        PackageMessage::Text(text) => to.text("msg", text),
    }
}

fn conn(to: &mut Object<'_>, head: &[u8], server: Option<&str>, port: Option<u16>) {
    preload(to, "conn");
    to.text("head", &BASE64_STANDARD.encode(head));
    match server {
        Some(key) => to.text("server", key),
        None => to.null("server"),
    }
    match port {
        Some(port) => to.number("port", port),
        None => to.null("port"),
    }
}

fn preload(to: &mut Object<'_>, act: &str) {
    to.text("cmd", "NODE_STICKY");
    to.text("act", act);
}

fn adapter(to: &mut Object<'_>, kind: i64, fill: impl FnOnce(&mut Object<'_>)) {
    to.text("source", ADAPTER);
    to.number("type", kind);
    fill(to);
}
