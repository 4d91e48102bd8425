//! The way of a connection from its arrival to its worker.

use std::mem;

use super::action::{Action, Closing, Report};
use super::held::{Head, Held, Look, Stage};
use super::input::{Arrived, First, NotSent, Preface, Seen};
use super::{BLOCKED, Core, Listening};
use crate::logic::Worker;
use crate::logic::fleet::{self, Limit};
use crate::logic::recycle;
use crate::logic::route::{Arrival, Conn, ListenerId, Returned, Verdict};
use crate::logic::time::Time;

impl Core {
    pub(super) fn arrived(&mut self, now: Time, conn: Conn, arrived: Arrived) {
        self.held.insert(conn, Held::new(arrived, Stage::New));
        if arrived.is_prefaced {
            self.actions.push_back(Action::ReadPreface { conn, last: false });
        } else {
            self.look(now, conn);
        }
    }

    /// Looks at the first bytes of a connection, or decides without, where the keys need none.
    pub(super) fn look(&mut self, now: Time, conn: Conn) {
        let Some(held) = self.held.get(conn) else { return };
        let is_needed = self.router.needs_head(held.client) && self.speaks_http(held.listener);
        if held.is_read || is_needed {
            self.actions.push_back(Action::Look { conn, look: Look::Whole });
        } else {
            self.judge(now, conn, &Seen { last: true, ..Seen::default() });
        }
    }

    pub(super) fn preface(&mut self, now: Time, conn: Conn, preface: Preface) {
        let Some(held) = self.held.get_mut(conn) else { return };
        match preface {
            Preface::Read { length, client } => {
                held.client = client;
                held.started |= length > 0;
                if let Stage::Head(head) = &mut held.stage {
                    head.is_prefaced = false;
                }
                self.look(now, conn);
            }
            Preface::Awaited(count) => {
                held.started |= count > 0;
                self.wait_for_more(conn, Head::new(true, now), count);
            }
        }
    }

    /// Waits for more bytes of a connection, of which so many are there.
    fn wait_for_more(&mut self, conn: Conn, head: Head, seen: usize) {
        let Some(held) = self.held.get(conn) else { return };
        if !matches!(held.stage, Stage::Head(_)) {
            self.held.set(conn, Stage::Head(head));
            self.actions.push_back(Action::Await { conn, seen });
        } else if seen > 0 {
            self.actions.push_back(Action::Await { conn, seen });
        }
    }

    pub(super) fn readable(&mut self, now: Time, conn: Conn, closed: bool) {
        let Some(held) = self.held.get_mut(conn) else { return };
        held.last |= closed;
        self.look_again(now, conn);
    }

    /// More bytes of an awaited connection may be there.
    pub(super) fn look_again(&mut self, now: Time, conn: Conn) {
        let Some(look) = self.held.grew(now, conn) else { return };
        let Some(held) = self.held.get(conn) else { return };
        match &held.stage {
            Stage::Head(head) if head.is_prefaced => {
                self.actions.push_back(Action::ReadPreface { conn, last: held.last });
            }
            _ if look == Look::Whole => self.look(now, conn),
            _ => self.actions.push_back(Action::Look { conn, look }),
        }
    }

    pub(super) fn no_room_for_more(&mut self, conn: Conn) {
        let Some(held) = self.held.get_mut(conn) else { return };
        // No more will come, just as if the head were too long.
        held.last = true;
        self.actions.push_back(Action::Look { conn, look: Look::Whole });
    }

    /// The time for the first bytes of a connection is over. Where the server may be the one to speak first,
    /// nothing was to be expected. On a Unix socket a head in many small pieces fills the buffer of its
    /// sender, which nobody here can see: that is no client of the network that is late.
    pub(super) fn head_is_late(&mut self, now: Time, conn: Conn) {
        let Some(held) = self.held.get(conn) else { return };
        let is_prefaced = matches!(&held.stage, Stage::Head(head) if head.is_prefaced);
        if is_prefaced {
            self.close(conn, Closing::NoPreface);
        } else if self.may_speak_first(held.listener) || (held.is_unix && held.started) {
            self.look(now, conn);
        } else {
            self.close(conn, Closing::Silent);
        }
    }

    pub(super) fn seen(&mut self, now: Time, conn: Conn, seen: &Seen<'_>) {
        if !seen.is_behind {
            return self.judge(now, conn, seen);
        }
        if seen.last || self.held.see(now, conn, seen.bytes, seen.copied) {
            self.look(now, conn);
        }
    }

    /// Decides about a connection, with what was seen of it.
    fn judge(&mut self, now: Time, conn: Conn, seen: &Seen<'_>) {
        let Some(held) = self.held.get_mut(conn) else { return };
        held.started |= !seen.bytes.is_empty();
        let last = seen.last || held.last;
        let (listener, ip, returned) =
            (held.listener.unwrap_or_default(), held.client, held.returned);
        let arrival = Arrival { conn, listener, ip, bytes: seen.bytes, last, returned };
        let verdict = self.router.route(now, &arrival);
        if let Some(length) = self.router.take_long_key()
            && !mem::replace(&mut self.said.presented_too_long, true)
        {
            self.report(Report::PresentedTooLong(length));
        }
        if verdict == Verdict::NeedMore {
            let started = self.held.get(conn).is_some_and(|held| held.started);
            let since = if started { now } else { now.earlier(seen.silent_for) };
            return self.wait_for_more(conn, Head::new(false, since), seen.bytes.len());
        }
        self.apply(now, conn, verdict, true);
    }

    /// Does what the router has decided. If somebody is refused, his owner is looked at before, unless this
    /// was the second try.
    fn apply(&mut self, now: Time, conn: Conn, verdict: Verdict, is_first: bool) {
        match verdict {
            Verdict::Send(give) => {
                self.held.set(conn, Stage::Sending(give));
                let (worker, reason) = (give.worker, give.reason);
                self.actions.push_back(Action::Send { conn, worker, reason });
            }
            Verdict::Queued => self.queue(conn),
            Verdict::LookAgain(candidate) => {
                self.held.set(conn, Stage::SecondLook(candidate));
                if self.second_looks.is_empty() {
                    self.actions.push_back(Action::ReadChannels);
                }
                self.second_looks.push(conn);
            }
            Verdict::Refuse(owner, candidate) if is_first => {
                self.held.set(conn, Stage::Crowded(candidate));
                self.crowded.push_back(conn);
                self.actions.push_back(Action::LookAtWorker(owner));
            }
            Verdict::Refuse(owner, _) => self.refuse(now, conn, owner),
            Verdict::NeedMore => debug_assert!(false, "an undecided connection waits for more"),
        }
    }

    fn queue(&mut self, conn: Conn) {
        let Some(held) = self.held.get(conn) else { return };
        let is_read = held.is_read;
        self.held.set(conn, Stage::Queued);
        self.actions.push_back(Action::Queue(conn));
        if is_read && let Some(owner) = self.router.waits_for(conn) {
            self.actions.push_back(Action::Charge(conn, owner));
        }
    }

    fn refuse(&mut self, now: Time, conn: Conn, owner: Worker) {
        self.close(conn, Closing::Said);
        if let Some(before) = self.said.refused.allow(now) {
            self.report(Report::Refused(owner, before));
        }
    }

    /// The bytes that wait with a connection for its owner are too much.
    pub(super) fn too_much(&mut self, now: Time, conn: Conn) {
        if let Some(owner) = self.router.drop_queued(conn) {
            self.refuse(now, conn, owner);
        }
    }

    /// Everything that channels held was heard: those that waited for that are decided about, and the fleet
    /// judges who is late.
    pub(super) fn channels_read(&mut self, now: Time) {
        for conn in mem::take(&mut self.second_looks) {
            let Some(Stage::SecondLook(candidate)) = self.held.get(conn).map(|held| &held.stage)
            else {
                continue;
            };
            let verdict = self.router.route_known(now, *candidate);
            self.apply(now, conn, verdict, true);
        }
        if mem::take(&mut self.judges) {
            self.fleet.handle_timeout(now);
        }
    }

    /// Decides about one for whom there was no place, now that all has gone that could.
    pub(super) fn admit_crowded(&mut self, now: Time) {
        let Some(conn) = self.crowded.pop_front() else { return };
        let Some(Stage::Crowded(candidate)) = self.held.get(conn).map(|held| &held.stage) else {
            return;
        };
        let verdict = self.router.route_known(now, *candidate);
        self.apply(now, conn, verdict, false);
    }

    /// Sends the next one that waits and can go; false if there is none.
    pub(super) fn send_next(&mut self, now: Time) -> bool {
        if self.blocked_until.is_some_and(|at| now < at) {
            return false;
        }
        self.blocked_until = None;
        let Some((conn, give)) = self.router.next(now) else { return false };
        self.apply(now, conn, Verdict::Send(give), true);
        true
    }

    pub(super) fn sent(&mut self, now: Time, conn: Conn) {
        let Some(Held { stage: Stage::Sending(give), .. }) = self.held.remove(conn) else { return };
        let worker = give.worker;
        self.count_given(now, worker);
        if self.router.may_have_room(worker) {
            self.actions.push_back(Action::LookAtWorker(worker));
        }
    }

    fn count_given(&mut self, now: Time, worker: Worker) {
        let Some(limit) = self.config.connections_of_one else { return };
        let Some(facts) = self.workers.get_mut(&worker) else { return };
        facts.given += 1;
        if facts.given >= recycle::connection_limit(limit, worker, self.config.seed) {
            self.fleet.handle(now, fleet::Input::Recycle(worker, Limit::Connections));
        }
    }

    pub(super) fn not_sent(&mut self, now: Time, conn: Conn, why: NotSent) {
        let Some(Stage::Sending(give)) = self.held.get(conn).map(|held| &held.stage) else {
            return;
        };
        let give = *give;
        match why {
            NotSent::NoRoom => {
                self.blocked_until = Some(now + BLOCKED);
                self.router.not_sent(give);
                self.held.set(conn, Stage::Queued);
                self.actions.push_back(Action::Queue(conn));
            }
            NotSent::NotServed => {
                self.router.closed(give.worker, 1);
                self.actions.push_back(Action::LookAtWorker(give.worker));
                self.held.set(conn, Stage::Returned(Some(Returned::Recovered)));
            }
        }
    }

    /// There is nobody to serve any more at the other end of a connection.
    pub(super) fn connection_is_gone(&mut self, conn: Conn) {
        if let Some(Held { stage: Stage::Sending(give), .. }) = self.held.remove(conn) {
            self.router.closed(give.worker, 1);
        }
    }

    /// Nobody serves what comes to a listener any more.
    pub(super) fn leads_nowhere(&mut self, listener: ListenerId) {
        self.listeners.remove(&listener);
        let waiting = self.router.close_listener(listener);
        let awaited = self.held.of_listener(listener);
        for conn in waiting.into_iter().chain(awaited) {
            self.close(conn, Closing::Silent);
        }
    }

    /// The beginning of a stop: nobody new, and nobody who has not said anything.
    pub(super) fn listeners_closed(&mut self) {
        self.listening = Listening::Closed;
        for conn in self.held.silent() {
            self.close(conn, Closing::Silent);
        }
    }

    pub(super) fn close(&mut self, conn: Conn, why: Closing) {
        self.held.remove(conn);
        self.actions.push_back(Action::Close(conn, why));
    }

    pub(super) fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    /// Whether the head of a request may be expected from a connection of this listener.
    fn speaks_http(&self, listener: Option<ListenerId>) -> bool {
        self.first(listener) != First::Server
    }

    /// Whether the server may be the one to speak first on a connection of this listener.
    fn may_speak_first(&self, listener: Option<ListenerId>) -> bool {
        self.first(listener) != First::Client
    }

    fn first(&self, listener: Option<ListenerId>) -> First {
        let first = listener.and_then(|listener| self.listeners.get(&listener));
        first.copied().unwrap_or_default()
    }
}
