//! What workers say, in words of the core and of no handoff.

use std::io;

use crate::engine::Connection;
use crate::engine::listeners::Request;
use crate::logic::route::Returned;

/// What a worker said, or what its link found out about it.
#[derive(Debug)]
pub(in crate::engine) enum Said {
    /// It takes connections from now on.
    Ready,
    /// One of its servers listens.
    Listening,
    /// Another process speaks for it from now on, and what the one before said is over; perhaps
    /// it takes the connections of every listener that the user named.
    Booted { takes_given: bool },
    /// It takes the connections of every listener that the user named, by a package of this name.
    TakesGiven { package: String },
    /// This key lives there.
    Announced(Box<[u8]>),
    /// This key lives there no more.
    Forgotten(Box<[u8]>),
    /// It says from now on which of its connections are finished.
    ReportsEnds,
    /// It says that so many of its connections are finished.
    Closed(u32),
    /// So many of its connections count no more, of which it does not say so itself.
    Uncounted(u32),
    /// It has picked something up, so that there may be room.
    PickedUp,
    /// It gives a connection back that it had, if its client is still there.
    GivenBack { connection: Option<Connection>, next: bool, is_closed: bool },
    /// It did not get this connection.
    Returned(Connection, Returned),
    /// It has stopped reading, and there may be descriptors now for what was left in its channel.
    Unrelieved,
    /// It wants to listen.
    Listen(Request),
    /// It listens no more on what has this name.
    StopsListening(String),
    /// It ends when its connections have.
    Leaving,
    /// It ends by itself on TERM.
    HandlesTerm,
    /// The answer to a ping.
    Pong,
    /// It has sessions again.
    Busy,
    /// None of its sessions is left.
    Quiet,
    /// It does what it may not.
    Violation(String),
    /// Nothing can be exchanged with it any more, for this reason.
    Unusable(String),
    /// It has to be ended; why was said.
    Condemned,
}

impl Said {
    /// Its channel can be used no more.
    pub(in crate::engine) fn shut_down(error: &io::Error) -> Self {
        Self::Unusable(format!("it shut its channel down: {error}"))
    }
}
