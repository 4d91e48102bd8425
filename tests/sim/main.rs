//! The fleet and the router in a simulated world: fake workers that boot, crash, hang, fill up and
//! read again, thousands of seeded steps, no process and no clock. The seed of a failure is printed;
//! `STICKY_SIM_SEED=N cargo test --test sim` runs that one again.

#![expect(clippy::disallowed_methods, reason = "the seed comes from the environment")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

mod people;

use people::{Connection, FRONT, Place, Process, SIDE, Said, Sent};
use sticky_run::logic::Worker;
use sticky_run::logic::fleet::{Action, Exit, Fleet, FleetConfig, Input, Outcome, Wear};
use sticky_run::logic::rng::Rng;
use sticky_run::logic::room::Queues;
use sticky_run::logic::route::{
    Arrival, Balance, Conn, Door, Give, InFlight, Look, Pulse, Returned, RouteConfig, Router,
    Verdict,
};
use sticky_run::logic::time::Time;

/// Worlds in an everyday run, and with `STICKY_TEST_FULL` set.
const WORLDS: (u64, u64) = (100, 1_000);
const STEPS: u32 = 1_500;
const SLOTS: u16 = 4;
const WINDOW: usize = 5;
const QUEUES: Queues = Queues { for_still: 20, for_reading: 40 };
const STALL: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);
const BOOT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct World {
    rng: Rng,
    /// Workers serve some doors only.
    doors: bool,
    now: Time,
    fleet: Fleet,
    router: Router,
    processes: BTreeMap<Worker, Process>,
    connections: HashMap<u64, Connection>,
    /// The owner of every sid that was announced and has not ended.
    owners: HashMap<u64, Worker>,
    sids: u64,
    spawned: u32,
    stop_by: Option<Time>,
    outcome: Option<Outcome>,
}

#[test]
fn nothing_is_lost_or_misrouted_and_every_stop_ends() {
    let seeds = match std::env::var("STICKY_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("STICKY_SIM_SEED is a number")],
        Err(_) if std::env::var_os("STICKY_TEST_FULL").is_some() => (0..WORLDS.1).collect(),
        Err(_) => (0..WORLDS.0).collect::<Vec<_>>(),
    };
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| World::new(seed).live());
        assert!(ran.is_ok(), "seed {seed}: run it again with STICKY_SIM_SEED={seed}");
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Time::since_zero(Duration::from_secs(1_000));
        let balances =
            [Balance::LeastConnection, Balance::RoundRobin, Balance::Random, Balance::Hash];
        let route = RouteConfig {
            keys: "sid".parse().unwrap(),
            balance: balances[(seed % 4) as usize],
            hash_seed: seed,
            workers: SLOTS,
            max_sessions: 100_000,
            session_idle: Duration::from_secs(100_000),
            max_keys: 50,
            key_idle: Duration::from_secs(5),
            most_open: None,
            in_flight: WINDOW,
            stall_timeout: STALL,
            every_door: seed % 8 < 4,
            mint: None,
        };
        let fleet = FleetConfig {
            workers: SLOTS,
            boot_timeout: BOOT_TIMEOUT,
            grace: GRACE,
            seed,
            ..FleetConfig::default()
        };
        Self {
            rng: Rng::new(seed),
            doors: seed % 8 >= 4,
            now,
            fleet: Fleet::new(now, fleet),
            router: Router::new(now, route, QUEUES, (seed, 1), seed),
            processes: BTreeMap::new(),
            connections: HashMap::new(),
            owners: HashMap::new(),
            sids: 0,
            spawned: 0,
            stop_by: None,
            outcome: None,
        }
    }

    fn live(mut self) {
        self.act();
        for _ in 0..STEPS {
            self.step();
            self.act();
            self.check();
        }
        self.everybody_is_well();
        self.stop();
    }

    /// Something happens.
    fn step(&mut self) {
        match self.rng.below(100) {
            0..35 => self.connection_comes(),
            35..75 => self.somebody_works(),
            75..85 => self.hear_all(),
            85..95 => {
                let millis = u64::from(self.rng.below(400));
                self.pass(Duration::from_millis(millis));
            }
            95..97 => self.somebody(|process, _| process.hung = !process.hung),
            97 => self.somebody_dies(),
            98 if self.rng.below(3) == 0 => self.somebody_is_replaced(),
            98 if self.rng.below(2) == 0 => self.somebody_leaves(),
            98 => self.somebody_opens_or_closes(),
            _ => self.pass(Duration::from_secs(5)),
        }
    }

    fn connection_comes(&mut self) {
        let id = self.connections.len() as u64;
        // A sid that somebody has, had, or never will have; or none.
        let sid = (self.rng.below(3) > 0).then(|| {
            let range = u32::try_from(self.sids).unwrap() + 3;
            u64::from(self.rng.below(range))
        });
        let owner = sid.and_then(|sid| self.owners.get(&sid).copied());
        let door = if self.doors && self.rng.below(4) == 0 { SIDE } else { FRONT };
        self.connections.insert(id, Connection { place: Place::Waiting, door, sid, owner });
        self.route(id, None);
    }

    /// What the engine does with a connection that it holds.
    fn route(&mut self, id: u64, returned: Option<Returned>) {
        let Connection { place, door, sid, owner } = self.connections[&id];
        assert_eq!(place, Place::Waiting);
        // Another one that it waits for from now on may serve it.
        let owner = owner.filter(|owner| self.is_serving(*owner, door));
        self.connections.get_mut(&id).unwrap().owner = owner;
        let path = sid.map_or("/".to_owned(), |sid| format!("/?sid=s{sid}"));
        let bytes = format!("GET {path} HTTP/1.1\r\n");
        let bytes = bytes.as_bytes();
        let conn = Conn(id);
        let arrival = Arrival { conn, door, ip: None, bytes, last: false, returned };
        let mut verdict = self.router.route(self.now, &arrival, Look::First);
        if verdict == Verdict::LookAgain {
            self.hear_all();
            verdict = self.router.route(self.now, &arrival, Look::Second);
        }
        if let Verdict::Refuse(owner) = verdict {
            self.look(owner);
            self.send_waiting();
            verdict = self.router.route(self.now, &arrival, Look::Second);
        }
        match verdict {
            Verdict::Give(give) => self.give(id, give),
            Verdict::Wait => {}
            Verdict::Refuse(owner) => {
                assert!(self.processes[&owner].channel.len() >= WINDOW, "refused without need");
                self.set(id, Place::Over);
            }
            Verdict::More | Verdict::LookAgain => panic!("undecided"),
        }
    }

    /// The router gave a connection away: is that right?
    fn give(&mut self, id: u64, give: Give) {
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
        // One more for the ping to a worker that stopped reading.
        assert!(process.channel.len() <= WINDOW + 1, "too many in flight");
    }

    /// A worker picks something up, finishes something, announces or ends something.
    fn somebody_works(&mut self) {
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

    /// Whether connections of a door may go to this worker.
    fn is_serving(&self, worker: Worker, door: Door) -> bool {
        let serves = |process: &Process| !process.retired && (door == FRONT || process.side);
        self.processes.get(&worker).is_some_and(serves)
    }

    /// A worker opens its side door or closes it.
    fn somebody_opens_or_closes(&mut self) {
        let Some(worker) = self.pick().filter(|_| self.doors) else { return };
        let process = self.processes.get_mut(&worker).unwrap();
        if !process.ready {
            return;
        }
        process.side = !process.side;
        if process.side {
            self.router.serves(worker, SIDE);
        } else {
            self.router.leaves(worker, SIDE);
        }
    }

    /// The operator wants new workers, more or fewer, or one of them is worn.
    fn somebody_is_replaced(&mut self) {
        let input = match (self.rng.below(5), self.pick()) {
            (0 | 1, _) => Input::Restart,
            (2, _) => Input::More,
            (3, _) => Input::Fewer,
            (_, Some(worker)) => Input::Recycle(worker, Wear::Memory),
            (_, None) => return,
        };
        self.fleet.handle(self.now, input);
    }

    /// Tells the fleet which workers have drained.
    fn tell_drained(&mut self) {
        for worker in self.router.draining().collect::<Vec<_>>() {
            if self.router.is_drained(self.now, worker) {
                self.fleet.handle(self.now, Input::Drained(worker));
            }
        }
    }

    /// A worker gets nothing more, and what it has is its own affair.
    fn retire(&mut self, worker: Worker) {
        self.hear(worker);
        self.router.gone(self.now, worker);
        self.owners.retain(|_, owner| *owner != worker);
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let hung = process.hung;
        let process =
            std::mem::replace(process, Process { hung, retired: true, ..Process::default() });
        for id in process.serving {
            self.set(id, Place::Over);
        }
        for sent in process.channel {
            self.comes_back(sent, Returned::Recovered);
        }
    }

    /// A worker wants no more connections. What it had not picked up comes back, and nobody asks it
    /// what became of the rest.
    fn somebody_leaves(&mut self) {
        let Some(worker) = self.pick().filter(|worker| self.fleet.is_ready(*worker)) else {
            return;
        };
        self.hear(worker);
        self.owners.retain(|_, owner| *owner != worker);
        self.fleet.handle(self.now, Input::Leaving(worker));
    }

    fn somebody_dies(&mut self) {
        if let Some(worker) = self.pick() {
            self.ends(worker, Exit::Signal(9));
        }
    }

    /// A process is gone; what it had not picked up comes back.
    fn ends(&mut self, worker: Worker, exit: Exit) {
        self.hear(worker);
        let Some(process) = self.processes.remove(&worker) else { return };
        self.owners.retain(|_, owner| *owner != worker);
        for id in process.serving {
            self.set(id, Place::Over);
        }
        self.router.gone(self.now, worker);
        self.fleet.handle(self.now, Input::Exited(worker, exit));
        for sent in process.channel {
            self.comes_back(sent, Returned::Recovered);
        }
    }

    fn comes_back(&mut self, sent: Sent, how: Returned) {
        let Sent::Connection(id) = sent else { return };
        self.set(id, Place::Waiting);
        self.route(id, Some(how));
    }

    fn hear_all(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            self.hear(worker);
        }
    }

    fn hear(&mut self, worker: Worker) {
        let said = self.processes.get_mut(&worker).map(|process| std::mem::take(&mut process.said));
        for said in said.into_iter().flatten() {
            let key = |sid: u64| format!("s{sid}").into_bytes();
            match said {
                Said::Ready => self.fleet.handle(self.now, Input::Ready(worker)),
                Said::Session(sid) => {
                    let taken = self.router.session(self.now, worker, &key(sid));
                    assert_eq!(taken, Ok(()), "a new sid was refused");
                }
                Said::End(sid) => self.router.end(self.now, worker, &key(sid)),
                Said::Closed(count) => {
                    assert!(self.router.closed(worker, count), "connections were miscounted");
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        while let Some(worker) = self.router.due(self.now) {
            self.look(worker);
        }
        self.fleet.handle_timeout(self.now);
    }

    fn look(&mut self, worker: Worker) {
        let Some(process) = self.processes.get(&worker) else { return };
        if self.router.looked(self.now, worker, process.channel.len()) != Pulse::Stopped {
            return;
        }
        let process = self.processes.get_mut(&worker).unwrap();
        let taken: Vec<_> = std::mem::take(&mut process.channel).into();
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
    fn act(&mut self) {
        loop {
            self.send_waiting();
            self.tell_drained();
            if self.stop_by.is_some() {
                let open = self.router.open() + self.router.waiting() as u64;
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
                            self.router.serves(worker, FRONT);
                        }
                    }
                }
                Action::Withdraw(worker) => {
                    self.router.withdraw(self.now, worker);
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
                Action::Drain(_) | Action::CloseListeners | Action::Report(_) => {}
                Action::Ping(_) | Action::Abort(_) => {}
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn send_waiting(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            if self.router.is_wanted(worker) {
                self.look(worker);
            }
        }
        while let Some((Conn(id), give)) = self.router.next(self.now) {
            self.give(id, give);
        }
    }

    fn spawn(&mut self, worker: Worker) {
        assert!(self.stop_by.is_none(), "{worker} was started after the stop");
        let mut others = self.processes.iter().filter(|(live, _)| live.slot == worker.slot);
        let beside = others.all(|(_, live)| live.ready || live.retired);
        assert!(beside, "two workers start in the slot of {worker}");
        self.spawned += 1;
        let hung = self.rng.below(20) == 0;
        self.processes.insert(worker, Process { hung, ..Process::default() });
        self.fleet.handle(self.now, Input::Spawned(worker));
    }

    /// The counts of the router are those of the world.
    fn check(&self) {
        let places = self.connections.values().map(|connection| connection.place);
        let waiting = places.clone().filter(|place| *place == Place::Waiting).count();
        assert_eq!(self.router.waiting(), waiting, "a waiting connection was forgotten");
        let given = places.filter(|place| matches!(place, Place::InFlight(_) | Place::Served(_)));
        let unheard = self.processes.values().flat_map(|process| &process.said);
        let closed = unheard.map(|said| if let Said::Closed(count) = said { *count } else { 0 });
        assert_eq!(self.router.open(), given.count() as u64 + u64::from(closed.sum::<u32>()));
    }

    /// Once everybody reads and boots, nobody waits any more.
    fn everybody_is_well(&mut self) {
        for _ in 0..STEPS {
            for (worker, process) in &mut self.processes {
                process.hung = false;
                if !process.ready {
                    process.said.push_back(Said::Ready);
                } else if self.doors && !process.side {
                    process.side = true;
                    self.router.serves(*worker, SIDE);
                }
                process.channel.retain(|sent| matches!(sent, Sent::Connection(_)));
            }
            for (worker, id) in self.in_flight() {
                let process = self.processes.get_mut(&worker).unwrap();
                process.channel.pop_front();
                process.serving.push(id);
                self.set(id, Place::Served(worker));
            }
            self.hear_all();
            self.pass(STALL);
            self.act();
            self.check();
            if self.router.waiting() == 0 && self.in_flight().is_empty() {
                return;
            }
        }
        let workers = &self.processes;
        panic!("somebody waits although all are well: {workers:?}");
    }

    fn stop(mut self) {
        self.fleet.handle(self.now, Input::Stop);
        self.stop_by = Some(self.now + GRACE);
        // Some hang from here on, and only a KILL ends them.
        self.somebody(|process, _| process.hung = true);
        while self.outcome.is_none() {
            self.act();
            let next = self.fleet.poll_timeout().unwrap_or(self.now);
            assert!(Some(next) <= self.stop_by, "the stop does not end by its deadline");
            let now = self.now;
            self.pass((next - now).max(Duration::from_millis(1)));
            self.act();
        }
        assert_eq!(self.outcome, Some(Outcome::Stopped));
        assert!(self.processes.is_empty(), "workers are left: {:?}", self.processes);
        assert!(self.spawned >= u32::from(SLOTS));
    }

    fn in_flight(&self) -> Vec<(Worker, u64)> {
        let all = self.processes.iter().flat_map(|(worker, process)| {
            process.channel.iter().filter_map(|sent| match sent {
                Sent::Connection(id) => Some((*worker, *id)),
                Sent::Ping => None,
            })
        });
        all.collect()
    }

    fn pick(&mut self) -> Option<Worker> {
        let count = u32::try_from(self.processes.len()).unwrap();
        let nth = self.rng.below(count.max(1));
        self.processes.keys().nth(nth as usize).copied()
    }

    fn somebody(&mut self, what: impl Fn(&mut Process, Worker)) {
        if let Some(worker) = self.pick() {
            what(self.processes.get_mut(&worker).unwrap(), worker);
        }
    }

    fn set(&mut self, id: u64, place: Place) {
        self.connections.get_mut(&id).expect("it came once").place = place;
    }
}
