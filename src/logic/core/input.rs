//! What the core is told.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::logic::Worker;
use crate::logic::fleet::{Exit, FleetConfig, Limit};
use crate::logic::route::returns::Progress;
use crate::logic::route::{Conn, ListenerId, Returned};

/// Something that has happened outside, or that the operator wants.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A connection was accepted.
    Arrived(Conn, Arrived),
    /// A worker had this connection, and it is here again.
    Returned(Conn, Arrived, How),
    /// What was found of a connection's PROXY header.
    Preface(Conn, Preface),
    /// What a look at the first bytes of a connection has found.
    Seen(Conn, Seen<'a>),
    /// There may be more of an awaited connection's bytes; with `closed` no more will come after them.
    Readable {
        /// The connection.
        conn: Conn,
        /// Its client has closed its side.
        closed: bool,
    },
    /// The socket of an awaited connection has no room for more of its bytes.
    NoRoomForMore(Conn),
    /// How far the workers are with what the client of a connection that came back has sent.
    Progress(Conn, Progress),
    /// There is nobody to serve at the other end of a connection, or it cannot be waited for. It is closed.
    Gone(Conn),
    /// A connection was sent.
    Sent(Conn),
    /// A connection was not sent.
    NotSent(Conn, NotSent),
    /// The bytes of a connection that wait for its worker are too much.
    TooMuch(Conn),
    /// Everything that channels held was heard.
    ChannelsRead,
    /// A worker has not picked up so many of the messages that were sent to it.
    Unread(Worker, usize),
    /// What a worker that has stopped reading did not pick up was taken back.
    TakenBack(Worker, TakenBack),
    /// A worker says something.
    Said(Worker, Said<'a>),
    /// What became of a note to a worker.
    Noted(Worker, Note, Noted),
    /// A worker serves what comes to a listener from now on.
    Serves(Worker, ListenerId),
    /// A worker serves it no more.
    Leaves(Worker, ListenerId),
    /// What comes to a listener leads to workers, and this is who speaks first there, if that is said.
    Leads(ListenerId, Option<First>),
    /// What comes to a listener leads nowhere any more.
    LeadsNowhere(ListenerId),
    /// Nobody new is let in any more, and whoever was is here.
    ListenersClosed,
    /// The process of a worker exists. It says which of its connections are finished, or it does not.
    Spawned(Worker, Reports),
    /// There is no process for a worker.
    SpawnFailed(Worker),
    /// A worker has ended.
    Exited(Worker, Exit),
    /// Everything that a worker which has ended had said, and what it had not picked up, is here.
    Recovered(Worker),
    /// A worker has reached a limit.
    Recycle(Worker, Limit),
    /// The operator wants something.
    Command(Command),
}

/// What is known of a connection when it comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// Where it came in, if that is known.
    pub listener: Option<ListenerId>,
    /// The address of its client, if it has one.
    pub client: Option<IpAddr>,
    /// It came by a Unix socket.
    pub is_unix: bool,
    /// It begins with a PROXY header.
    pub is_prefaced: bool,
    /// A worker has read its first bytes, which are kept beside its socket.
    pub is_read: bool,
}

/// How a connection came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// The worker gives it back.
    Back {
        /// The worker.
        worker: Worker,
        /// The worker has served it, and its next request may be for any of them; else it does not want it.
        next: bool,
        /// It is finished for the worker by this, and must be one that it had.
        ends: bool,
        /// What no other socket has.
        identity: u64,
    },
    /// It did not get to its worker, or that one's server did not take it. The second is what no other
    /// socket has, if the worker had it.
    NotServed(Returned, Option<u64>),
}

/// What was found of a PROXY header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preface {
    /// It was read, so many bytes, and names this client.
    Read {
        /// How long it was.
        length: usize,
        /// The client that it names, or the proxy itself.
        client: Option<IpAddr>,
    },
    /// It is not whole yet; so many bytes of it are there.
    Awaited(usize),
}

/// What a look at first bytes has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// The bytes; only the new ones if the look was [`Behind`](super::Look::Behind) others.
    pub bytes: &'a [u8],
    /// The look was at those behind the ones that were seen.
    pub is_behind: bool,
    /// No more will come.
    pub last: bool,
    /// To see the new ones, those before had to be copied again.
    pub copied: bool,
    /// For so long nothing has come before it was accepted, since the kernel held it back.
    pub silent_for: Duration,
}

/// Why a connection was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotSent {
    /// The kernel has no room for it.
    NoRoom,
    /// The worker has no server for it any more, or hears nothing any more.
    NotServed,
}

/// What was taken back of a worker that has stopped reading.
#[derive(Clone, Debug, Default)]
pub struct TakenBack {
    /// The messages, in the order of their sending.
    pub messages: Vec<Message>,
    /// So many are left there, for which there was no descriptor.
    pub left: usize,
    /// It has picked up nothing meanwhile, so these are what was in flight last.
    pub is_sure: bool,
}

/// A message that was taken back.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// With a connection.
    Connection(Conn, Arrived),
    /// That it is to finish what it has.
    Drain,
    /// Something that does not matter any more.
    Other,
}

/// What a worker says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said<'a> {
    /// It takes connections.
    Ready,
    /// This key lives on it.
    Announces(&'a [u8]),
    /// This key is over.
    Ends(&'a [u8]),
    /// It has finished so many connections.
    Closed(u32),
    /// So many of its connections count no more, of which it does not say so itself.
    Uncounted(u32),
    /// It gave a connection back whose client is gone; with `ends` the connection is finished for it by this.
    ReturnedGone {
        /// It has not said so before.
        ends: bool,
    },
    /// It has picked something up, so that there may be room.
    PickedUp,
    /// It has stopped reading, and there may be descriptors now for what was left in its channel.
    Unrelieved,
    /// It is alive.
    Pong,
    /// It ends by itself soon.
    Leaving,
    /// It was asked to end and knows what to do at TERM.
    HandlesTerm,
    /// None of its sessions is left.
    Quiet,
    /// It has sessions again.
    Busy,
    /// It says which of its connections are finished from now on.
    ReportsEnds,
    /// Another process speaks for it, which has nothing of what was given to it, and says which of its
    /// connections are finished, or does not.
    Rebooted(Reports),
}

/// Whether a worker says which of its connections are finished.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reports {
    /// It does.
    Ends,
    /// It does not.
    Nothing,
}

/// What a worker can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Note {
    /// It gets no new keys any more.
    Withdraw,
    /// It is to finish what it has.
    Drain,
    /// It is to end by itself.
    Close {
        /// It shall not wait for its connections.
        at_once: bool,
    },
    /// It is to say that it is alive.
    Ping,
}

/// What became of a note.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// It is on its way, among the messages that a worker has to pick up.
    InFlight,
    /// It was told.
    Told,
    /// There was no room for it.
    NoRoom,
    /// Nobody there would hear it.
    NotHeard,
}

/// Who says something first on the connections of a listener.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum First {
    /// Clients, the head of a request.
    #[default]
    Client,
    /// Perhaps the server.
    Server,
    /// Clients probably, as far as is known.
    Unknown,
}

/// What the operator wants, by a signal or otherwise.
#[derive(Clone, Debug)]
pub enum Command {
    /// An orderly stop; a fast one if there is one already.
    Stop,
    /// New workers in all slots, with this configuration.
    Restart(FleetConfig),
    /// New workers in all slots; it is refused, since the supervisor stops.
    RestartLate,
    /// This configuration, for the workers that are started from now on.
    Configure(FleetConfig),
    /// One slot more.
    More,
    /// One slot less.
    Fewer,
}
