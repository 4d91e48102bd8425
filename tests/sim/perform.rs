//! What the engine does in the real world: what the core says, and it tells the core what came of it.

use std::time::Duration;

use sticky_run::logic::Worker;
use sticky_run::logic::core::{
    Action, Arrived, How, Input, Look, Message, NotSent, Note, Noted, Report, Reports,
    Said as Heard, Seen, TakenBack,
};
use sticky_run::logic::fleet::Exit;
use sticky_run::logic::route::{Conn, Returned};

use super::people::{Back, Connection, FRONT, Place, Process, Said, Sent};
use super::{Fault, WINDOW, World};

impl World {
    /// A turn of the loop: what is left to do is done.
    pub(super) fn turn(&mut self) {
        for (worker, exit) in std::mem::take(&mut self.ended) {
            self.tell(Input::Exited(worker, exit));
        }
        if std::mem::take(&mut self.closes_listeners) {
            self.tell(Input::ListenersClosed);
        }
        self.core.begin_turn(0);
        self.drive();
        while self.core.advance(self.now) {
            self.drive();
        }
    }

    /// Tells the core what has happened, and does what it says.
    pub(super) fn tell(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
        self.drive();
    }

    fn drive(&mut self) {
        while let Some(action) = self.core.poll_action(self.now) {
            self.perform(action);
            self.notice_retired();
        }
        self.notice_retired();
    }

    fn answer(&mut self, input: Input<'_>) {
        self.core.handle(self.now, input);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Look { conn, look } => self.look(conn, look),
            Action::Send { conn, worker, .. } => self.send(conn, worker),
            Action::Close(conn, _) => self.is_over(conn),
            Action::ReadChannels => {
                if self.fault != Fault::ReadsNothing {
                    self.hear_each();
                }
                self.answer(Input::ChannelsRead);
            }
            Action::LookAtWorker(worker) => {
                let unread = self.processes.get(&worker).map_or(0, |process| process.channel.len());
                self.answer(Input::Unread(worker, unread));
            }
            Action::TakeBack(worker) => self.take_back(worker),
            Action::Recover(worker) => self.recover(worker),
            Action::Notify(worker, note) => self.notify(worker, note),
            Action::Spawn(worker, _) => self.spawn(worker),
            Action::Ready { worker, placed } => self.is_ready(worker, placed),
            // The fake worker ends at TERM unless it hangs, and always at KILL.
            Action::Terminate(worker) => {
                self.is_to_end(worker);
                if self.processes.get(&worker).is_some_and(|process| !process.hung) {
                    self.ends(worker, Exit::Code(0));
                }
            }
            Action::Kill(worker) => {
                self.is_to_end(worker);
                self.ends(worker, Exit::Signal(9));
            }
            Action::CloseListeners => self.closes_listeners = true,
            Action::Report(report) => self.hear_report(&report),
            Action::Finish(outcome) => self.outcome = Some(outcome),
            Action::Await { .. } | Action::Queue(_) | Action::Abort(_) | Action::Resized(_) => {}
            Action::ReadPreface { .. } | Action::Charge(..) | Action::LookAtProgress(_) => {
                unreachable!("there is no proxy here, nothing is read, and nothing goes round")
            }
        }
    }

    /// A connection has a number from now on.
    pub(super) fn holds(&mut self, id: u64) -> (Conn, Arrived) {
        self.set(id, Place::Waiting);
        self.conns += 1;
        let conn = Conn(self.conns);
        self.held.insert(conn, id);
        let listener = Some(self.connections[&id].listener);
        (conn, Arrived { listener, ..Arrived::default() })
    }

    /// Looks at the bytes of a connection that have come.
    fn look(&mut self, conn: Conn, look: Look) {
        let id = self.held[&conn];
        let Connection { listener, sid, owner, came, gone, unwanted, .. } = self.connections[&id];
        if gone {
            self.is_over(conn);
            return self.answer(Input::Gone(conn));
        }
        // Who gives one back does not want its sid, whatever it has announced.
        let is_unwanted = |owner: &Worker| unwanted == Some(*owner);
        if let Some(sid) = sid.filter(|sid| self.owners.get(sid).is_some_and(is_unwanted)) {
            self.owners.remove(&sid);
        }
        let owner = owner.filter(|owner| !is_unwanted(owner));
        // Another one that it waits for from now on may serve it.
        let owner = owner.filter(|owner| self.is_serving(*owner, listener));
        self.connections.get_mut(&id).unwrap().owner = owner;
        let path = sid.map_or("/".to_owned(), |sid| format!("/?sid=s{sid}"));
        let head = format!("GET {path} HTTP/1.1\r\n");
        let bytes = &head.as_bytes()[..if came { head.len() } else { 7 }];
        let (bytes, is_behind) = match look {
            Look::Whole => (bytes, false),
            Look::Behind(seen) => (&bytes[seen..], true),
        };
        self.answer(Input::Seen(conn, Seen { bytes, is_behind, ..Seen::default() }));
    }

    /// The supervisor gives a connection away: is that right?
    fn send(&mut self, conn: Conn, worker: Worker) {
        let id = self.held[&conn];
        let Connection { place, listener, sid, owner, .. } = self.connections[&id];
        assert_eq!(place, Place::Waiting, "connection {id} was given away twice");
        assert!(self.is_serving(worker, listener), "connection {id} came to a closed listener");
        let still = sid.and_then(|sid| self.owners.get(&sid).copied());
        if owner.is_some_and(|owner| self.is_serving(owner, listener)) && owner == still {
            assert_eq!(Some(worker), owner, "connection {id} with sid {sid:?} went astray");
        }
        if self.rng.below(50) == 0 {
            // The kernel has no room after all.
            return self.answer(Input::NotSent(conn, NotSent::NoRoom));
        }
        self.held.remove(&conn);
        self.set(id, Place::InFlight(worker));
        let process = self.processes.get_mut(&worker).expect("given to a live worker");
        assert!(process.ready, "given to a worker that is not ready");
        // One with a sid may have been placed there before.
        let may_stay = sid.is_some() || !process.withdrawn;
        assert!(may_stay, "connection {id} without a sid came to a worker that drains");
        process.channel.push_back(Sent::Connection(id));
        process.unfinished += 1;
        // Some more for the notes, which need no room in the window.
        let connections = process.channel.iter().filter(|sent| **sent != Sent::Note).count();
        assert!(connections <= WINDOW, "too many in flight");
        self.answer(Input::Sent(conn));
    }

    pub(super) fn is_over(&mut self, conn: Conn) {
        if let Some(id) = self.held.remove(&conn) {
            self.set(id, Place::Over);
        }
    }

    fn hear_report(&mut self, report: &Report) {
        match report {
            Report::Refused(owner, _) => {
                assert!(self.processes[owner].channel.len() >= WINDOW, "refused without need");
            }
            Report::Violation(worker, violation) => {
                let lies = self.processes.get(worker).is_none_or(|process| process.lies);
                assert!(lies, "{worker} did nothing wrong: {violation}");
            }
            Report::Shared(..) => panic!("a new sid was refused"),
            Report::Fleet(_) | Report::Stopped(_) | Report::Resumed(_) | Report::Unwanted(..) => {}
            Report::TooLong(..) | Report::PresentedTooLong(_) => panic!("no key is long"),
        }
    }

    /// A worker gets nothing more, and what it has is its own affair.
    fn notice_retired(&mut self) {
        for (worker, process) in &mut self.processes {
            if process.ready && !process.retired && !self.core.router().has(*worker) {
                process.retired = true;
                self.owners.retain(|_, owner| owner != worker);
            }
        }
    }

    fn take_back(&mut self, worker: Worker) {
        let process = self.processes.get_mut(&worker).expect("it is there");
        let taken: Vec<_> = std::mem::take(&mut process.channel).into();
        let connections = taken.iter().filter(|sent| **sent != Sent::Note).count() as u32;
        process.unfinished = process.unfinished.saturating_sub(connections);
        let message = |sent: Sent| match sent {
            Sent::Connection(id) => {
                let (conn, arrived) = self.holds(id);
                Message::Connection(conn, arrived)
            }
            Sent::Note => Message::Other,
        };
        let messages = taken.into_iter().map(message).collect();
        self.answer(Input::TakenBack(worker, TakenBack { messages, left: 0, is_sure: true }));
    }

    /// A process is gone; what it had not picked up comes back.
    fn recover(&mut self, worker: Worker) {
        self.hear(worker);
        let process = self.processes.remove(&worker).expect("it was there");
        self.owners.retain(|_, owner| *owner != worker);
        for id in process.serving {
            self.set(id, Place::Over);
        }
        for sent in process.channel {
            let Sent::Connection(id) = sent else { continue };
            let (conn, arrived) = self.holds(id);
            if self.fault == Fault::DropsReturned {
                self.held.remove(&conn);
            } else {
                self.answer(Input::Returned(
                    conn,
                    arrived,
                    How::NotServed(Returned::Recovered, None),
                ));
            }
        }
        self.answer(Input::Recovered(worker));
    }

    fn notify(&mut self, worker: Worker, note: Note) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return self.answer(Input::Noted(worker, note, Noted::NotHeard));
        };
        process.withdrawn |= note == Note::Withdraw;
        process.channel.push_back(Sent::Note);
        self.answer(Input::Noted(worker, note, Noted::InFlight));
    }

    fn spawn(&mut self, worker: Worker) {
        assert!(self.stop_by.is_none(), "{worker} was started after the stop");
        let mut others = self.processes.iter().filter(|(live, _)| live.slot == worker.slot);
        let beside = others.all(|(_, live)| live.ready || live.retired);
        assert!(beside, "two workers start in the slot of {worker}");
        if self.ever_ready && self.rng.below(30) == 0 {
            return self.answer(Input::SpawnFailed(worker));
        }
        self.spawned += 1;
        let hung = self.rng.below(20) == 0;
        self.processes.insert(worker, Process { hung, ..Process::default() });
        self.answer(Input::Spawned(worker, Reports::Ends));
    }

    fn is_ready(&mut self, worker: Worker, placed: bool) {
        if !placed {
            return;
        }
        self.ever_ready = true;
        self.processes.get_mut(&worker).expect("it is there").ready = true;
        if self.listeners {
            self.answer(Input::Serves(worker, FRONT));
        }
    }

    /// Another process may start in its slot from now on.
    fn is_to_end(&mut self, worker: Worker) {
        if let Some(process) = self.processes.get_mut(&worker) {
            process.retired |= !process.ready;
        }
    }

    /// A process ends; the supervisor hears of it in the next turn.
    pub(super) fn ends(&mut self, worker: Worker, exit: Exit) {
        if let Some(process) = self.processes.get_mut(&worker)
            && !std::mem::replace(&mut process.ended, true)
        {
            self.ended.push((worker, exit));
        }
    }

    /// Channels are read, and the supervisor does what comes of it.
    pub(super) fn hear_all(&mut self) {
        self.hear_each();
        self.drive();
    }

    fn hear_each(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            self.hear(worker);
        }
    }

    fn hear(&mut self, worker: Worker) {
        let said = self.processes.get_mut(&worker).map(|process| std::mem::take(&mut process.said));
        for said in said.into_iter().flatten() {
            let key = |sid: u64| format!("s{sid}").into_bytes();
            match said {
                Said::Ready => self.answer(Input::Said(worker, Heard::Ready)),
                Said::Session(sid) => {
                    self.answer(Input::Said(worker, Heard::Announces(&key(sid))));
                }
                Said::End(sid) => self.answer(Input::Said(worker, Heard::Ends(&key(sid)))),
                Said::Closed(count) => {
                    self.finishes(worker, count);
                    self.answer(Input::Said(worker, Heard::Closed(count)));
                }
                Said::Back(back) => self.hear_back(worker, back),
            }
        }
    }

    /// A worker says that so many of its connections are finished; returns whether it can be true.
    fn finishes(&mut self, worker: Worker, count: u32) -> bool {
        let Some(process) = self.processes.get_mut(&worker) else { return false };
        let can_be = count <= process.unfinished;
        assert!(can_be || process.lies, "connections were miscounted");
        process.unfinished = process.unfinished.saturating_sub(count);
        can_be
    }

    fn hear_back(&mut self, worker: Worker, back: Back) {
        let id = match back {
            Back::Nothing => return,
            Back::Own(id) | Back::Gone(id) => id,
            Back::Foreign => {
                let id = self.connections.len() as u64;
                self.connections
                    .insert(id, Connection { listener: FRONT, ..Connection::default() });
                id
            }
        };
        if matches!(back, Back::Gone(_)) {
            self.finishes(worker, 1);
            self.set(id, Place::Over);
            return self.answer(Input::Said(worker, Heard::Closed(1)));
        }
        self.connections.get_mut(&id).unwrap().unwanted = Some(worker);
        let (conn, arrived) = self.holds(id);
        self.finishes(worker, 1);
        let how = How::Back { worker, next: false, ends: true, identity: id };
        self.answer(Input::Returned(conn, arrived, how));
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.core.handle_timeout(self.now);
        self.drive();
    }
}
