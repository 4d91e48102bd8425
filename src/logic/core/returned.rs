//! Connections that come back from workers: each is routed again, a limited number of times.

use super::action::{Action, Closing, Report, Unwanted, Violation};
use super::held::{Held, Stage};
use super::input::{Arrived, How};
use super::{Core, Message, TakenBack};
use crate::logic::Worker;
use crate::logic::route::returns::{MAX_RETURNS, Next, Progress};
use crate::logic::route::{Conn, InFlight, ListenerId, Returned};
use crate::logic::time::Time;

impl Core {
    /// A connection is here again, for this reason.
    pub(super) fn came_back(&mut self, conn: Conn, arrived: Arrived, how: How) {
        let stage = match how {
            How::Back { worker, ends, .. } if ends && !self.router.closed(worker, 1) => {
                self.actions.push_back(Action::Close(conn, Closing::Said));
                return self.report(Report::Violation(worker, Violation::ReturnedTooMany));
            }
            How::Back { worker, next, .. } => {
                Stage::Returned((!next).then_some(Returned::Back(worker)))
            }
            How::NotServed(how, _) => Stage::Returned(Some(how)),
        };
        let identity = match how {
            How::Back { identity, .. } => Some(identity),
            How::NotServed(_, identity) => identity,
        };
        self.held.insert(conn, Held { identity, ..Held::new(arrived, stage) });
    }

    /// Routes the next one that had come back when the turn began; false if there is none.
    pub(super) fn route_returned(&mut self, now: Time) -> bool {
        let Some(left) = self.turn.returned.checked_sub(1) else { return false };
        self.turn.returned = left;
        let Some((conn, how)) = self.held.next_returned() else { return false };
        let Some(held) = self.held.get_mut(conn) else { return false };
        held.returned = how;
        let (listener, identity) = (held.listener, held.identity);
        if !self.leads_anywhere(listener) {
            self.close(conn, Closing::Silent);
            return true;
        }
        match (how, identity) {
            (Some(Returned::Back(_)), Some(socket)) if self.returns.count(socket) => {
                self.unwanted(now, conn, Unwanted::GivenBack(MAX_RETURNS));
            }
            (None, Some(socket)) if self.returns.count_next(socket) == Next::Look => {
                self.actions.push_back(Action::LookAtProgress(conn));
            }
            _ => self.look(now, conn),
        }
        true
    }

    /// A connection comes back for its next request very often: somebody has to have read something meanwhile.
    pub(super) fn progress(&mut self, now: Time, conn: Conn, progress: Progress) {
        let Some(socket) = self.held.get(conn).and_then(|held| held.identity) else { return };
        if self.returns.goes_round(socket, progress) {
            self.unwanted(now, conn, Unwanted::GoesRound);
        } else {
            self.look(now, conn);
        }
    }

    fn unwanted(&mut self, now: Time, conn: Conn, why: Unwanted) {
        self.close(conn, Closing::Said);
        if let Some(before) = self.said.unwanted.allow(now) {
            self.report(Report::Unwanted(why, before));
        }
    }

    /// Whether any worker may serve a connection that came in here.
    fn leads_anywhere(&self, listener: Option<ListenerId>) -> bool {
        self.router.all_listeners()
            || listener.is_some_and(|listener| self.listeners.contains_key(&listener))
    }

    /// What a worker that has stopped reading did not pick up is here again. Connections that were placed there
    /// go elsewhere, if it is sure that these are the ones; those of its own keys wait for it.
    pub(super) fn taken_back(&mut self, now: Time, worker: Worker, taken: TakenBack) {
        let TakenBack { messages, left, is_sure } = taken;
        let kinds = self.router.take_back(now, worker, messages.len(), left);
        // A worker that is gone meanwhile has no window.
        let kinds = kinds.into_iter().map(Some).chain(std::iter::repeat(None));
        for (message, kind) in messages.into_iter().zip(kinds) {
            match message {
                Message::Connection(conn, arrived) => {
                    let moves = is_sure && kind == Some(InFlight::Movable);
                    let how = if moves { Returned::Moved(worker) } else { Returned::Recovered };
                    self.held.insert(conn, Held::new(arrived, Stage::Returned(Some(how))));
                }
                Message::Drain => self.drains.push(worker),
                Message::Other => {}
            }
        }
        // As long as this one is unread, the worker still does not read.
        self.actions.push_back(Action::Notify(worker, super::Note::Ping));
    }
}
