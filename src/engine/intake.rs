//! Handing over: from a connection to the worker that the router names.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};
use sticky_worker::message::MAX_KEY;
use tracing::{debug, warn};

use super::connection::SavedConnection;
use super::links::{Channels, Said};
use super::origin::Preface;
use super::pending::PendingConnection;
use super::{Connection, Engine};
use crate::logic::Worker;
use crate::logic::route::head::MAX_HEAD;
use crate::logic::route::returns::{MOST, Next, Returns};
use crate::logic::route::{Arrival, Assignment, Conn, ListenerId, Returned, Verdict};
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::kept::Keeper;
use crate::os::listen::held_back;
use crate::os::peek::{self, Peeked, peek};

/// The rest after the kernel had no room for a message although the window had.
const BLOCKED: Duration = Duration::from_millis(10);

/// What handing over needs to remember.
#[derive(Debug)]
pub(super) struct Handoff {
    /// The number of the next connection.
    next: u64,
    /// Where first bytes are peeked into.
    head: Box<[u8]>,
    /// Connections that came back from workers and have to be routed again; with `None` as if they
    /// had just come.
    returned: VecDeque<(Connection, Option<Returned>)>,
    /// How often connections came back.
    returns: Returns,
    /// No sending before this time: the kernel had no room.
    blocked_until: Option<Time>,
    refused: Throttle,
    unwanted: Throttle,
    /// It was said that a presented key is too long.
    said_too_long: bool,
}

/// What handing over remembers in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedHandoff {
    next: u64,
    returned: Vec<(SavedConnection, Returned)>,
    returns: Returns,
}

/// What is known of a connection when its first bytes were looked at.
#[derive(Clone, Copy, Debug)]
enum Seen<'a> {
    /// These bytes, and whether they are the last.
    Bytes(&'a [u8], bool),
    /// There is nobody to serve.
    Nobody,
}

impl Handoff {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            head: vec![0; MAX_HEAD].into_boxed_slice(),
            returned: VecDeque::new(),
            returns: Returns::default(),
            blocked_until: None,
            refused: Throttle::default(),
            unwanted: Throttle::default(),
            said_too_long: false,
        }
    }

    /// Writes it down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedHandoff {
        let returned = self.returned.iter();
        // One that comes back for its next request is routed as a recovered one is.
        let how = |how: &Option<Returned>| how.unwrap_or(Returned::Recovered);
        let returned = returned.map(|(connection, back)| (connection.save(keeper), how(back)));
        SavedHandoff {
            next: self.next,
            returned: returned.collect(),
            returns: self.returns.clone(),
        }
    }

    /// Goes on with what was written down.
    pub(super) fn restore(saved: SavedHandoff) -> io::Result<Self> {
        let SavedHandoff { next, returned, returns } = saved;
        let returned = returned.into_iter();
        let returned = returned.map(|(connection, how)| Ok((connection.restore()?, Some(how))));
        Ok(Self { next, returned: returned.collect::<io::Result<_>>()?, returns, ..Self::new() })
    }

    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    pub(super) fn returned(&self) -> usize {
        self.returned.len()
    }

    pub(super) fn blocked_until(&self) -> Option<Time> {
        self.blocked_until
    }

    /// Takes a connection back that a worker gave back or did not pick up.
    pub(super) fn take_back(&mut self, connection: Connection, how: Returned) {
        self.returned.push_back((connection, Some(how)));
    }

    /// Takes a connection back that a worker has served, and whose next request may be for any of
    /// them.
    pub(super) fn take_next_request(&mut self, connection: Connection) {
        self.returned.push_back((connection, None));
    }

    /// Counts that a worker handed this connection back; says what is wrong if that was too often.
    fn is_bounced(&mut self, connection: &Connection, how: Option<Returned>) -> Option<String> {
        let socket = connection.socket.as_fd();
        let identity = match (how, peek::identity(socket)) {
            (Some(Returned::Moved(_) | Returned::Recovered), _) => return None,
            (Some(Returned::Back(_)) | None, Err(error)) => return Some(error.to_string()),
            (Some(Returned::Back(_)) | None, Ok(identity)) => identity,
        };
        if how.is_some() {
            let times = || format!("it was given back {MOST} times");
            return self.returns.count(identity).then(times);
        }
        let goes_round = self.returns.count_next(identity) == Next::Look
            && self.returns.goes_round(identity, peek::progress(socket));
        goes_round
            .then(|| "it goes round for its next request, which none of them reads".to_owned())
    }

    /// How many connections there were so far.
    pub(super) fn connections(&self) -> u64 {
        self.next
    }

    fn number(&mut self) -> Conn {
        self.next += 1;
        Conn(self.next)
    }

    /// Looks at the first bytes, where the keys need them.
    fn look<'a>(&'a mut self, connection: &'a Connection, needed: bool, closed: bool) -> Seen<'a> {
        if let Some(head) = &connection.head {
            return Seen::Bytes(head, true);
        }
        if !needed {
            return Seen::Bytes(&[], true);
        }
        match peek(connection.socket.as_fd(), &mut self.head) {
            Ok(Peeked::Bytes(count)) => Seen::Bytes(&self.head[..count], closed),
            Ok(Peeked::Nothing) => Seen::Bytes(&[], closed),
            Ok(Peeked::End) => Seen::Nobody,
            Err(error) => {
                debug!(name: "client_gone", "a client is gone before its first bytes: {error}");
                Seen::Nobody
            }
        }
    }
}

impl Engine {
    /// Routes what came back from workers.
    pub(super) fn route_returned(&mut self) {
        // A connection that comes back again meanwhile has to wait for the next turn.
        for (connection, how) in mem::take(&mut self.handoff.returned) {
            if !self.listeners.lead_anywhere(connection.listener) {
                continue;
            }
            if let Some(why) = self.handoff.is_bounced(&connection, how) {
                if let Some(before) = self.handoff.unwanted.say(self.now) {
                    warn!(
                        name: "connection_dropped", reason = "unwanted", suppressed = before,
                        "closing a connection that no worker wants: {why} ({before} earlier ones \
                         not shown)"
                    );
                }
                continue;
            }
            self.route(connection, how, false);
        }
    }

    /// Sends what waits and may go now, and notices when a stopped worker reads again.
    pub(super) fn send_waiting(&mut self) {
        let nothing = self.waiting.is_empty() && !self.router.has_stalled();
        if nothing || self.handoff.blocked_until.is_some_and(|at| self.now < at) {
            return;
        }
        self.handoff.blocked_until = None;
        for worker in self.router.watched() {
            self.look_at(worker);
        }
        while self.handoff.blocked_until.is_none()
            && let Some((conn, give)) = self.router.next(self.now)
        {
            let connection = self.waiting.remove(&conn);
            let connection = connection.expect("the router queues only what waits here");
            self.hand_over(conn, connection, give);
        }
    }

    /// More bytes of a pending connection may be there, or its end.
    pub(super) fn head_grew(&mut self, conn: Conn, closed: bool) {
        if !closed && !self.pending.grew(self.now, conn, &mut self.handoff.head) {
            return;
        }
        let Some(mut pending) = self.pending.take(conn) else { return };
        let judged = self.judge(conn, &mut pending.connection, closed, None);
        let verdict = judged.map(|(count, verdict)| {
            pending.started |= count > 0;
            verdict
        });
        if verdict == Some(Verdict::NeedMore) {
            self.pending.put(conn, pending);
            return;
        }
        match (pending.release(self.poll.registry()), verdict) {
            (Ok(connection), Some(verdict)) => self.settle(conn, connection, verdict),
            (Ok(_), None) => {}
            (Err(error), _) => warn!(
                name: "connection_watch_failed",
                "cannot stop waiting for a connection: {error}"
            ),
        }
    }

    /// The time for the head of a connection is over. Where the server may be the one to speak first,
    /// nothing was to be expected but a PROXY header. On a Unix socket a head in many small pieces fills the
    /// buffer of its sender, which nobody here can see: that is no client of the network that is late.
    pub(super) fn give_up_waiting(&mut self, conn: Conn) {
        if let Some(peer) = self.pending.prefaced(conn) {
            self.tell_of_missing_preface(peer, "the header did not come in time");
            self.close_pending(conn);
        } else if self.listeners.may_speak_first(self.pending.listener(conn))
            || self.pending.is_local(conn)
        {
            self.head_grew(conn, true);
        } else {
            self.close_pending(conn);
        }
    }

    /// Gives up on a connection whose head did not come.
    pub(super) fn close_pending(&mut self, conn: Conn) {
        if let Some(pending) = self.pending.take(conn)
            && let Err(error) = pending.release(self.poll.registry())
        {
            warn!(name: "connection_watch_failed", "cannot stop waiting for a connection: {error}");
        }
    }

    /// Routes a connection that waits for nothing; `deferred` if the kernel may have held it back.
    pub(super) fn route(
        &mut self,
        mut connection: Connection,
        returned: Option<Returned>,
        deferred: bool,
    ) {
        let conn = self.handoff.number();
        let judged = self.judge(conn, &mut connection, false, returned);
        let Some((count, verdict)) = judged else { return };
        if verdict != Verdict::NeedMore {
            self.settle(conn, connection, verdict);
            return;
        }
        let silent = count == 0;
        let since = if silent && deferred { self.silent_since(&connection) } else { self.now };
        match PendingConnection::register(self.poll.registry(), conn, connection, since, !silent) {
            Ok(pending) => self.pending.put(conn, pending),
            Err(error) => warn!(
                name: "connection_watch_failed",
                "cannot wait for the first bytes of a connection: {error}"
            ),
        }
    }

    /// Looks at the first bytes of a connection and decides. Returns how many there were, and what
    /// happens; none if there is nobody to serve.
    fn judge(
        &mut self,
        conn: Conn,
        connection: &mut Connection,
        closed: bool,
        returned: Option<Returned>,
    ) -> Option<(usize, Verdict)> {
        let preface = match self.read_preface(connection, closed) {
            Preface::Read(count) => count,
            Preface::Awaited(count) => return Some((count, Verdict::NeedMore)),
            Preface::Missing => return None,
        };
        let needed = self.router.needs_head(connection.client.map(|client| client.ip()))
            && self.listeners.speaks_http(connection.listener);
        let (bytes, last) = match self.handoff.look(connection, needed, closed) {
            Seen::Bytes(bytes, last) => (bytes, last),
            Seen::Nobody => return None,
        };
        let ip = connection.client.map(|client| client.ip());
        let door = ListenerId(connection.listener.unwrap_or_default());
        let count = preface + bytes.len();
        let arrival = Arrival { conn, listener: door, ip, bytes, last, returned };
        let mut verdict = self.router.route(self.now, &arrival);
        let socket = connection.socket.as_fd();
        if matches!(verdict, Verdict::NeedMore)
            && !bytes.is_empty()
            && !peek::has_room(&socket, bytes.len(), MAX_HEAD)
        {
            // No more will come, just as if the head were too long.
            verdict = self.router.route(self.now, &Arrival { last: true, ..arrival });
        }
        self.say_if_too_long();
        Some((count, self.decide(verdict)))
    }

    /// A client presents a key that no worker can announce.
    fn say_if_too_long(&mut self) {
        if let Some(length) = self.router.take_long_key()
            && !mem::replace(&mut self.handoff.said_too_long, true)
        {
            warn!(
                name: "presented_key_too_long", bytes = length,
                "a client presents a key of {length} bytes: workers can announce {MAX_KEY} at \
                 most, so it stays where its first connection was placed; use shorter ids (said \
                 once)"
            );
        }
    }

    /// Since when a connection without a byte is there, which the kernel may have held back.
    fn silent_since(&self, connection: &Connection) -> Time {
        match held_back(connection.socket.as_fd()) {
            Ok(held_back) => self.now.earlier(held_back),
            Err(error) => {
                debug!(
                    name: "client_silence_unknown",
                    "cannot tell for how long a client has been silent: {error}"
                );
                self.now
            }
        }
    }

    /// Asks the router again when what it wants to know was looked at. Others may be routed meanwhile,
    /// so nothing that was peeked at may be needed any more.
    fn decide(&mut self, mut verdict: Verdict) -> Verdict {
        if let Verdict::LookAgain(visitor) = verdict {
            self.read_channels(Channels::All);
            verdict = self.router.route_known(self.now, visitor);
        }
        if let Verdict::Refuse(owner, visitor) = verdict {
            self.look_at(owner);
            self.send_waiting();
            verdict = self.router.route_known(self.now, visitor);
        }
        verdict
    }

    /// Does what the router decided about a connection.
    fn settle(&mut self, conn: Conn, mut connection: Connection, verdict: Verdict) {
        match verdict {
            Verdict::Send(give) => self.hand_over(conn, connection, give),
            Verdict::Queued => {
                if connection.head.is_some()
                    && let Some(owner) = self.router.waits_for(conn)
                    && !self.links.may_wait(&mut connection, owner)
                {
                    self.router.drop_queued(conn);
                    return self.tell_of_refused(owner);
                }
                self.waiting.insert(conn, connection);
            }
            Verdict::Refuse(worker, _) => self.tell_of_refused(worker),
            Verdict::NeedMore | Verdict::LookAgain(_) => {
                debug_assert!(false, "an undecided connection is kept by the caller");
            }
        }
    }

    fn tell_of_refused(&mut self, worker: Worker) {
        if let Some(before) = self.handoff.refused.say(self.now) {
            warn!(
                name: "connection_dropped", worker = worker.slot, reason = "queue_full",
                suppressed = before,
                "closing a connection: too many wait for {worker} already, which is full or does \
                 not pick them up ({before} earlier ones not shown)"
            );
        }
    }

    /// Sends a connection to its worker, or has it wait when the kernel has no room.
    fn hand_over(&mut self, conn: Conn, connection: Connection, give: Assignment) {
        let client = connection.client;
        match self.links.send(self.now, connection, &give) {
            Ok(()) => {
                debug!(
                    name: "connection_routed", worker = give.worker.slot, reason = %give.reason,
                    "a connection {} goes to {}: {}",
                    of(client),
                    give.worker,
                    give.reason
                );
                self.count_given(give.worker);
                if self.router.may_have_room(give.worker) {
                    self.look_at(give.worker);
                }
            }
            Err((connection, error)) => {
                let room = [libc::EAGAIN, libc::ETOOMANYREFS, libc::ENOBUFS, libc::ENOMEM];
                if error.raw_os_error().is_none_or(|errno| !room.contains(&errno)) {
                    self.hear(give.worker, Said::shut_down(&error));
                }
                self.handoff.blocked_until = Some(self.now + BLOCKED);
                self.router.not_sent(give);
                self.waiting.insert(conn, connection);
            }
        }
    }
}

/// Whose a connection is, for the log.
pub(super) fn of(client: Option<SocketAddr>) -> String {
    client.map_or("of a Unix socket".to_owned(), |client| format!("of {client}"))
}
