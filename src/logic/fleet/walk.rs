//! A seeded random walk: a world of workers that boot slowly, crash, hang and survive KILL, and an
//! engine that tells the fleet nonsense now and then. The invariants are checked at every action.

use std::collections::BTreeMap;

use super::*;

/// Walks at each run. Every one prints its seed when it fails.
const WALKS: u64 = 3_000;
/// Steps before a stop is asked for, if not earlier.
const STEPS: u32 = 300;
/// Steps that are more than enough for a stop.
const STOP_STEPS: u32 = 20_000;
/// What a fleet may take beyond the deadline, when KILL does not help.
const BEYOND: Duration = Duration::from_secs(2);
/// What it may take from giving up to KILL.
const GIVING_UP: Duration = Duration::from_secs(1);

/// What became of one worker that was asked for.
#[derive(Debug, Default)]
struct Life {
    /// The process exists.
    alive: bool,
    /// There was an answer to its `Spawn`.
    answered: bool,
    placed: bool,
    retired: bool,
    drained: bool,
    terminated: bool,
    killed: bool,
    /// Not even KILL ends it.
    stuck: bool,
}

struct Walk {
    seed: u64,
    rng: Rng,
    fleet: Fleet,
    now: Time,
    workers: u16,
    lives: BTreeMap<Worker, Life>,
    /// When the first stop was asked for or the fleet gave up, and the time it then has.
    stop: Option<(Time, Duration)>,
    grace: Duration,
    outcome: Option<Outcome>,
    ever_ready: bool,
}

#[test]
fn no_walk_breaks_an_invariant() {
    let (mut stopped, mut never_ready) = (0, 0);
    for seed in 0..WALKS {
        match Walk::new(seed).run() {
            Outcome::Stopped => stopped += 1,
            Outcome::NeverReady => never_ready += 1,
        }
    }
    // A walk that only ever sees one end proves little.
    assert!(stopped > WALKS / 10 && never_ready > WALKS / 100, "{stopped}, {never_ready}");
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let workers = 1 + u16::try_from(rng.below(4)).expect("below 4");
        let grace = Duration::from_millis([0, 3, 1_500, 25_000][rng.below(4) as usize]);
        let boot_timeout = Duration::from_millis([0, 900, 60_000][rng.below(3) as usize]);
        let now = Time::since_zero(Duration::from_secs(rng.below(1_000).into()));
        let fleet = Fleet::new(
            now,
            FleetConfig { workers, boot_timeout, grace, seed, ..FleetConfig::default() },
        );
        Self {
            seed,
            rng,
            fleet,
            now,
            workers,
            lives: BTreeMap::new(),
            stop: None,
            grace,
            outcome: None,
            ever_ready: false,
        }
    }

    fn run(mut self) -> Outcome {
        self.carry_out();
        for _ in 0..self.rng.below(STEPS) {
            self.step();
        }
        if self.outcome.is_none() {
            self.handle(Input::Stop);
        }
        for _ in 0..STOP_STEPS {
            if let Some(outcome) = self.outcome {
                self.after_the_end();
                return outcome;
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
        match self.rng.below(12) {
            0..=4 => self.pass(),
            5..=9 => self.live(),
            10 => self.talk_nonsense(),
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

    /// Time goes by, at most to the next timeout, as the engine would wait.
    fn pass(&mut self) {
        let millis = [10, 300, 4_000, 70_000][self.rng.below(4) as usize];
        let then = self.now + Duration::from_millis(u64::from(self.rng.below(millis)));
        let timeout = self.fleet.poll_timeout();
        self.now = timeout.map_or(then, |at| then.min(at.max(self.now)));
        self.fleet.handle_timeout(self.now);
        self.carry_out();
    }

    /// One of the present workers does something that a process can do.
    fn live(&mut self) {
        let present: Vec<_> = self
            .lives
            .iter()
            .filter(|(_, life)| life.alive || !life.answered)
            .map(|(worker, _)| *worker)
            .collect();
        if present.is_empty() {
            return;
        }
        let worker = present[self.rng.below(u32::try_from(present.len()).expect("few")) as usize];
        let chance = self.rng.below(10);
        let life = self.lives.get_mut(&worker).expect("it was just found");
        let input = if !life.answered {
            life.answered = true;
            life.alive = chance > 1;
            life.stuck = chance == 2;
            if life.alive { Input::Spawned(worker) } else { Input::SpawnFailed(worker) }
        } else if chance < 4 && !life.terminated {
            Input::Ready(worker)
        } else if chance == 4 {
            Input::Leaving(worker)
        } else if chance < 6 || life.stuck {
            return;
        } else {
            life.alive = false;
            Input::Exited(worker, Exit::Code(0))
        };
        self.handle(input);
    }

    /// Things that are not so, said of workers that are not there or not in that state.
    fn talk_nonsense(&mut self) {
        let slot = u16::try_from(self.rng.below(u32::from(self.workers) + 1)).expect("few");
        let worker = Worker { slot, generation: self.rng.below(6) };
        let life = self.lives.get(&worker);
        let dead = life.is_none_or(|life| life.answered && !life.alive);
        let answered = life.is_none_or(|life| life.answered);
        let input = match self.rng.below(5) {
            0 if answered => Input::Spawned(worker),
            1 if answered => Input::SpawnFailed(worker),
            2 if dead => Input::Exited(worker, Exit::Signal(9)),
            3 if dead && self.rng.below(2) == 0 => Input::Leaving(worker),
            3 if dead => Input::Ready(worker),
            _ => {
                self.fleet.handle_timeout(Time::default());
                return self.carry_out();
            }
        };
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        if input == Input::Stop && self.stop.is_none() {
            self.stop = Some((self.now, self.grace));
        }
        self.fleet.handle(self.now, input);
        self.carry_out();
    }

    /// Does what the fleet wants, and holds it to its promises.
    fn carry_out(&mut self) {
        while let Some(action) = self.fleet.poll_action() {
            let about = format!("seed {}: {action:?}", self.seed);
            assert_eq!(self.outcome, None, "{about}");
            match action {
                Action::Spawn(worker) => self.spawn(worker, &about),
                Action::Place(worker) => {
                    let life = self.alive(worker, &about);
                    assert!(!life.placed && !life.terminated, "{about} {life:?}");
                    life.placed = true;
                    self.ever_ready = true;
                    assert!(self.fleet.is_ready(worker) && self.stop.is_none(), "{about}");
                }
                Action::Retire(worker) => self.retire(worker, &about),
                Action::Drain(worker) => {
                    let life = self.alive(worker, &about);
                    assert!(life.placed && !life.drained && !life.retired, "{about} {life:?}");
                    life.drained = true;
                }
                Action::Terminate(worker) => {
                    let life = self.alive(worker, &about);
                    assert!(life.retired && !life.terminated && !life.killed, "{about} {life:?}");
                    life.terminated = true;
                }
                Action::Kill(worker) => {
                    let life = self.alive(worker, &about);
                    assert!(life.retired && !life.killed, "{about} {life:?}");
                    life.killed = true;
                }
                Action::Withdraw(_) | Action::Ping(_) | Action::Abort(_) | Action::Resized(_) => {
                    panic!("{about}");
                }
                Action::CloseListeners => _ = self.stop.get_or_insert((self.now, GIVING_UP)),
                Action::Report(Event::GaveUp { .. }) => assert!(!self.ever_ready, "{about}"),
                Action::Report(_) => {}
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    /// A new worker: never beside another one of its slot, and of a generation not seen before.
    fn spawn(&mut self, worker: Worker, about: &str) {
        assert!(self.stop.is_none(), "{about}: after a stop");
        for (other, life) in self.lives.iter().filter(|(other, _)| other.slot == worker.slot) {
            assert!(life.answered && !life.alive, "{about}: beside {other:?}");
            assert!(other.generation < worker.generation, "{about}: after {other:?}");
            assert!(life.retired || !life.placed, "{about}: {other:?} was not retired");
        }
        self.lives.insert(worker, Life::default());
    }

    /// No connections any more: said once, dead or alive.
    fn retire(&mut self, worker: Worker, about: &str) {
        let life = self.lives.get_mut(&worker).expect("it was spawned");
        assert!(life.answered && !life.retired, "{about} {life:?}");
        life.retired = true;
        assert!(!self.fleet.is_ready(worker), "{about}");
    }

    /// The life of a worker whose process must exist for this action to make sense.
    fn alive(&mut self, worker: Worker, about: &str) -> &mut Life {
        let life = self.lives.get_mut(&worker).expect("it was spawned");
        assert!(life.alive, "{about} {life:?}");
        life
    }

    /// All that is left behind has had KILL, and nothing is answered any more.
    fn after_the_end(&mut self) {
        for (worker, life) in self.lives.iter().filter(|(_, life)| life.alive) {
            assert!(life.killed, "seed {}: {worker:?} was left alive: {life:?}", self.seed);
        }
        assert_eq!(self.fleet.poll_timeout(), None);
        let before = format!("{:?}", self.fleet);
        self.fleet.handle_timeout(self.now + Duration::from_secs(1_000));
        let last: Vec<_> = self.lives.keys().copied().collect();
        for worker in last {
            self.handle(Input::Exited(worker, Exit::Code(0)));
        }
        self.handle(Input::Stop);
        self.handle(Input::Open(0));
        assert_eq!(format!("{:?}", self.fleet), before, "seed {}", self.seed);
    }
}
