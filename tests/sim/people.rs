//! Who lives in the world of the simulation: processes and connections.

use std::collections::VecDeque;

use sticky_run::logic::Worker;
use sticky_run::logic::route::ListenerId;

/// The listener that every worker serves.
pub(crate) const FRONT: ListenerId = ListenerId(0);
/// The listener that some workers serve, now and then.
pub(crate) const SIDE: ListenerId = ListenerId(1);

/// A process as the world knows it.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// It gets connections.
    pub(crate) ready: bool,
    /// It gets no new keys any more.
    pub(crate) withdrawn: bool,
    /// It gets no connections any more.
    pub(crate) retired: bool,
    /// It has ended, and the supervisor has not heard that yet.
    pub(crate) ended: bool,
    /// It serves the side listener too, as far as it has said so.
    pub(crate) side: bool,
    /// It reads nothing for now.
    pub(crate) hung: bool,
    /// Sent to it and not picked up.
    pub(crate) channel: VecDeque<Sent>,
    /// Said by it and not yet heard.
    pub(crate) said: VecDeque<Said>,
    /// Connections that it serves.
    pub(crate) serving: Vec<u64>,
    /// How many connections it was given, of which it has not said that they are finished.
    pub(crate) unfinished: u32,
    /// It has said that of others, too.
    pub(crate) lies: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    Connection(u64),
    Note,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    Ready,
    Session(u64),
    End(u64),
    Closed(u32),
    Back(Back),
}

/// What comes back with `BACK`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Back {
    /// A connection that it serves.
    Own(u64),
    /// One whose client is gone by now, or whose descriptor is lost on the way.
    Gone(u64),
    /// One that it was never given.
    Foreign,
    /// No connection at all.
    Nothing,
}

/// Where a connection is. It is in one place at a time, or the world panics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Place {
    Waiting,
    InFlight(Worker),
    Served(Worker),
    #[default]
    Over,
}

/// A connection that came at some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Connection {
    pub(crate) place: Place,
    /// Where it came in.
    pub(crate) listener: ListenerId,
    /// The sid that it presents.
    pub(crate) sid: Option<u64>,
    /// The owner of that sid when the connection came, if it served the listener whenever it was routed.
    pub(crate) owner: Option<Worker>,
    /// The worker that has given it back.
    pub(crate) unwanted: Option<Worker>,
    /// All of its head has come.
    pub(crate) came: bool,
    /// Its client is gone.
    pub(crate) gone: bool,
}
