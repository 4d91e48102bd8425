//! The one table of the connections that the supervisor holds: what is known of each, and where it stands.
//! Their sockets are elsewhere; here each is a number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::input::Arrived;
use crate::logic::route::head::Growth;
use crate::logic::route::{Assignment, Candidate, Conn, ListenerId, Returned};
use crate::logic::time::Time;

/// A look that copies so many bytes again may follow the one before at once.
const CHEAP: usize = 4096;

/// A connection that the supervisor holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Held {
    /// Where it came in, unless nobody knows any more.
    pub(super) listener: Option<ListenerId>,
    /// The address of its client, if it has one; until its PROXY header is read, that of the proxy.
    pub(super) client: Option<IpAddr>,
    /// It came by a Unix socket.
    pub(super) is_unix: bool,
    /// A worker has read its first bytes, which are kept beside its socket.
    pub(super) is_read: bool,
    /// What no other socket has, if a worker gave it back.
    pub(super) identity: Option<u64>,
    /// It was with a worker before.
    pub(super) returned: Option<Returned>,
    /// No more of its bytes will come, or they are not waited for any longer.
    pub(super) last: bool,
    /// Whether a byte of it was seen.
    pub(super) started: bool,
    pub(super) stage: Stage,
}

/// Where a connection stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Stage {
    /// It has just come, or its turn has come again, and it is looked at.
    New,
    /// Its PROXY header or its first bytes are awaited.
    Head(Head),
    /// Its key may have been announced: it waits until everything that channels hold was heard.
    SecondLook(Candidate),
    /// Too many wait for its owner: it waits until somebody has looked what that one has picked up.
    Crowded(Candidate),
    /// It waits in a queue of the router.
    Queued,
    /// It is being sent.
    Sending(Assignment),
    /// It came back from a worker and is routed in the next turn; `None` as if it had just come.
    Returned(Option<Returned>),
}

/// What is awaited of a connection.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Head {
    /// The PROXY header is still to come.
    pub(super) is_prefaced: bool,
    /// Since when, for the deadline; `None` once that is over.
    since: Option<Time>,
    /// What the looks have shown since the head was judged; none if this program has not done that.
    #[serde(skip)]
    growth: Option<Growth>,
    /// No look before this time: the last one was dear.
    not_before: Time,
}

impl Held {
    pub(super) fn new(arrived: Arrived, stage: Stage) -> Self {
        let Arrived { listener, client, is_unix, is_read, is_prefaced: _ } = arrived;
        let (last, started) = (false, false);
        let (identity, returned) = (None, None);
        Self { listener, client, is_unix, is_read, identity, returned, last, started, stage }
    }
}

impl Head {
    /// It is awaited since this time.
    pub(super) fn new(is_prefaced: bool, since: Time) -> Self {
        Self { is_prefaced, since: Some(since), growth: Some(Growth::default()), not_before: since }
    }
}

/// How to look at a head that may have grown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Look {
    /// At the whole of it.
    Whole,
    /// At what is behind so many bytes, which were seen.
    Behind(usize),
}

/// All of them, with the orders in which something is due.
#[derive(Debug, Default)]
pub(super) struct Table {
    held: BTreeMap<Conn, Held>,
    orders: Orders,
}

/// Who is next, of those that wait for time or for their turn.
#[derive(Debug, Default)]
struct Orders {
    /// Those that came back, in the order of their coming.
    returned: VecDeque<Conn>,
    /// Those whose first bytes are awaited, the oldest first.
    by_age: BTreeSet<(Time, Conn)>,
    /// The same, by where they came in.
    by_listener: BTreeSet<(ListenerId, Conn)>,
    /// Those that have more bytes and are not looked at before this time.
    looks: BTreeSet<(Time, Conn)>,
    /// How many wait in queues of the router.
    queued: usize,
}

impl From<Vec<(Conn, Held)>> for Table {
    fn from(all: Vec<(Conn, Held)>) -> Self {
        let mut table = Self::default();
        all.into_iter().for_each(|(conn, held)| table.insert(conn, held));
        table
    }
}

impl Table {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (Conn, &Held)> {
        self.held.iter().map(|(conn, held)| (*conn, held))
    }

    pub(super) fn get(&self, conn: Conn) -> Option<&Held> {
        self.held.get(&conn)
    }

    /// To change what is known of one. Where it stands is changed by [`Self::set`].
    pub(super) fn get_mut(&mut self, conn: Conn) -> Option<&mut Held> {
        self.held.get_mut(&conn)
    }

    pub(super) fn insert(&mut self, conn: Conn, held: Held) {
        self.orders.enter(conn, &held);
        self.held.insert(conn, held);
    }

    pub(super) fn remove(&mut self, conn: Conn) -> Option<Held> {
        let held = self.held.remove(&conn)?;
        self.orders.leave(conn, &held);
        Some(held)
    }

    /// One stands somewhere else from now on.
    pub(super) fn set(&mut self, conn: Conn, stage: Stage) {
        if let Some(held) = self.held.get_mut(&conn) {
            self.orders.leave(conn, held);
            held.stage = stage;
            self.orders.enter(conn, held);
        }
    }

    /// More bytes of a connection may be there. Returns how to look at them now; one that rests before is
    /// named by [`Self::rested`] later.
    pub(super) fn grew(&mut self, now: Time, conn: Conn) -> Option<Look> {
        let held = self.held.get_mut(&conn)?;
        let Stage::Head(head) = &mut held.stage else { return None };
        if held.last || head.is_prefaced {
            return Some(Look::Whole);
        }
        if now < head.not_before {
            self.orders.looks.insert((head.not_before, conn));
            return None;
        }
        self.orders.looks.remove(&(head.not_before, conn));
        Some(match &head.growth {
            Some(growth) => Look::Behind(growth.seen()),
            None => {
                head.growth = Some(Growth::default());
                Look::Whole
            }
        })
    }

    /// A look has found these bytes behind those that were seen before; `copied` says that those were copied
    /// again. Returns whether the head is to be judged: what is new may decide about it, or nothing is new.
    ///
    /// Only what is new is read, or a client that sends a long head byte by byte would cost more with each.
    /// Where the rest has to be copied again, the connection rests in proportion to that.
    pub(super) fn see(&mut self, now: Time, conn: Conn, new: &[u8], copied: bool) -> bool {
        let Some(held) = self.held.get_mut(&conn) else { return false };
        let Stage::Head(Head { growth: Some(growth), not_before, .. }) = &mut held.stage else {
            return false;
        };
        if new.is_empty() {
            return true;
        }
        held.started = true;
        let dear = if copied { growth.seen().saturating_sub(CHEAP) } else { 0 };
        *not_before = now + Duration::from_micros(dear as u64);
        growth.see(new)
    }

    /// One that has more bytes and has rested. It is named once.
    pub(super) fn rested(&mut self, now: Time) -> Option<Conn> {
        self.orders.looks.first().filter(|(until, _)| *until <= now)?;
        self.orders.looks.pop_first().map(|(_, conn)| conn)
    }

    /// When the first of those that wait for time has waited long enough, if heads may take so long.
    pub(super) fn due(&self, head_timeout: Duration) -> Option<Time> {
        let Orders { looks, by_age, returned, .. } = &self.orders;
        let at = |order: &BTreeSet<(Time, Conn)>| order.first().map(|(at, _)| *at);
        let head = at(by_age).map(|since| since + head_timeout);
        let at_once = (!returned.is_empty()).then(Time::default);
        [at(looks), head, at_once].into_iter().flatten().min()
    }

    /// One whose head is late. It is named once.
    pub(super) fn overdue(&mut self, now: Time, head_timeout: Duration) -> Option<Conn> {
        let (since, conn) = *self.orders.by_age.first()?;
        if since + head_timeout > now {
            return None;
        }
        self.orders.by_age.pop_first();
        let held = self.held.get_mut(&conn)?;
        if let Stage::Head(head) = &mut held.stage {
            head.since = None;
        }
        held.last = true;
        Some(conn)
    }

    /// Those whose head is awaited and that have not sent a byte.
    pub(super) fn silent(&self) -> Vec<Conn> {
        let silent = |held: &Held| matches!(held.stage, Stage::Head(_)) && !held.started;
        self.all().filter(|(_, held)| silent(held)).map(|(conn, _)| conn).collect()
    }

    /// Those that came in here and whose head is awaited.
    pub(super) fn of_listener(&self, listener: ListenerId) -> Vec<Conn> {
        let range = (listener, Conn(0))..=(listener, Conn(u64::MAX));
        self.orders.by_listener.range(range).map(|(_, conn)| *conn).collect()
    }

    /// How many wait in queues of the router.
    pub(super) fn queued(&self) -> usize {
        self.orders.queued
    }

    /// How many came back and wait for their turn.
    pub(super) fn returned(&self) -> usize {
        self.orders.returned.len()
    }

    /// The next one that came back. It stands nowhere until it is set.
    pub(super) fn next_returned(&mut self) -> Option<(Conn, Option<Returned>)> {
        let conn = *self.orders.returned.front()?;
        let Stage::Returned(how) = self.held.get(&conn)?.stage else { return None };
        self.set(conn, Stage::New);
        Some((conn, how))
    }
}

impl Orders {
    fn enter(&mut self, conn: Conn, held: &Held) {
        match &held.stage {
            Stage::Head(head) => {
                self.by_age.extend(head.since.map(|since| (since, conn)));
                self.by_listener.extend(held.listener.map(|listener| (listener, conn)));
            }
            Stage::Returned(_) => self.returned.push_back(conn),
            Stage::Queued => self.queued += 1,
            Stage::New | Stage::SecondLook(_) | Stage::Crowded(_) | Stage::Sending(_) => {}
        }
    }

    fn leave(&mut self, conn: Conn, held: &Held) {
        match &held.stage {
            Stage::Head(head) => {
                self.looks.remove(&(head.not_before, conn));
                if let Some(since) = head.since {
                    self.by_age.remove(&(since, conn));
                }
                if let Some(listener) = held.listener {
                    self.by_listener.remove(&(listener, conn));
                }
            }
            Stage::Returned(_) if self.returned.front() == Some(&conn) => {
                self.returned.pop_front();
            }
            Stage::Returned(_) => self.returned.retain(|other| *other != conn),
            Stage::Queued => self.queued -= 1,
            Stage::New | Stage::SecondLook(_) | Stage::Crowded(_) | Stage::Sending(_) => {}
        }
    }
}
