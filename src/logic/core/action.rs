//! What the core wants done.

use crate::logic::Worker;
use crate::logic::fleet::{Event, Outcome};
use crate::logic::route::{Conn, Reason};

pub use super::held::Look;
use super::input::Note;

/// Something to be done by the engine, in the order in which it is handed out. What has an answer gets it
/// before the next one is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Read the PROXY header of a connection. The answer is `Preface` or `Gone`.
    ReadPreface {
        /// The connection.
        conn: Conn,
        /// No more of it will come.
        last: bool,
    },
    /// Look at the first bytes of a connection. The answer is `Seen` or `Gone`.
    Look {
        /// The connection.
        conn: Conn,
        /// At what of them.
        look: Look,
    },
    /// Wait for more bytes of a connection, of which so many are there. The answer is none, `NoRoomForMore` or
    /// `Gone`; later ones are `Readable`.
    Await {
        /// The connection.
        conn: Conn,
        /// How many were seen.
        seen: usize,
    },
    /// Wait for no more bytes of a connection: it waits for a worker.
    Queue(Conn),
    /// The bytes that were read of a connection wait for this worker. The answer is none or `TooMuch`.
    Charge(Conn, Worker),
    /// Look how far the workers are with a connection. The answer is `Progress`.
    LookAtProgress(Conn),
    /// Send a connection to a worker. The answer is `Sent` or `NotSent`, or `Gone`.
    Send {
        /// The connection.
        conn: Conn,
        /// To whom.
        worker: Worker,
        /// Why there.
        reason: Reason,
    },
    /// Close a connection.
    Close(Conn, Closing),
    /// Hear everything that channels hold by now. The answer is everything that was said, and `ChannelsRead`.
    ReadChannels,
    /// Look how much a worker has not picked up. The answer is `Unread`.
    LookAtWorker(Worker),
    /// Take back what a worker which has stopped reading did not pick up. The answer is `TakenBack`.
    TakeBack(Worker),
    /// Hear everything that a worker which has ended had said, and take back what it did not pick up. The
    /// answers are `Said`, `Returned`, and last `Recovered`.
    Recover(Worker),
    /// Tell a worker something. The answer is `Noted`.
    Notify(Worker, Note),
    /// Start the process of a worker, which mints this into its ids. The answer is `Spawned` or
    /// `SpawnFailed`.
    Spawn(Worker, Option<u16>),
    /// A worker has become ready. With `placed` it gets connections: say which listeners it `Serves`.
    Ready {
        /// The worker.
        worker: Worker,
        /// It has not ended meanwhile.
        placed: bool,
    },
    /// ABRT to the leader of its process group.
    Abort(Worker),
    /// TERM to the leader of its process group.
    Terminate(Worker),
    /// KILL to its process group.
    Kill(Worker),
    /// There are so many slots from now on.
    Resized(u16),
    /// Let nobody new in, and close the listeners when whoever was let in has come. The answer is
    /// `ListenersClosed`.
    CloseListeners,
    /// Write this to the log.
    Report(Report),
    /// Leave. The last action there is.
    Finish(Outcome),
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closing {
    /// Its first bytes did not come in time, or nobody serves it any more.
    Silent,
    /// Its PROXY header did not come in time.
    NoPreface,
    /// A report has said why, or one before it that stands for it.
    Said,
}

/// Something for the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Report {
    /// The fleet has to tell something.
    Fleet(Event),
    /// A worker did what it must not.
    Violation(Worker, Violation),
    /// A worker announces a key of this length, which is too long. Said once.
    TooLong(Worker, usize),
    /// A worker announces a key that lives on another one. Said once.
    Shared(Worker, Worker),
    /// A client presents a key of this length, which no worker can announce. Said once.
    PresentedTooLong(usize),
    /// A connection is closed since too many wait for this worker; so many earlier ones were not told.
    Refused(Worker, u32),
    /// A connection is closed since no worker wants it; so many earlier ones were not told.
    Unwanted(Unwanted, u32),
    /// A worker has stopped reading its channel.
    Stopped(Worker),
    /// It reads again.
    Resumed(Worker),
}

/// What a worker did wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// A key before it was ready.
    #[error("SESSION came before READY")]
    NotReady,
    /// More ends than it had connections.
    #[error("it closed more connections than it was given")]
    ClosedTooMany,
    /// A connection more than it had.
    #[error("it gave back more connections than it was given")]
    ReturnedTooMany,
}

/// Why no worker wants a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unwanted {
    /// It was given back too often.
    #[error("it was given back {0} times")]
    GivenBack(u32),
    /// Nobody reads its next request.
    #[error("it goes round for its next request, which none of them reads")]
    GoesRound,
}
