//! What the engine does in the real world: it asks the router and the fleet, and does what they want.

use std::time::Duration;

use sticky_run::logic::Worker;
use sticky_run::logic::fleet::{Action, Exit, Input};
use sticky_run::logic::route::{Arrival, Assignment, Conn, Health, InFlight, Returned, Verdict};

use super::people::{Back, Connection, FRONT, Place, Process, Said, Sent};
use super::{WINDOW, World};

impl World {
    /// What the engine does with a connection that it holds.
    pub(super) fn route(&mut self, id: u64, returned: Option<Returned>) {
        let Connection { place, door, sid, owner } = self.connections[&id];
        assert_eq!(place, Place::Waiting);
        // Who gives one back does not want its sid, whatever it has announced.
        let unwanted = |owner: &Worker| returned == Some(Returned::Back(*owner));
        if let Some(sid) = sid.filter(|sid| self.owners.get(sid).is_some_and(unwanted)) {
            self.owners.remove(&sid);
        }
        let owner = owner.filter(|owner| !unwanted(owner));
        // Another one that it waits for from now on may serve it.
        let owner = owner.filter(|owner| self.is_serving(*owner, door));
        self.connections.get_mut(&id).unwrap().owner = owner;
        let path = sid.map_or("/".to_owned(), |sid| format!("/?sid=s{sid}"));
        let bytes = format!("GET {path} HTTP/1.1\r\n");
        let bytes = bytes.as_bytes();
        let conn = Conn(id);
        let arrival = Arrival { conn, listener: door, ip: None, bytes, last: false, returned };
        let mut verdict = self.router.route(self.now, &arrival);
        if let Verdict::LookAgain(visitor) = verdict {
            self.hear_all();
            verdict = self.router.route_known(self.now, visitor);
        }
        if let Verdict::Refuse(owner, visitor) = verdict {
            self.look(owner);
            self.send_waiting();
            verdict = self.router.route_known(self.now, visitor);
        }
        match verdict {
            Verdict::Send(give) => self.give(id, give),
            Verdict::Queued => {}
            Verdict::Refuse(owner, _) => {
                assert!(self.processes[&owner].channel.len() >= WINDOW, "refused without need");
                self.set(id, Place::Over);
            }
            Verdict::NeedMore | Verdict::LookAgain(_) => panic!("undecided"),
        }
    }

    /// The router gave a connection away: is that right?
    pub(super) fn give(&mut self, id: u64, give: Assignment) {
        let Connection { place, door, sid, owner } = self.connections[&id];
        assert_eq!(place, Place::Waiting, "connection {id} was given away twice");
        assert!(self.is_serving(give.worker, door), "connection {id} came to a closed door");
        let still = sid.and_then(|sid| self.owners.get(&sid).copied());
        if owner.is_some_and(|owner| self.is_serving(owner, door)) && owner == still {
            assert_eq!(Some(give.worker), owner, "connection {id} with sid {sid:?} went astray");
        }
        if self.rng.below(50) == 0 {
            // The kernel has no room after all.
            self.router.not_sent(give);
            return;
        }
        self.set(id, Place::InFlight(give.worker));
        let process = self.processes.get_mut(&give.worker).expect("given to a live worker");
        assert!(process.ready, "given to a worker that is not ready");
        // One with a sid may have been placed there before.
        let may_stay = sid.is_some() || !process.withdrawn;
        assert!(may_stay, "connection {id} without a sid came to a worker that drains");
        process.channel.push_back(Sent::Connection(id));
        process.unfinished += 1;
        // One more for the ping to a worker that stopped reading.
        assert!(process.channel.len() <= WINDOW + 1, "too many in flight");
    }

    /// Tells the fleet which workers have drained.
    pub(super) fn tell_drained(&mut self) {
        for worker in self.router.draining().collect::<Vec<_>>() {
            if self.router.is_drained(self.now, worker) {
                self.fleet.handle(self.now, Input::Drained(worker));
            }
        }
    }

    /// A worker gets nothing more, and what it has is its own affair.
    pub(super) fn retire(&mut self, worker: Worker) {
        self.hear(worker);
        self.router.remove(self.now, worker);
        self.owners.retain(|_, owner| *owner != worker);
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let hung = process.hung;
        let process =
            std::mem::replace(process, Process { hung, retired: true, ..Process::default() });
        let still = self.processes.get_mut(&worker).expect("it was there");
        (still.unfinished, still.lies) = (process.unfinished, process.lies);
        for id in process.serving {
            self.set(id, Place::Over);
        }
        for sent in process.channel {
            self.comes_back(sent, Returned::Recovered);
        }
    }

    /// A process is gone; what it had not picked up comes back.
    pub(super) fn ends(&mut self, worker: Worker, exit: Exit) {
        self.hear(worker);
        let Some(process) = self.processes.remove(&worker) else { return };
        self.owners.retain(|_, owner| *owner != worker);
        for id in process.serving {
            self.set(id, Place::Over);
        }
        self.router.exited(self.now, worker);
        self.fleet.handle(self.now, Input::Exited(worker, exit));
        for sent in process.channel {
            self.comes_back(sent, Returned::Recovered);
        }
    }

    pub(super) fn comes_back(&mut self, sent: Sent, how: Returned) {
        let Sent::Connection(id) = sent else { return };
        self.set(id, Place::Waiting);
        self.route(id, Some(how));
    }

    pub(super) fn hear_all(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            self.hear(worker);
        }
    }

    pub(super) fn hear(&mut self, worker: Worker) {
        let said = self.processes.get_mut(&worker).map(|process| std::mem::take(&mut process.said));
        for said in said.into_iter().flatten() {
            let key = |sid: u64| format!("s{sid}").into_bytes();
            match said {
                Said::Ready => self.fleet.handle(self.now, Input::Ready(worker)),
                Said::Session(sid) => {
                    let taken = self.router.announce(self.now, worker, &key(sid));
                    assert_eq!(taken, Ok(()), "a new sid was refused");
                }
                Said::End(sid) => self.router.forget(self.now, worker, &key(sid)),
                Said::Closed(count) => _ = self.finishes(worker, count),
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
        assert_eq!(self.router.closed(worker, count), can_be);
        can_be
    }

    fn hear_back(&mut self, worker: Worker, back: Back) {
        let id = match back {
            Back::Nothing => return,
            Back::Own(id) | Back::Gone(id) => id,
            Back::Foreign => {
                let id = self.connections.len() as u64;
                let place = Place::Over;
                self.connections
                    .insert(id, Connection { place, door: FRONT, sid: None, owner: None });
                id
            }
        };
        let is_its_own = self.finishes(worker, 1);
        if is_its_own && !matches!(back, Back::Gone(_)) {
            self.set(id, Place::Waiting);
            self.returned.push((id, Returned::Back(worker)));
        } else {
            self.set(id, Place::Over);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        while let Some(worker) = self.router.poll_stalled(self.now) {
            self.look(worker);
        }
        self.fleet.handle_timeout(self.now);
    }

    pub(super) fn look(&mut self, worker: Worker) {
        let Some(process) = self.processes.get(&worker) else { return };
        if self.router.note_unread(self.now, worker, process.channel.len()) != Health::Stalled {
            return;
        }
        let process = self.processes.get_mut(&worker).unwrap();
        let taken: Vec<_> = std::mem::take(&mut process.channel).into();
        let connections = taken.iter().filter(|sent| **sent != Sent::Ping).count() as u32;
        process.unfinished = process.unfinished.saturating_sub(connections);
        let kinds = self.router.take_back(self.now, worker, taken.len(), 0);
        assert_eq!(kinds.len(), taken.len(), "the window does not know what is in flight");
        self.processes.get_mut(&worker).unwrap().channel.push_back(Sent::Ping);
        self.router.note_sent(self.now, worker);
        for (sent, kind) in taken.into_iter().zip(kinds) {
            assert_eq!(sent == Sent::Ping, kind == InFlight::Note);
            let moved = kind == InFlight::Movable;
            self.comes_back(
                sent,
                if moved { Returned::Moved(worker) } else { Returned::Recovered },
            );
        }
    }

    /// What the engine does after every turn.
    pub(super) fn act(&mut self) {
        loop {
            for (id, how) in std::mem::take(&mut self.returned) {
                self.route(id, Some(how));
            }
            self.send_waiting();
            self.tell_drained();
            if self.stop_by.is_some() {
                let open =
                    self.router.open() + (self.router.queue_len() + self.returned.len()) as u64;
                self.fleet.handle(self.now, Input::Open(open));
            }
            let Some(action) = self.fleet.poll_action() else { return };
            match action {
                Action::Spawn(worker) => self.spawn(worker),
                Action::Place(worker) => {
                    if self.fleet.is_ready(worker) {
                        self.processes.get_mut(&worker).unwrap().ready = true;
                        self.router.ready(self.now, worker);
                        if self.doors {
                            self.router.add_listener(worker, FRONT);
                        }
                    }
                }
                Action::Withdraw(worker) => {
                    self.router.drain(self.now, worker);
                    if let Some(process) = self.processes.get_mut(&worker) {
                        process.withdrawn = true;
                    }
                }
                Action::Resized(slots) => self.router.resize(self.now, slots),
                Action::Retire(worker) => self.retire(worker),
                // The fake worker ends at TERM unless it hangs, and always at KILL.
                Action::Terminate(worker) => {
                    if self.processes.get(&worker).is_some_and(|process| !process.hung) {
                        self.ends(worker, Exit::Code(0));
                    }
                }
                Action::Kill(worker) => self.ends(worker, Exit::Signal(9)),
                // The workers here wait for TERM.
                Action::Close { .. } => unreachable!("nobody ends by itself"),
                Action::Drain(_) | Action::CloseListeners | Action::Report(_) => {}
                Action::Ping(_) | Action::Abort(_) => {}
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    pub(super) fn send_waiting(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            if self.router.is_watched(worker) {
                self.look(worker);
            }
        }
        while let Some((Conn(id), give)) = self.router.next(self.now) {
            self.give(id, give);
        }
    }

    pub(super) fn spawn(&mut self, worker: Worker) {
        assert!(self.stop_by.is_none(), "{worker} was started after the stop");
        let mut others = self.processes.iter().filter(|(live, _)| live.slot == worker.slot);
        let beside = others.all(|(_, live)| live.ready || live.retired);
        assert!(beside, "two workers start in the slot of {worker}");
        self.spawned += 1;
        let hung = self.rng.below(20) == 0;
        self.processes.insert(worker, Process { hung, ..Process::default() });
        self.fleet.handle(self.now, Input::Spawned(worker));
    }
}
