//! What the router is told and what it answers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hash::{Fingerprint, HashPoint};
use super::key::KeyList;
use super::mint::{Incarnation, MintKey};
use crate::logic::Worker;

/// How connections are routed.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// What identifies a client.
    pub keys: KeyList,
    /// How a worker is chosen for a key that has none yet.
    pub balance: Balance,
    /// The seed of `hash` placement.
    pub hash_seed: u64,
    /// How many slots there are.
    pub workers: u16,
    /// How many announced keys are remembered, shared evenly by the slots.
    pub max_sessions: usize,
    /// An announced key that no client presented for this time is forgotten.
    pub session_idle: Duration,
    /// How many presented keys are remembered.
    pub max_keys: usize,
    /// A presented key that was not presented again for this time is forgotten.
    pub key_idle: Duration,
    /// How many messages may be in flight to a worker.
    pub in_flight: usize,
    /// A worker may have so many connections more than the one with the fewest and still get one
    /// while that has no room, with least-connection placement.
    pub leeway: u32,
    /// How many connections a worker may have open: with that many it has no room. `None` for any
    /// number.
    pub max_open: Option<u32>,
    /// A worker that picks nothing up for this long has stalled: it loses what may go to others.
    pub stall_timeout: Duration,
    /// Every worker serves every listener, without saying so.
    pub all_listeners: bool,
    /// The secret under which workers mint session ids, if they do.
    pub mint: Option<MintKey>,
}

/// How a worker is chosen for a key that has none yet.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Balance {
    /// The worker with the fewest connections given and not yet closed.
    LeastConnection,
    /// One after the other.
    RoundRobin,
    /// Any, with equal chances.
    Random,
    /// The key's own slot, without memory; without a key as least-connection.
    Hash,
}

/// The number of a connection, never used twice.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Conn(pub u64);

/// The number of a listener.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ListenerId(pub u32);

/// A connection to be routed, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its number.
    pub conn: Conn,
    /// Where it came in.
    pub listener: ListenerId,
    /// The address of its client, if it has one.
    pub ip: Option<IpAddr>,
    /// Its first bytes, as far as they are there.
    pub bytes: &'a [u8],
    /// No more bytes will come.
    pub last: bool,
    /// It was sent to a worker before, which did not serve it.
    pub returned: Option<Returned>,
}

/// How a connection came back from a worker unserved.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Returned {
    /// The worker handed it back.
    Back(Worker),
    /// It was placed there, and the worker stalled.
    Moved(Worker),
    /// It was in flight to its owner, which stalled or is gone.
    Recovered,
}

/// What happens to an arrival.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// More of its bytes are needed.
    NeedMore,
    /// The announcement of its key may lie in a channel. Handle everything that the channels hold,
    /// then ask with [`Router::route_known`](super::Router::route_known).
    LookAgain(Candidate),
    /// Send it to this worker.
    Send(Assignment),
    /// It is queued: keep it until [`Router::next`](super::Router::next) names it.
    Queued,
    /// The queue of its owner is full. Look at the channel of that one, send what is queued and can
    /// go, and ask with [`Router::route_known`](super::Router::route_known); if the answer is the same,
    /// close the connection.
    Refuse(Worker, Candidate),
}

/// A connection and the worker that it is sent to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Assignment {
    /// To whom.
    pub worker: Worker,
    /// Why there.
    pub reason: Reason,
    /// The connection, in case that it cannot be sent.
    pub(super) candidate: Candidate,
}

/// Why a connection went to its worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reason {
    /// The worker owns its key.
    OwnedKey,
    /// Its key was new and was placed there.
    NewKey,
    /// Its sid was never announced, or was forgotten.
    UnknownSid,
    /// It had no key.
    NoKey,
    /// The worker of its key is gone, or gone from its listener.
    OwnerGone,
    /// It came back unserved from another worker.
    Moved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnedKey => "its key lives there",
            Self::NewKey => "its key is new",
            Self::UnknownSid => "nobody knows its session",
            Self::NoKey => "it has no key",
            Self::OwnerGone => "the worker of its key is gone",
            Self::Moved => "another worker did not serve it",
        })
    }
}

/// What a look at a channel says of its worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// As before.
    Unchanged,
    /// It has stalled: take back what is in flight and send it a `PING` to notice when it
    /// reads again.
    Stalled,
    /// It reads again.
    Resumed,
}

/// Why an announced key was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key lives on {0}")]
pub struct OwnedByAnother(pub Worker);

/// A connection whose key is known: what is left of an [`Arrival`] when its bytes were read. Queues hold
/// these, so that no decision looks at bytes twice.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Candidate {
    pub(super) conn: Conn,
    pub(super) listener: ListenerId,
    pub(super) key: Option<ClientKey>,
    pub(super) returned: Option<Returned>,
}

/// A key, as the router handles it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ClientKey {
    pub(super) fingerprint: Fingerprint,
    /// Where it belongs with `hash` placement, which needs no memory.
    pub(super) point: Option<HashPoint>,
    /// The worker that minted it, alive or not.
    pub(super) minted: Option<Incarnation>,
    pub(super) kind: KeyKind,
}

impl ClientKey {
    /// Whether a worker may be about to announce this key.
    pub(super) fn may_be_announced(&self) -> bool {
        self.kind != KeyKind::Ip
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum KeyKind {
    Sid,
    Text,
    Ip,
}
