//! Workers: what they say, what they are told, and what the fleet wants done with them.

use std::mem;

use serde::{Deserialize, Serialize};
use sticky_worker::message::MAX_KEY;

use super::action::{Action, Report, Violation};
use super::input::{Note, Noted, Reports, Said};
use super::{Core, Listening};
use crate::logic::Worker;
use crate::logic::capacity::Footprint;
use crate::logic::fleet::{self, Exit};
use crate::logic::route::{Health, OwnedByAnother};
use crate::logic::time::Time;

/// What is known of a worker whose process exists.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Facts {
    /// How many connections it was given.
    pub(super) given: u64,
    reports: Reports,
    /// It has ended like this, and what was left of it is not here yet.
    exit: Option<Exit>,
}

impl Facts {
    pub(super) fn new(reports: Reports) -> Self {
        Self { given: 0, reports, exit: None }
    }
}

impl Core {
    pub(super) fn worker_said(&mut self, now: Time, worker: Worker, said: Said<'_>) {
        match said {
            Said::Ready => self.fleet.handle(now, fleet::Input::Ready(worker)),
            Said::Announces(key) => self.announced(now, worker, key),
            Said::Ends(key) => self.router.forget(now, worker, key),
            Said::Closed(count) => {
                if !self.router.closed(worker, count) {
                    self.report(Report::Violation(worker, Violation::ClosedTooMany));
                }
            }
            Said::Uncounted(count) => _ = self.router.closed(worker, count),
            Said::ReturnedGone { ends } => {
                if ends && !self.router.closed(worker, 1) {
                    self.report(Report::Violation(worker, Violation::ReturnedTooMany));
                }
            }
            Said::PickedUp => self.actions.push_back(Action::LookAtWorker(worker)),
            Said::Unrelieved => {
                if self.router.is_stalled(worker) {
                    self.actions.push_back(Action::TakeBack(worker));
                }
            }
            Said::Pong => self.fleet.handle(now, fleet::Input::Pong(worker)),
            Said::Leaving => self.fleet.handle(now, fleet::Input::Leaving(worker)),
            Said::HandlesTerm => self.fleet.handle(now, fleet::Input::HandlesTerm(worker)),
            Said::Quiet => self.router.sessions_over(worker),
            Said::Busy => self.router.sessions_resumed(worker),
            Said::ReportsEnds => self.set_reports(worker, Reports::Ends),
            Said::Rebooted(reports) => {
                self.router.reset_open(worker);
                self.set_reports(worker, reports);
            }
        }
    }

    fn set_reports(&mut self, worker: Worker, reports: Reports) {
        if let Some(facts) = self.workers.get_mut(&worker) {
            facts.reports = reports;
        }
    }

    /// A worker announces a key. Two may do so innocently: when ids collide, or when clients present
    /// what is the same for all of them.
    fn announced(&mut self, now: Time, worker: Worker, key: &[u8]) {
        if self.fleet.is_exiting(worker) {
            // Nobody new is sent there, and whoever is there already stays.
        } else if !self.fleet.is_ready(worker) {
            self.report(Report::Violation(worker, Violation::NotReady));
        } else if key.len() > MAX_KEY {
            if !mem::replace(&mut self.said.too_long, true) {
                self.report(Report::TooLong(worker, key.len()));
            }
        } else if let Err(OwnedByAnother(owner)) = self.router.announce(now, worker, key)
            && !mem::replace(&mut self.said.shared, true)
        {
            self.report(Report::Shared(worker, owner));
        }
    }

    /// A look has found that a worker has not picked up so many messages.
    pub(super) fn unread(&mut self, now: Time, worker: Worker, unread: usize) {
        match self.router.note_unread(now, worker, unread) {
            Health::Unchanged => {}
            Health::Stalled => {
                self.report(Report::Stopped(worker));
                self.actions.push_back(Action::TakeBack(worker));
            }
            Health::Resumed => self.report(Report::Resumed(worker)),
        }
    }

    /// Looks at the workers of which it matters whether they pick something up, once in a turn.
    pub(super) fn look_at_wanted(&mut self, now: Time) -> bool {
        let matters = self.held.queued() > 0 || self.router.has_stalled();
        if !matters
            || self.blocked_until.is_some_and(|at| now < at)
            || mem::replace(&mut self.turn.looked_at_wanted, true)
        {
            return false;
        }
        let wanted = self.router.watched();
        self.actions.extend(wanted.iter().copied().map(Action::LookAtWorker));
        !wanted.is_empty()
    }

    /// What became of something that a worker was told.
    pub(super) fn noted(&mut self, now: Time, worker: Worker, note: Note, noted: Noted) {
        match (note, noted) {
            (_, Noted::InFlight) => self.router.note_sent(now, worker),
            (_, Noted::Told) => {}
            (Note::Drain | Note::Withdraw, Noted::NoRoom) => self.drains.push(worker),
            // One that has no room for the question does not read, which is an answer too.
            (Note::Ping | Note::Close { .. }, Noted::NoRoom) => {}
            // One that cannot be asked is taken to be alive, and to wait for TERM.
            (Note::Ping, Noted::NotHeard) => {
                self.fleet.handle(now, fleet::Input::Pong(worker));
            }
            (Note::Close { .. }, Noted::NotHeard) => {
                self.fleet.handle(now, fleet::Input::HandlesTerm(worker));
            }
            (Note::Drain | Note::Withdraw, Noted::NotHeard) => {}
        }
    }

    /// Looks at the withdrawn workers, once in a turn: what they have picked up is not on its way to them.
    pub(super) fn look_at_draining(&mut self) -> bool {
        let looked = mem::replace(&mut self.turn.looked_at_draining, true);
        let draining = self.router.draining().filter(|_| !looked);
        let before = self.actions.len();
        self.actions.extend(draining.map(Action::LookAtWorker));
        self.actions.len() > before
    }

    /// Tells the fleet which withdrawn workers have nothing left to do.
    pub(super) fn report_drained(&mut self, now: Time) {
        let reports = |worker: &Worker| {
            self.workers.get(worker).is_some_and(|facts| facts.reports == Reports::Ends)
        };
        let draining: Vec<_> = self.router.draining().filter(reports).collect();
        for worker in draining {
            if self.router.is_drained(now, worker) {
                self.fleet.handle(now, fleet::Input::Drained(worker));
            }
        }
    }

    /// Tells workers to finish what they have, now that no connection is on its way to them.
    pub(super) fn send_drains(&mut self) -> bool {
        let may = self.held.len() == 0 && self.turn.abandoned == 0;
        if !may
            || self.listening == Listening::Closing
            || mem::replace(&mut self.turn.drains_sent, true)
        {
            return false;
        }
        let drains = mem::take(&mut self.drains);
        let live = drains.into_iter().filter(|worker| self.workers.contains_key(worker));
        self.actions.extend(live.map(|worker| Action::Notify(worker, Note::Drain)));
        true
    }

    /// Tells a fleet that stops how many connections are left.
    pub(super) fn report_open(&mut self, now: Time) {
        let is_blind = || self.workers.values().any(|facts| facts.reports == Reports::Nothing);
        if !self.fleet.is_stopping() || self.listening != Listening::Closed || is_blind() {
            return;
        }
        let open = self.router.open() + (self.held.len() + self.turn.abandoned) as u64;
        if self.reported != Some(open) {
            self.reported = Some(open);
            self.fleet.handle(now, fleet::Input::Open(open));
        }
    }

    pub(super) fn exited(&mut self, worker: Worker, exit: Exit) {
        if let Some(facts) = self.workers.get_mut(&worker) {
            facts.exit = Some(exit);
            self.actions.push_back(Action::Recover(worker));
        }
    }

    /// What a worker that has ended did not pick up is here: nobody is sent there any more.
    pub(super) fn recovered(&mut self, now: Time, worker: Worker) {
        self.router.exited(now, worker);
        if let Some(exit) = self.workers.remove(&worker).and_then(|facts| facts.exit) {
            self.fleet.handle(now, fleet::Input::Exited(worker, exit));
        }
    }

    /// Does what the fleet wants.
    pub(super) fn carry_out(&mut self, now: Time, action: fleet::Action) {
        let action = match action {
            fleet::Action::Spawn(worker) => Action::Spawn(worker, self.router.incarnate(worker)),
            fleet::Action::AddBackend(worker) => {
                let placed = self.fleet.is_ready(worker);
                if placed {
                    self.router.ready(now, worker);
                }
                Action::Ready { worker, placed }
            }
            fleet::Action::DrainBackend(worker) => {
                self.router.drain(now, worker);
                Action::Notify(worker, Note::Withdraw)
            }
            fleet::Action::RemoveBackend(worker) => return self.router.remove(now, worker),
            fleet::Action::Drain(worker) => return self.drains.push(worker),
            fleet::Action::RequestExit { worker, at_once } => {
                Action::Notify(worker, Note::Close { at_once })
            }
            fleet::Action::Ping(worker) => Action::Notify(worker, Note::Ping),
            fleet::Action::Abort(worker) => Action::Abort(worker),
            fleet::Action::Terminate(worker) => Action::Terminate(worker),
            fleet::Action::Kill(worker) => Action::Kill(worker),
            fleet::Action::Resized(slots) => {
                self.resize_room(slots);
                self.router.resize(now, slots);
                Action::Resized(slots)
            }
            fleet::Action::CloseListeners => {
                self.listening = Listening::Closing;
                Action::CloseListeners
            }
            fleet::Action::Report(event) => Action::Report(Report::Fleet(event)),
            fleet::Action::Finish(outcome) => Action::Finish(outcome),
        };
        self.actions.push_back(action);
    }

    /// There are so many slots, which take their part of the room.
    pub(super) fn resize_room(&mut self, slots: u16) {
        self.config.crew = Footprint { slots, ..self.config.crew };
        self.room.resize(self.config.crew);
        self.router.set_queues(self.room.queue_limits());
    }
}
