//! What happens in the world by chance: clients come, workers work and fail, the operator wants something.

use sticky_run::logic::core::{Command, Input, Said as Heard};
use sticky_run::logic::fleet::{Exit, Limit};
use sticky_run::logic::route::Conn;

use super::people::{Back, Connection, FRONT, Place, SIDE, Said, Sent};
use super::{WINDOW, World};

impl World {
    pub(super) fn connection_comes(&mut self) {
        let id = self.connections.len() as u64;
        // A sid that somebody has, had, or never will have; or none.
        let sid = (self.rng.below(3) > 0).then(|| {
            let range = u32::try_from(self.sids).unwrap() + 3;
            u64::from(self.rng.below(range))
        });
        let owner = sid.and_then(|sid| self.owners.get(&sid).copied());
        let listener = if self.listeners && self.rng.below(4) == 0 { SIDE } else { FRONT };
        let came = self.rng.below(4) > 0;
        let connection = Connection { listener, sid, owner, came, ..Connection::default() };
        self.connections.insert(id, connection);
        if self.core.is_full(0) {
            return;
        }
        let (conn, arrived) = self.holds(id);
        self.tell(Input::Arrived(conn, arrived));
    }

    /// The rest of somebody's head comes, or its client goes.
    pub(super) fn somebody_goes_on(&mut self) {
        let awaited: Vec<_> = self.core.awaited().collect();
        let nth = self.rng.below(awaited.len().max(1) as u32);
        let goes = self.rng.below(4) == 0;
        if let Some(conn) = awaited.get(nth as usize) {
            self.goes_on(*conn, goes);
        }
    }

    /// The heads of all come.
    pub(super) fn all_go_on(&mut self) {
        for conn in self.core.awaited().collect::<Vec<_>>() {
            self.goes_on(conn, false);
        }
    }

    fn goes_on(&mut self, conn: Conn, goes: bool) {
        let connection = self.connections.get_mut(&self.held[&conn]).expect("it came once");
        (connection.came, connection.gone) = (true, goes);
        // The owner counts that there is when all of its head has come.
        let owner = connection.sid.and_then(|sid| self.owners.get(&sid).copied());
        connection.owner = owner;
        self.tell(Input::Readable { conn, closed: goes });
    }

    /// A worker picks something up, finishes something, announces or ends something.
    pub(super) fn somebody_works(&mut self) {
        let Some(worker) = self.pick() else { return };
        let reads = self.rng.below(4);
        let (announces, ends, closes) =
            (self.rng.below(3) == 0, self.rng.below(9) == 0, self.rng.below(3));
        let process = self.processes.get_mut(&worker).unwrap();
        if process.hung {
            return;
        }
        if !process.ready {
            process.said.push_back(Said::Ready);
            return;
        }
        let mut moved = Vec::new();
        for _ in 0..reads {
            if let Some(Sent::Connection(id)) = process.channel.pop_front() {
                process.serving.push(id);
                moved.push((id, Place::Served(worker)));
            }
        }
        let closes = closes.min(u32::try_from(process.serving.len()).unwrap());
        let closed = process.serving.drain(..closes as usize);
        moved.extend(closed.map(|id| (id, Place::Over)));
        if closes > 0 {
            process.said.push_back(Said::Closed(closes));
        }
        if announces {
            // From here on the client may know its sid, heard or not.
            process.said.push_back(Said::Session(self.sids));
            self.owners.insert(self.sids, worker);
            self.sids += 1;
        }
        let own = self.owners.iter().filter(|(_, owner)| **owner == worker);
        if ends && let Some(sid) = own.map(|(sid, _)| *sid).min() {
            process.said.push_back(Said::End(sid));
            self.owners.remove(&sid);
        }
        for (id, place) in moved {
            self.set(id, place);
        }
    }

    /// A worker gives something back: what it serves, or what it never had.
    pub(super) fn somebody_gives_back(&mut self) {
        let Some(worker) = self.pick() else { return };
        let chance = self.rng.below(8);
        let process = self.processes.get_mut(&worker).unwrap();
        if process.hung || !process.ready {
            return;
        }
        let back = match (chance, process.serving.pop()) {
            (0..3, Some(id)) => Back::Own(id),
            (3..6, Some(id)) => Back::Gone(id),
            (6, served) => {
                process.serving.extend(served);
                process.lies |= self.hostile;
                if self.hostile { Back::Foreign } else { Back::Nothing }
            }
            (_, served) => {
                process.serving.extend(served);
                Back::Nothing
            }
        };
        process.said.push_back(Said::Back(back));
    }

    /// A worker says that it has finished more than it had.
    pub(super) fn somebody_lies(&mut self) {
        let Some(worker) = self.pick().filter(|_| self.hostile) else { return };
        let count = self.rng.below(2 * WINDOW as u32);
        let process = self.processes.get_mut(&worker).unwrap();
        process.lies = true;
        process.said.push_back(Said::Closed(count));
    }

    /// A worker opens its side listener or closes it.
    pub(super) fn somebody_opens_or_closes(&mut self) {
        let Some(worker) = self.pick().filter(|_| self.listeners) else { return };
        let process = self.processes.get_mut(&worker).unwrap();
        if !process.ready {
            return;
        }
        process.side = !process.side;
        if process.side {
            self.tell(Input::Serves(worker, SIDE));
        } else {
            self.tell(Input::Leaves(worker, SIDE));
        }
    }

    /// The operator wants new workers, more or fewer, or one of them is worn.
    pub(super) fn somebody_is_replaced(&mut self) {
        let input = match (self.rng.below(5), self.pick()) {
            (0, _) => Input::Command(Command::Restart(self.config.clone())),
            (1, _) => {
                // Another number of slots is configured.
                self.config.workers = 1 + u16::try_from(self.rng.below(6)).unwrap();
                Input::Command(Command::Restart(self.config.clone()))
            }
            (2, _) => Input::Command(Command::More),
            (3, _) => Input::Command(Command::Fewer),
            (_, Some(worker)) => Input::Recycle(worker, Limit::Memory),
            (_, None) => return,
        };
        self.tell(input);
    }

    /// A worker wants no more connections. Nobody asks it what becomes of those that it has.
    pub(super) fn somebody_leaves(&mut self) {
        if let Some(worker) = self.pick().filter(|worker| self.core.fleet().is_ready(*worker)) {
            self.tell(Input::Said(worker, Heard::Leaving));
        }
    }

    pub(super) fn somebody_dies(&mut self) {
        if let Some(worker) = self.pick() {
            self.ends(worker, Exit::Signal(9));
        }
    }
}
