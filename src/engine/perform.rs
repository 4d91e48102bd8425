//! What the core wants done: one branch for each action. Where one has an answer, the core is told it here.

use tracing::debug;

use super::Engine;
use super::intake::Awaited;
use super::links::{self, Channels, TakenBack, Unread};
use crate::logic::Worker;
use crate::logic::core::{self, Action, Closing, Input, Look, Message, NotSent, Note};
use crate::logic::route::{Conn, Reason};

impl Engine {
    /// Does one thing. Fails only if the command could never be started.
    pub(super) fn perform(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::ReadPreface { conn, last } => self.read_preface(conn, last),
            Action::Look { conn, look } => self.look(conn, look),
            Action::Await { conn, seen } => self.wait_for_more(conn, seen),
            Action::Queue(conn) => self.intake.wait_no_more(self.poll.registry(), conn),
            Action::Charge(conn, owner) => self.charge(conn, owner),
            Action::LookAtProgress(conn) => self.look_at_progress(conn),
            Action::Send { conn, worker, reason } => self.send(conn, worker, reason),
            Action::Close(conn, why) => self.close(conn, why),
            Action::ReadChannels => {
                self.read_channels(Channels::All);
                self.core.handle(self.now, Input::ChannelsRead);
            }
            Action::LookAtWorker(worker) => {
                let unread = self.links.unread(worker);
                self.core.handle(self.now, Input::Unread(worker, unread));
            }
            Action::TakeBack(worker) => self.take_back(worker),
            Action::Recover(worker) => self.recover(worker),
            Action::Notify(worker, note) => self.notify(worker, note),
            Action::Spawn(worker, incarnation) => self.spawn(worker, incarnation)?,
            Action::Ready { worker, placed } => self.is_ready(worker, placed),
            Action::Abort(worker) => self.workers.abort(worker),
            Action::Terminate(worker) => self.workers.terminate(worker),
            Action::Kill(worker) => self.workers.kill(worker),
            Action::Resized(slots) => self.workers.slots = slots,
            Action::CloseListeners => self.listeners.close_soon(self.now),
            Action::Report(report) => self.report(&report),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    fn read_preface(&mut self, conn: Conn, last: bool) {
        match self.intake.read_preface(self.now, conn, last) {
            Some(preface) => self.core.handle(self.now, Input::Preface(conn, preface)),
            None => self.is_gone(conn),
        }
    }

    fn look(&mut self, conn: Conn, look: Look) {
        match self.intake.look(conn, look) {
            Some(seen) => self.core.handle(self.now, Input::Seen(conn, seen)),
            None => self.is_gone(conn),
        }
    }

    fn wait_for_more(&mut self, conn: Conn, seen: usize) {
        match self.intake.wait(self.poll.registry(), conn, seen) {
            Awaited::Later => {}
            Awaited::NoRoom => self.core.handle(self.now, Input::NoRoomForMore(conn)),
            Awaited::Gone => self.core.handle(self.now, Input::Gone(conn)),
        }
    }

    fn charge(&mut self, conn: Conn, owner: Worker) {
        let connection = self.intake.get_mut(conn);
        if connection.is_some_and(|connection| !self.links.may_wait(connection, owner)) {
            self.core.handle(self.now, Input::TooMuch(conn));
        }
    }

    fn look_at_progress(&mut self, conn: Conn) {
        match self.intake.progress(conn) {
            Some(progress) => self.core.handle(self.now, Input::Progress(conn, progress)),
            None => self.is_gone(conn),
        }
    }

    fn send(&mut self, conn: Conn, worker: Worker, reason: Reason) {
        let Some(connection) = self.intake.take(self.poll.registry(), conn) else {
            return self.core.handle(self.now, Input::Gone(conn));
        };
        let client = connection.client;
        let sent = match self.links.send(self.now, connection, worker, reason) {
            Ok(()) => {
                debug!(
                    name: "connection_assigned", worker = worker.slot,
                    client = client.map(tracing::field::display), %reason,
                    "connection {} assigned to {worker}: {reason}",
                    super::connection::of(client)
                );
                Input::Sent(conn)
            }
            Err((connection, why)) => {
                if let links::NotSent::Unusable(error) = &why {
                    let what = format!("it shut its channel down: {error}");
                    self.workers.end_for(worker, &what);
                }
                self.intake.put_back(conn, connection);
                let why = match why {
                    links::NotSent::NotServed => NotSent::NotServed,
                    links::NotSent::NoRoom | links::NotSent::Unusable(_) => NotSent::NoRoom,
                };
                Input::NotSent(conn, why)
            }
        };
        self.core.handle(self.now, sent);
    }

    fn close(&mut self, conn: Conn, why: Closing) {
        if why == Closing::NoPreface {
            self.intake.preface_is_late(self.now, conn);
        }
        self.intake.take(self.poll.registry(), conn);
    }

    /// There is nobody to serve.
    fn is_gone(&mut self, conn: Conn) {
        self.intake.take(self.poll.registry(), conn);
        self.core.handle(self.now, Input::Gone(conn));
    }

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    fn take_back(&mut self, worker: Worker) {
        let Some(taken) = self.links.take_back(self.now, worker) else { return };
        let TakenBack { messages, left, is_sure } = taken;
        let message = |unread| match unread {
            Unread::Connection(connection) => {
                let (conn, arrived) = self.intake.hold(connection, false);
                Message::Connection(conn, arrived)
            }
            Unread::Drain => Message::Drain,
            Unread::Nothing => Message::Other,
        };
        let messages = messages.into_iter().map(message).collect();
        let taken = core::TakenBack { messages, left, is_sure };
        self.core.handle(self.now, Input::TakenBack(worker, taken));
    }

    /// What a worker that has ended did not pick up comes back.
    fn recover(&mut self, worker: Worker) {
        self.links.recover(self.now, worker);
        self.listeners.worker_gone(self.now, worker);
        self.handle_all();
        self.output.ended(self.now, worker);
        self.core.handle(self.now, Input::Recovered(worker));
    }

    fn notify(&mut self, worker: Worker, note: Note) {
        if note == Note::Withdraw {
            self.listeners.withdrawn(worker);
        }
        let noted = self.links.notify(self.now, worker, note);
        self.core.handle(self.now, Input::Noted(worker, note, noted));
    }
}
