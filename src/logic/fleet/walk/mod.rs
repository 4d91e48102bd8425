//! A seeded random walk: a world of workers that boot slowly, crash, hang and survive KILL, and an
//! engine that tells the fleet nonsense now and then. The invariants are checked at every action.

mod fake;
mod promises;

use std::collections::BTreeMap;

use self::fake::Fake;
use super::*;

/// Walks at each run. Every one prints its seed when it fails.
const WALKS: u64 = 1_500;
/// Steps before a stop is asked for, if not earlier.
const STEPS: u32 = 300;
/// Steps that are more than enough for a stop.
const STOP_STEPS: u32 = 20_000;
/// What a fleet may take beyond the deadline, when KILL does not help.
const BEYOND: Duration = Duration::from_secs(2);
/// What it may take from giving up to KILL.
const GIVING_UP: Duration = Duration::from_secs(1);

struct Walk {
    seed: u64,
    rng: Rng,
    fleet: Fleet,
    now: Time,
    config: FleetConfig,
    size: u16,
    processes: BTreeMap<Worker, Fake>,
    /// When the first stop was asked for or the fleet gave up, and the time it then has.
    stop: Option<(Time, Duration)>,
    outcome: Option<Outcome>,
    ever_ready: bool,
    /// What the configuration goes back to if the restart fails: so many slots.
    before: Option<u16>,
    /// The restart is to come to its end before a slot is taken away.
    to_shrink: bool,
    /// Time goes by without anybody looking.
    is_late: bool,
    /// What was seen.
    seen: Seen,
}

/// How often things have happened that must not be missed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    restarted: u32,
    restart_failed: u32,
    shrunk: u32,
    worn_failed: u32,
    hung: u32,
    drain_ended: u32,
    removed: u32,
    late: u32,
}

#[test]
fn no_walk_breaks_an_invariant() {
    let (mut stopped, mut never_ready, mut all) = (0, 0, Vec::new());
    for seed in 0..WALKS {
        let (outcome, seen) = Walk::new(seed).run();
        match outcome {
            Outcome::Stopped => stopped += 1,
            Outcome::NeverReady => never_ready += 1,
        }
        all.push(seen);
    }
    // Walks that never see something prove nothing of it.
    assert!(stopped > WALKS / 10 && never_ready > WALKS / 100, "{stopped}, {never_ready}");
    let counts: [fn(&Seen) -> u32; 8] = [
        |seen| seen.restarted,
        |seen| seen.shrunk,
        |seen| seen.restart_failed,
        |seen| seen.worn_failed,
        |seen| seen.hung,
        |seen| seen.drain_ended,
        |seen| seen.removed,
        |seen| seen.late,
    ];
    let counts = counts.map(|count| all.iter().map(count).sum::<u32>());
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

/// Times and numbers that meet each other in many ways. Some times are 0, some are missing.
fn random_config(rng: &mut Rng, seed: u64) -> FleetConfig {
    let mut pick = |of: [u16; 4]| of[rng.below(4) as usize];
    let time = |millis: u16| Duration::from_millis(millis.into());
    let some_time = |millis| Some(time(millis)).filter(|time| !time.is_zero());
    FleetConfig {
        workers: pick([1, 2, 3, 4]),
        grace: time(pick([0, 3, 1_500, 25_000])),
        boot_timeout: time(pick([0, 900, 60_000, 60_000])),
        drain_timeout: Some(time(pick([0, 700, 30_000, 0]))).filter(|_| !seed.is_multiple_of(5)),
        restart_parallel: pick([0, 1, 2, 3]),
        max_draining: pick([0, 1, 2, 100]),
        watchdog: some_time(pick([0, 0, 2_000, 20_000])),
        exits_when_drained: pick([0, 0, 1, 1]) == 1,
        lifetime: some_time(pick([0, 0, 0, 60_000])),
        seed,
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = random_config(&mut rng, seed);
        let now = Time::since_zero(Duration::from_secs(rng.below(1_000).into()));
        Self {
            seed,
            fleet: Fleet::new(now, config.clone()),
            rng,
            now,
            size: config.workers,
            config,
            processes: BTreeMap::new(),
            stop: None,
            outcome: None,
            ever_ready: false,
            before: None,
            to_shrink: false,
            is_late: false,
            seen: Seen::default(),
        }
    }

    fn run(mut self) -> (Outcome, Seen) {
        self.carry_out();
        for _ in 0..self.rng.below(STEPS) {
            self.step();
        }
        if self.stop.is_none() && self.seed.is_multiple_of(2) {
            self.be_lucky();
        }
        if self.outcome.is_none() {
            self.handle(Input::Stop);
        }
        for _ in 0..STOP_STEPS {
            if let Some(outcome) = self.outcome {
                self.after_the_end();
                return (outcome, self.seen);
            }
            self.step();
        }
        panic!("seed {}: never finished: {:?}", self.seed, self.fleet);
    }

    /// Something happens: time goes by, a worker does something, or the engine says something odd.
    fn step(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        match self.rng.below(14) {
            0..=4 => self.pass(),
            5..=9 => self.live(),
            10 => self.talk_nonsense(),
            11 => self.ask(),
            12 if self.rng.below(10) == 0 => self.write_down(),
            _ => {
                let open = u64::from(self.rng.below(3));
                self.handle(Input::Open(open));
            }
        }
        if self.stop.is_some() && self.rng.below(40) == 0 {
            self.handle(Input::Stop);
        }
        if let Some((since, time)) = self.stop {
            let beyond = since + time + BEYOND;
            assert!(self.outcome.is_some() || self.now <= beyond, "seed {}: late", self.seed);
        }
    }

    /// Time goes by, at most to the next timeout, as the engine would wait, unless it is late.
    fn pass(&mut self) {
        let millis = [10, 300, 4_000, 70_000][self.rng.below(4) as usize];
        let then = self.now + Duration::from_millis(u64::from(self.rng.below(millis)));
        let timeout = self.fleet.poll_timeout();
        assert_eq!(timeout, self.fleet.compute_timeout(), "seed {}", self.seed);
        let late = self.stop.is_none() && self.rng.below(20) == 0;
        let watchdog = self.config.watchdog.unwrap_or_default();
        self.seen.late += u32::from(late);
        self.is_late = late && timeout.is_some_and(|at| then - at > watchdog / 8);
        self.now = timeout.filter(|_| !late).map_or(then, |at| then.min(at.max(self.now)));
        self.fleet.handle_timeout(self.now);
        self.carry_out();
        self.is_late = false;
    }

    /// The operator or the engine wants something.
    fn ask(&mut self) {
        let all: Vec<_> = self.processes.keys().copied().collect();
        let any = all.get(self.rng.below(1 + u32::try_from(all.len()).expect("few")) as usize);
        let input = match (self.rng.below(8), any) {
            (0, _) => Input::Restart,
            (1, _) => return self.restart_with_others(),
            (2, _) => Input::More,
            (3, _) => Input::Fewer,
            (4, Some(worker)) => Input::Drained(*worker),
            (5, Some(worker)) => Input::Recycle(*worker, Limit::Memory),
            (_, Some(worker)) => Input::Pong(*worker),
            (_, None) => return,
        };
        self.handle(input);
    }

    /// Another number of slots is configured.
    fn restart_with_others(&mut self) {
        let workers = 1 + u16::try_from(self.rng.below(4)).expect("few");
        let before = self.config.workers;
        self.config.workers = workers;
        self.fleet.restart_with(self.now, self.config.clone());
        if self.fleet.is_rolling() {
            self.before.get_or_insert(before);
            self.to_shrink = self.fleet.target_size() < self.fleet.size();
        }
        self.carry_out();
    }

    /// Another supervisor takes over.
    fn write_down(&mut self) {
        let text = serde_json::to_string(&self.fleet).expect("a fleet can be written down");
        let read: Fleet = serde_json::from_str(&text).expect("and read");
        assert_eq!(format!("{read:?}"), format!("{:?}", self.fleet), "seed {}", self.seed);
        self.fleet = read;
    }

    /// From now on all goes well: a restart comes to its end, and every slot has its worker.
    fn be_lucky(&mut self) {
        let rounds = self.seen.restarted;
        self.handle(Input::Restart);
        for _ in 0..STOP_STEPS {
            let worker = self.processes.iter().find(|(_, process)| process.has_something_to_do());
            let Some((worker, process)) = worker.map(|(worker, process)| (*worker, process)) else {
                if self.is_complete() && self.seen.restarted > rounds || self.outcome.is_some() {
                    return;
                }
                self.now = self.fleet.poll_timeout().expect("there is something to wait for");
                self.fleet.handle_timeout(self.now);
                self.carry_out();
                continue;
            };
            let input = process.what_to_do(worker);
            let process = self.processes.get_mut(&worker).expect("it was just found");
            process.do_it(input);
            self.handle(input);
        }
        panic!("seed {}: never at rest: {:?}", self.seed, self.fleet);
    }

    /// Whether every slot has one worker and no other is left.
    fn is_complete(&self) -> bool {
        let alive: Vec<_> = self.processes.iter().filter(|(_, process)| process.alive).collect();
        let slots: Vec<_> = alive.iter().map(|(worker, _)| worker.slot).collect();
        let serve = alive.iter().all(|(_, process)| process.serves());
        serve && slots == (0..self.size).collect::<Vec<_>>() && !self.fleet.is_rolling()
    }

    /// One of the present workers does something that a process can do.
    fn live(&mut self) {
        let current: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| process.alive || !process.answered)
            .map(|(worker, _)| *worker)
            .collect();
        if current.is_empty() {
            return;
        }
        let worker = current[self.rng.below(u32::try_from(current.len()).expect("few")) as usize];
        // In one world of two workers are hardier.
        let hardy = self.seed % 4 < 2 && self.rng.below(5) > 0;
        let chance = self.rng.below(if hardy { 4 } else { 10 });
        let process = self.processes.get_mut(&worker).expect("it was just found");
        let input = if !process.answered {
            process.answered = true;
            process.alive = chance > 1;
            process.stuck = chance == 2;
            process.born = process.alive;
            if process.alive { Input::Spawned(worker) } else { Input::SpawnFailed(worker) }
        } else if process.owes && chance < 2 {
            process.owes = false;
            Input::Pong(worker)
        } else if chance < 4 && !process.terminated {
            Input::Ready(worker)
        } else if chance == 4 && process.closed {
            Input::HandlesTerm(worker)
        } else if chance == 4 {
            Input::Leaving(worker)
        } else if chance < 6 || process.stuck {
            return;
        } else {
            process.alive = false;
            Input::Exited(worker, Exit::Code(0))
        };
        self.handle(input);
    }

    /// Things that are not so, said of workers that are not there or not in that state.
    fn talk_nonsense(&mut self) {
        let slot = u16::try_from(self.rng.below(u32::from(self.size) + 1)).expect("few");
        let worker = Worker { slot, generation: self.rng.below(6) };
        let process = self.processes.get(&worker);
        let dead = process.is_none_or(|process| process.answered && !process.alive);
        let answered = process.is_none_or(|process| process.answered);
        let input = match self.rng.below(6) {
            0 if answered => Input::Spawned(worker),
            1 if answered => Input::SpawnFailed(worker),
            2 if dead => Input::Exited(worker, Exit::Signal(9)),
            3 if dead && self.rng.below(2) == 0 => Input::Leaving(worker),
            3 if dead => Input::Ready(worker),
            4 if process.is_none_or(|process| !process.closed) => Input::HandlesTerm(worker),
            _ => {
                self.fleet.handle_timeout(Time::default());
                return self.carry_out();
            }
        };
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        if input == Input::Stop && self.stop.is_none() {
            self.stop = Some((self.now, self.config.grace));
        }
        let servers = self.servers();
        self.fleet.handle(self.now, input);
        self.carry_out();
        self.to_shrink &= self.fleet.target_size() < self.fleet.size();
        self.check(input, &servers);
    }

    /// All that is left behind has had KILL, and nothing is answered any more.
    fn after_the_end(&mut self) {
        for (worker, process) in self.processes.iter().filter(|(_, process)| process.alive) {
            assert!(process.killed, "seed {}: {worker:?} was left alive: {process:?}", self.seed);
        }
        assert_eq!(self.fleet.poll_timeout(), None);
        let before = format!("{:?}", self.fleet);
        self.fleet.handle_timeout(self.now + Duration::from_secs(1_000));
        let last: Vec<_> = self.processes.keys().copied().collect();
        for worker in last {
            self.handle(Input::Exited(worker, Exit::Code(0)));
        }
        self.handle(Input::Stop);
        self.handle(Input::Open(0));
        assert_eq!(format!("{:?}", self.fleet), before, "seed {}", self.seed);
    }
}
