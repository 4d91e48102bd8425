//! What a worker says, read off a whole frame.
//!
//! A field of the wrong type counts as absent. A message that lacks what it needs is one of those
//! that mean nothing to us.

use std::borrow::Cow;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::field::Field;
use super::fields::Fields;
use super::v8;

/// The beginning of the `cmd` of every internal message.
const INTERNAL: &str = "NODE_";
/// A name of a server, an address, the data of a port and the like is at most so long, in bytes as it is
/// written.
pub const MAX_NAME: usize = 8 * 1024;
/// What was read of a connection that is handed back is at most so long, in bytes. The preload hands no
/// longer one back.
pub const MAX_HANDED_BACK: usize = 256 * 1024;
/// The same in base64, with what stands around it.
const MAX_HANDED_BACK_TEXT: usize = MAX_HANDED_BACK.div_ceil(3) * 4 + 8;
/// The names of an adapter and its namespace, which clients may choose, are remembered up to this length
/// together, in bytes.
pub const MAX_ADAPTER: usize = 512;
/// Whether a frame comes with a descriptor can be seen in so many of its first bytes.
pub(super) const BEGINNING: usize = 32;
/// The `source` of what `@socket.io/cluster-adapter` says.
pub(super) const ADAPTER: &str = "_sio_adapter";

/// Whether a frame that begins so comes with a descriptor: Node writes `cmd` first into the message that it
/// puts around one.
pub(super) fn carries(beginning: &[u8]) -> bool {
    // An object behind the length and the header, whose first two values are strings of Latin-1.
    let object = beginning.get(v8::LENGTH + v8::HEADER.len()..);
    object.is_some_and(|object| object.starts_with(b"o\"\x03cmd\"\x0BNODE_HANDLE"))
}

/// What a worker says to the supervisor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FromNode {
    /// `NODE_CLUSTER`, `online`: Node has booted; the app has not run yet.
    Online,
    /// `NODE_CLUSTER`, `queryServer`: somebody wants to listen and waits for [`ToNode::Grant`],
    /// [`ToNode::GrantUdp`] or [`ToNode::Refuse`].
    ///
    /// [`ToNode::Grant`]: super::ToNode::Grant
    /// [`ToNode::GrantUdp`]: super::ToNode::GrantUdp
    /// [`ToNode::Refuse`]: super::ToNode::Refuse
    Query(Query),
    /// `NODE_CLUSTER`, `listening`: a server listens.
    Listening,
    /// `NODE_CLUSTER`, `close`: a server is closed, send no more to it.
    Close {
        /// The server, as the supervisor named it.
        key: String,
    },
    /// `NODE_CLUSTER`, `exitedAfterDisconnect`: it ends because it wants to; it waits for
    /// [`ToNode::Ack`](super::ToNode::Ack) before.
    ExitedAfterDisconnect {
        /// What to acknowledge.
        seq: u32,
    },
    /// `NODE_CLUSTER` with `ack`: the answer to a message of the supervisor.
    Reply {
        /// The `seq` of that message.
        ack: u32,
        /// Whether a connection was taken; absent if the message was not about one.
        accepted: Option<bool>,
    },
    /// `NODE_HANDLE_ACK`: the oldest handle that is not acknowledged has arrived.
    HandleAck,
    /// `NODE_HANDLE_NACK`: its message has arrived without it.
    HandleNack,
    /// `NODE_HANDLE`: a message with a descriptor; it is to be acknowledged.
    Handle(Box<FromNode>),
    /// `NODE_SOCKET_NOTIFY_CLOSE`: asks for [`ToNode::AllClosed`](super::ToNode::AllClosed).
    SocketNotifyClose {
        /// The worker's name of its server.
        key: String,
    },
    /// `NODE_SOCKET_GET_COUNT`: asks for [`ToNode::SocketCount`](super::ToNode::SocketCount).
    SocketGetCount {
        /// The worker's name of its server.
        key: String,
    },
    /// `NODE_STICKY`, `session`, or `sticky:connection` of `@socket.io/sticky`: this key lives here.
    Session {
        /// The session's id.
        key: Box<[u8]>,
    },
    /// `NODE_STICKY`, `end`, or `sticky:disconnection` of `@socket.io/sticky`: this key is over.
    End {
        /// The session's id.
        key: Box<[u8]>,
    },
    /// `{type:"close"}`: a worker of `sticky-session` closes its server. From a worker that uses
    /// another package, it is a message of the app.
    StickySessionClose,
    /// `NODE_STICKY`, `hello`: the preload is active in this process.
    Hello {
        /// The version of what it speaks.
        version: u32,
    },
    /// `NODE_STICKY`, `package`: a package listens for connections.
    Package {
        /// Its name in the registry of npm.
        name: String,
        /// The message that it wants its connections in, if that depends on its options.
        message: Option<String>,
    },
    /// `NODE_STICKY`, `unheard`: the app says something to its primary for the first time.
    Unheard {
        /// The package that says it, or the file; may be empty.
        name: String,
        /// What it says, for people.
        message: String,
    },
    /// `NODE_STICKY`, `closed`: so many connections are finished since the last time.
    Closed {
        /// How many.
        count: u32,
    },
    /// `NODE_STICKY`, `taken`: so many of the oldest handles that are not acknowledged have arrived,
    /// and the connections among them were taken. It stands for as many `NODE_HANDLE_ACK` and
    /// `accepted`.
    Taken {
        /// How many.
        count: u32,
        /// How many connections are finished since the last time.
        closed: u32,
    },
    /// `NODE_STICKY`, `quiet`: after [`ToNode::SoftDrain`](super::ToNode::SoftDrain), no session of
    /// Engine.IO is left in this worker.
    Quiet,
    /// `NODE_STICKY`, `busy`: likewise, there is one again. It comes before the connection that began
    /// the session is said to be finished.
    Busy,
    /// `NODE_STICKY`, `handles-term`: the answer to [`ToNode::Close`](super::ToNode::Close) of a worker whose app
    /// handles TERM itself.
    HandlesTerm,
    /// `NODE_STICKY`, `streams`: it serves HTTP on streams of its own, which cannot be given back.
    Streams,
    /// `NODE_STICKY`, `pong`: the answer to [`ToNode::Ping`](super::ToNode::Ping).
    Pong,
    /// `NODE_STICKY`, `handback`, inside [`FromNode::Handle`]: a connection to route again.
    Handback {
        /// What was read of it, and is to be read again.
        head: Vec<u8>,
    },
    /// One of the above in which this is longer than so many bytes, which no worker has to say.
    TooLong(&'static str, usize),
    /// A message of `@socket.io/cluster-adapter`; its frame is to be relayed to other workers.
    Adapter(Adapter),
    /// Any other internal message, or one of the above that lacks what it needs. To be ignored.
    OtherInternal,
    /// A message of the app to a primary that is not there, or a frame that cannot be understood.
    User,
}

/// A server that asks for its listening socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// What to answer.
    pub seq: u32,
    /// An IP address or the path of a Unix socket; absent for any address.
    pub address: Option<String>,
    /// The port; 0 asks for any. Absent for what has none.
    pub port: Option<u16>,
    /// What kind of address it is.
    pub kind: AddressType,
    /// A descriptor of the worker that listens already.
    pub fd: Option<i32>,
    /// Of libuv's bind: 1 is `ipv6Only`.
    pub flags: u32,
    /// How many connections may wait in the kernel; 0 for the default, 511.
    pub backlog: u32,
    /// Whether everybody may read from the Unix socket.
    pub readable_all: bool,
    /// Whether everybody may write to it, as clients have to.
    pub writable_all: bool,
    /// Counts the worker's queries with the same address; tells two with port 0 apart.
    pub index: i64,
    /// What the server wants every worker to have, such as its TLS ticket keys.
    pub data: Option<Data>,
    /// The kind of server, if the preload is active.
    pub server: Option<ServerKind>,
}

/// The kinds of address that a server can ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AddressType {
    /// No host was given: `::` with IPv4, or else `0.0.0.0`.
    Any,
    /// TCP over IPv4.
    V4,
    /// TCP over IPv6.
    V6,
    /// A Unix stream socket.
    Unix,
    /// UDP over IPv4.
    Udp4,
    /// UDP over IPv6.
    Udp6,
    /// An open descriptor instead of an address, or what no Node so far asks for.
    Other,
}

/// What listens, as the preload says it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ServerKind {
    /// A server of `http`.
    Http,
    /// A server of `tls` or `https`.
    Tls,
    /// Any other server of `net`.
    Tcp,
}

/// A value that is given back as it was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Data(#[serde(with = "super::bytes")] Rc<[u8]>);

impl Data {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Rc<[u8]>> for Data {
    fn from(bytes: Rc<[u8]>) -> Self {
        Self(bytes)
    }
}

impl From<Data> for Rc<[u8]> {
    fn from(Data(bytes): Data) -> Self {
        bytes
    }
}

/// What a message of `@socket.io/cluster-adapter` says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Adapter {
    /// The adapter that says it; absent before version 0.3.
    pub uid: Option<String>,
    /// Its namespace.
    pub nsp: Option<String>,
    /// The adapter that it answers, if it is an answer (since version 0.3).
    pub requester_uid: Option<String>,
    /// The adapter's number of the kind of message.
    pub kind: Option<u32>,
}

impl FromNode {
    /// Reads a whole frame. Takes time linear to it, and nothing that it can contain is an error.
    pub fn parse(frame: &[u8]) -> Self {
        let Some(fields) = v8::fields_of_frame(frame) else {
            return Self::User;
        };
        if fields.text(Field::Cmd).as_deref() == Some("NODE_HANDLE") {
            let inner = fields.object(Field::Msg);
            return match inner.map_or(Self::User, |inner| Self::of(&inner)) {
                too_long @ Self::TooLong(..) => too_long,
                inner => Self::Handle(Box::new(inner)),
            };
        }
        Self::of(&fields)
    }

    /// A message that is, or would be, without a descriptor.
    fn of(fields: &Fields<'_>) -> Self {
        match fields.text(Field::Cmd) {
            Some(cmd) if cmd.len() > INTERNAL.len() && cmd.starts_with(INTERNAL) => {
                internal(&cmd, fields).unwrap_or(Self::OtherInternal)
            }
            _ => user(fields).unwrap_or(Self::User),
        }
    }
}

fn internal(cmd: &str, fields: &Fields<'_>) -> Option<FromNode> {
    if let Some((what, most)) = too_long(cmd, fields) {
        return Some(FromNode::TooLong(what, most));
    }
    let key = || fields.text(Field::Key).map(Cow::into_owned);
    match cmd {
        "NODE_CLUSTER" => cluster(fields),
        "NODE_HANDLE_ACK" => Some(FromNode::HandleAck),
        "NODE_HANDLE_NACK" => Some(FromNode::HandleNack),
        "NODE_SOCKET_NOTIFY_CLOSE" => Some(FromNode::SocketNotifyClose { key: key()? }),
        "NODE_SOCKET_GET_COUNT" => Some(FromNode::SocketGetCount { key: key()? }),
        "NODE_STICKY" => preload(fields),
        _ => None,
    }
}

/// What is too long of that which is kept or said again, and how long it may be.
fn too_long(cmd: &str, fields: &Fields<'_>) -> Option<(&'static str, usize)> {
    let names: &[_] = match cmd {
        "NODE_CLUSTER" => {
            &[(Field::Address, "address"), (Field::Data, "data"), (Field::Key, "key")]
        }
        "NODE_SOCKET_NOTIFY_CLOSE" | "NODE_SOCKET_GET_COUNT" => &[(Field::Key, "key")],
        // The length of a session's key is the engine's to judge.
        "NODE_STICKY" => &[(Field::Message, "message"), (Field::Name, "name")],
        _ => &[],
    };
    let name = names.iter().find(|(field, _)| fields.is_longer(*field, MAX_NAME));
    let head = || fields.is_longer(Field::Head, MAX_HANDED_BACK_TEXT);
    name.map(|(_, name)| (*name, MAX_NAME)).or_else(|| head().then_some(("head", MAX_HANDED_BACK)))
}

fn cluster(fields: &Fields<'_>) -> Option<FromNode> {
    if let Some(ack) = fields.number(Field::Ack) {
        return Some(FromNode::Reply { ack, accepted: fields.boolean(Field::Accepted) });
    }
    match &*fields.text(Field::Act)? {
        "online" => Some(FromNode::Online),
        "queryServer" => query(fields).map(FromNode::Query),
        "listening" => Some(FromNode::Listening),
        "close" => Some(FromNode::Close { key: fields.text(Field::Key)?.into_owned() }),
        "exitedAfterDisconnect" => {
            Some(FromNode::ExitedAfterDisconnect { seq: fields.number(Field::Seq)? })
        }
        _ => None,
    }
}

fn query(fields: &Fields<'_>) -> Option<Query> {
    let address = fields.text(Field::Address).map(Cow::into_owned);
    let kind = match (fields.number(Field::AddressType), fields.text(Field::AddressType).as_deref())
    {
        (Some(4), _) if address.is_none() => AddressType::Any,
        (Some(4), _) => AddressType::V4,
        (Some(6), _) => AddressType::V6,
        (Some(-1), _) if address.is_some() => AddressType::Unix,
        (_, Some("udp4")) => AddressType::Udp4,
        (_, Some("udp6")) => AddressType::Udp6,
        _ => AddressType::Other,
    };
    // `dgram` passes on what the app said, which may be the port as a string.
    let port_text = || fields.text(Field::Port)?.parse().ok();
    let server = match fields.text(Field::Sticky).as_deref() {
        Some("http") => Some(ServerKind::Http),
        Some("tls") => Some(ServerKind::Tls),
        Some("tcp") => Some(ServerKind::Tcp),
        _ => None,
    };
    Some(Query {
        seq: fields.number(Field::Seq)?,
        address,
        port: fields.number(Field::Port).or_else(port_text),
        kind,
        fd: fields.number(Field::Fd).filter(|fd| *fd >= 0),
        flags: fields.number(Field::Flags).unwrap_or(0),
        backlog: fields.number(Field::Backlog).unwrap_or(0),
        readable_all: fields.boolean(Field::ReadableAll) == Some(true),
        writable_all: fields.boolean(Field::WritableAll) == Some(true),
        index: fields.number(Field::Index).unwrap_or(0),
        data: fields.portable(Field::Data).map(|value| Data(Rc::from(value))),
        server,
    })
}

fn preload(fields: &Fields<'_>) -> Option<FromNode> {
    let text = |name| fields.text(name).map(Cow::into_owned);
    match &*fields.text(Field::Act)? {
        "hello" => Some(FromNode::Hello { version: fields.number(Field::Version)? }),
        "package" => {
            Some(FromNode::Package { name: text(Field::Name)?, message: text(Field::Message) })
        }
        "unheard" => {
            Some(FromNode::Unheard { name: text(Field::Name)?, message: text(Field::Message)? })
        }
        "session" => Some(FromNode::Session { key: key_or_bytes(fields)? }),
        "end" => Some(FromNode::End { key: key_or_bytes(fields)? }),
        "streams" => Some(FromNode::Streams),
        "closed" => Some(FromNode::Closed { count: fields.number(Field::Count)? }),
        "taken" => Some(FromNode::Taken {
            count: fields.number(Field::Count)?,
            closed: fields.number(Field::Closed).unwrap_or(0),
        }),
        "quiet" => Some(FromNode::Quiet),
        "busy" => Some(FromNode::Busy),
        "handles-term" => Some(FromNode::HandlesTerm),
        "pong" => Some(FromNode::Pong),
        "handback" => {
            let head = BASE64_STANDARD.decode(&*fields.text(Field::Head)?).ok()?;
            Some(FromNode::Handback { head })
        }
        _ => None,
    }
}

fn user(fields: &Fields<'_>) -> Option<FromNode> {
    if fields.text(Field::Source).as_deref() == Some(ADAPTER) {
        let text = |name| fields.text(name).map(Cow::into_owned);
        // A client may choose the name of a namespace.
        let short = |name| (!fields.is_longer(name, MAX_ADAPTER)).then(|| text(name)).flatten();
        if fields.is_longer(Field::Uid, MAX_ADAPTER) {
            return None;
        }
        return Some(FromNode::Adapter(Adapter {
            uid: text(Field::Uid),
            nsp: short(Field::Nsp),
            requester_uid: short(Field::RequesterUid),
            kind: fields.number(Field::Type),
        }));
    }
    match &*fields.text(Field::Type)? {
        "sticky:connection" => Some(FromNode::Session { key: key(fields, Field::Data)? }),
        "sticky:disconnection" => Some(FromNode::End { key: key(fields, Field::Data)? }),
        "close" => Some(FromNode::StickySessionClose),
        _ => None,
    }
}

/// A key of the preload, which has those that are no ASCII as bytes.
fn key_or_bytes(fields: &Fields<'_>) -> Option<Box<[u8]>> {
    let bytes = || BASE64_STANDARD.decode(&*fields.text(Field::Bytes)?).ok();
    let bytes = || bytes().filter(|key| !key.is_empty()).map(Vec::into_boxed_slice);
    key(fields, Field::Key).or_else(bytes)
}

/// A session's id, if it is one that clients can present. Its length is the engine's to judge.
fn key(fields: &Fields<'_>, name: Field) -> Option<Box<[u8]>> {
    let text = fields.text(name)?;
    (!text.is_empty()).then(|| text.as_bytes().into())
}
