//! The core in a simulated world: fake workers that boot, crash, hang, fill up and read again, clients that
//! come in pieces, thousands of seeded steps, no process and no clock. What decides here is what decides in
//! the supervisor, and `perform` does what the engine does: what it is told, in no order of its own.
//!
//! The seed of a failure is printed; `STICKY_SIM_SEED=N cargo test --test sim` runs that one again.

#![expect(clippy::disallowed_methods, reason = "the seed comes from the environment")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

mod chance;
mod people;
mod perform;

use people::{Connection, FRONT, Place, Process, SIDE, Said, Sent};
use sticky_run::logic::Worker;
use sticky_run::logic::capacity::{Capacity, Footprint};
use sticky_run::logic::core::{Command, Core, CoreConfig, Input};
use sticky_run::logic::fleet::{Exit, Fleet, FleetConfig, Outcome};
use sticky_run::logic::rng::Rng;
use sticky_run::logic::route::{Balance, Conn, ListenerId, RouteConfig, Router};
use sticky_run::logic::time::Time;

/// Worlds in an everyday run, and with `STICKY_TEST_FULL=1`.
const WORLDS: (u64, u64) = (100, 1_000);
const STEPS: u32 = 1_500;
const SLOTS: u16 = 4;
const WINDOW: usize = 5;
/// So many descriptors leave room for 80 connections, and for 20 in the queue of one worker.
const DESCRIPTORS: usize = 32 + 2 * 2 * SLOTS as usize + 80;
const STALL: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(10);
const BOOT_TIMEOUT: Duration = Duration::from_secs(5);
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);

/// What the engine of a world does wrong, to see that it is found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    /// It does nothing wrong.
    Nothing,
    /// It says that all channels were read, and has read none.
    ReadsNothing,
    /// It says that a connection was sent before it was.
    DropsReturned,
}

#[derive(Debug)]
struct World {
    rng: Rng,
    fault: Fault,
    /// Workers serve some listeners only.
    listeners: bool,
    /// Workers lie.
    hostile: bool,
    now: Time,
    /// What the fleet was configured with last.
    config: FleetConfig,
    core: Core,
    processes: BTreeMap<Worker, Process>,
    /// Every connection that ever came, in the order of their coming.
    connections: HashMap<u64, Connection>,
    /// Those that the supervisor holds, by the numbers that it knows them by.
    held: BTreeMap<Conn, u64>,
    conns: u64,
    /// The owner of every sid that was announced and has not ended.
    owners: HashMap<u64, Worker>,
    sids: u64,
    /// Processes that have ended, of which the supervisor has not heard yet.
    ended: Vec<(Worker, Exit)>,
    closes_listeners: bool,
    ever_ready: bool,
    spawned: u32,
    stop_by: Option<Time>,
    outcome: Option<Outcome>,
}

#[test]
fn nothing_is_lost_or_misrouted_and_every_stop_ends() {
    let seeds = match std::env::var("STICKY_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("STICKY_SIM_SEED is a number")],
        Err(_) if std::env::var_os("STICKY_TEST_FULL").is_some_and(|asked| asked == "1") => {
            (0..WORLDS.1).collect()
        }
        Err(_) => (0..WORLDS.0).collect::<Vec<_>>(),
    };
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| World::new(seed, Fault::Nothing).live());
        assert!(ran.is_ok(), "seed {seed}: run it again with STICKY_SIM_SEED={seed}");
    }
}

/// What the simulation finds wrong with this fault, in the first world that does.
fn found_out(fault: Fault) -> String {
    let said = |seed| {
        let ran = std::panic::catch_unwind(|| World::new(seed, fault).live());
        ran.err()?.downcast_ref::<String>().cloned()
    };
    (0..20).find_map(said).unwrap_or_default()
}

#[test]
fn a_connection_that_is_placed_before_all_was_heard_is_found_out() {
    let said = found_out(Fault::ReadsNothing);
    assert!(said.contains("went astray"), "{said}");
}

#[test]
fn a_connection_that_came_back_and_is_dropped_is_found_out() {
    let said = found_out(Fault::DropsReturned);
    assert!(said.contains("was forgotten"), "{said}");
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
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
            max_open: None,
            in_flight: WINDOW,
            leeway: 1,
            stall_timeout: STALL,
            all_listeners: seed % 8 < 4,
            mint: None,
        };
        let fleet = FleetConfig {
            workers: SLOTS,
            boot_timeout: BOOT_TIMEOUT,
            grace: GRACE,
            seed,
            ..FleetConfig::default()
        };
        let crew = Footprint { slots: SLOTS, draining: SLOTS, pipes: false };
        let config = CoreConfig {
            head_timeout: HEAD_TIMEOUT,
            most_connections: None,
            connections_of_one: seed.is_multiple_of(5).then_some(60),
            seed,
            watches: false,
            crew,
        };
        let room = Capacity::new(DESCRIPTORS, crew);
        let router = Router::new(now, route, room.queue_limits(), (seed, 1), seed);
        let mut core = Core::new(config, Fleet::new(now, fleet.clone()), router, room);
        for listener in [FRONT, SIDE] {
            core.handle(now, Input::Leads(listener, None));
        }
        Self {
            rng: Rng::new(seed),
            fault,
            listeners: seed % 8 >= 4,
            hostile: seed.is_multiple_of(3),
            now,
            core,
            config: fleet,
            processes: BTreeMap::new(),
            connections: HashMap::new(),
            held: BTreeMap::new(),
            conns: 0,
            owners: HashMap::new(),
            sids: 0,
            ended: Vec::new(),
            closes_listeners: false,
            ever_ready: false,
            spawned: 0,
            stop_by: None,
            outcome: None,
        }
    }

    fn live(mut self) {
        self.turn();
        for _ in 0..STEPS {
            self.step();
            self.turn();
            self.check();
        }
        self.everybody_is_well();
        self.stop();
    }

    /// Something happens.
    fn step(&mut self) {
        match self.rng.below(100) {
            0..35 => self.connection_comes(),
            35..68 => self.somebody_works(),
            68..70 => self.somebody_goes_on(),
            70..73 => self.somebody_gives_back(),
            73..75 => self.somebody_lies(),
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

    /// Whether connections of a listener may go to this worker.
    fn is_serving(&self, worker: Worker, listener: ListenerId) -> bool {
        let serves = |process: &Process| !process.retired && (listener == FRONT || process.side);
        self.processes.get(&worker).is_some_and(serves)
    }

    /// The counts of the supervisor are those of the world.
    fn check(&self) {
        let places = self.connections.values().map(|connection| connection.place);
        let waiting = places.clone().filter(|place| *place == Place::Waiting).count();
        assert_eq!(self.core.held(), waiting, "a waiting connection was forgotten");
        assert_eq!(self.held.len(), waiting, "a connection has two numbers");
        // Whatever a worker says is about its own connections, and about no more than it was given.
        let listed = self.processes.values().filter(|process| !process.retired);
        let unfinished = listed.map(|process| u64::from(process.unfinished));
        let open = self.core.router().open();
        assert_eq!(open, unfinished.sum::<u64>(), "connections were miscounted");
        let honest = |process: &Process| !process.lies && !process.retired;
        for (worker, process) in self.processes.iter().filter(|(_, process)| honest(process)) {
            let given = |place: &Place| match place {
                Place::InFlight(with) | Place::Served(with) => with == worker,
                Place::Waiting | Place::Over => false,
            };
            let given = places.clone().filter(given).count() as u32;
            let unheard = process.said.iter().map(|said| match said {
                Said::Closed(count) => *count,
                Said::Ready | Said::Session(_) | Said::End(_) | Said::Back(_) => 0,
            });
            assert_eq!(process.unfinished, given + unheard.sum::<u32>(), "{worker}");
        }
    }

    /// Once everybody reads and boots, nobody waits any more.
    fn everybody_is_well(&mut self) {
        for _ in 0..STEPS {
            for worker in self.processes.keys().copied().collect::<Vec<_>>() {
                let process = self.processes.get_mut(&worker).unwrap();
                process.hung = false;
                if !process.ready {
                    process.said.push_back(Said::Ready);
                } else if self.listeners && !process.side {
                    process.side = true;
                    self.tell(Input::Serves(worker, SIDE));
                }
                let process = self.processes.get_mut(&worker).unwrap();
                process.channel.retain(|sent| matches!(sent, Sent::Connection(_)));
            }
            for (worker, id) in self.in_flight() {
                let process = self.processes.get_mut(&worker).unwrap();
                process.channel.pop_front();
                process.serving.push(id);
                self.set(id, Place::Served(worker));
            }
            self.all_go_on();
            self.hear_all();
            self.pass(STALL);
            self.turn();
            self.check();
            if self.held.is_empty() && self.in_flight().is_empty() {
                return;
            }
        }
        let workers = &self.processes;
        panic!("somebody waits although all are well: {workers:?} {:?}", self.core);
    }

    fn stop(mut self) {
        self.tell(Input::Command(Command::Stop));
        self.stop_by = Some(self.now + GRACE);
        // Some hang from here on, and only a KILL ends them.
        self.somebody(|process, _| process.hung = true);
        while self.outcome.is_none() {
            self.turn();
            let next = self.core.fleet().poll_timeout().unwrap_or(self.now);
            assert!(Some(next) <= self.stop_by, "the stop does not end by its deadline");
            let now = self.now;
            self.pass((next - now).max(Duration::from_millis(1)));
            self.turn();
        }
        assert_eq!(self.outcome, Some(Outcome::Stopped));
        assert!(self.processes.is_empty(), "workers are left: {:?}", self.processes);
        assert!(self.spawned >= u32::from(SLOTS));
    }

    fn in_flight(&self) -> Vec<(Worker, u64)> {
        let all = self.processes.iter().flat_map(|(worker, process)| {
            process.channel.iter().filter_map(|sent| match sent {
                Sent::Connection(id) => Some((*worker, *id)),
                Sent::Note => None,
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
