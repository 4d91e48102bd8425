//! The fleet as a whole, one story at a time, in virtual time.

mod replacing;
mod scale;
mod starts;
mod states;
mod stops;
mod watchdog;

use super::*;

/// A fleet and the hands that carry out what it wants.
struct World {
    fleet: Fleet,
    now: Time,
    /// What was reported since the last look.
    events: Vec<Event>,
}

impl World {
    fn new(workers: u16, grace: u64) -> Self {
        Self::with(FleetConfig { workers, grace: Duration::from_millis(grace), ..config() })
    }

    fn with(config: FleetConfig) -> Self {
        let now = Time::since_zero(Duration::from_secs(1_000));
        Self { fleet: Fleet::new(now, config), now, events: Vec::new() }
    }

    /// A fleet in which every worker is ready.
    fn ready(workers: u16, grace: u64) -> Self {
        Self::new(workers, grace).get_ready()
    }

    /// The same, of another configuration.
    fn ready_with(config: FleetConfig) -> Self {
        Self::with(config).get_ready()
    }

    fn get_ready(mut self) -> Self {
        for slot in 0..self.fleet.size() {
            self.fleet.handle(self.now, Input::Spawned(worker(slot, 0)));
            self.fleet.handle(self.now, Input::Ready(worker(slot, 0)));
        }
        self.actions();
        self
    }

    /// What it wants now; reports go to `events`.
    fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.fleet.poll_action() {
            match action {
                Action::Report(event) => self.events.push(event),
                action => actions.push(action),
            }
        }
        actions
    }

    /// Hands in one input and returns what it leads to.
    fn handle(&mut self, input: Input) -> Vec<Action> {
        self.fleet.handle(self.now, input);
        self.actions()
    }

    /// Lets so many milliseconds go by, stopping at each timeout.
    fn pass(&mut self, millis: u64) -> Vec<Action> {
        let end = self.now + Duration::from_millis(millis);
        let mut actions = Vec::new();
        while let Some(at) = self.fleet.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.fleet.handle_timeout(self.now);
            actions.extend(self.actions());
        }
        self.now = end;
        actions
    }

    /// A start of `worker` that becomes ready. Returns what this leads to.
    fn boot(&mut self, worker: Worker) -> Vec<Action> {
        assert_eq!(self.handle(Input::Spawned(worker)), []);
        self.handle(Input::Ready(worker))
    }

    /// The last line of the log.
    fn line(&self) -> String {
        self.events.last().expect("something was reported").to_string()
    }

    /// A start of `worker` that ends at once. Returns what this leads to.
    fn fail(&mut self, worker: Worker) -> Vec<Action> {
        self.handle(Input::Spawned(worker));
        self.handle(Input::Exited(worker, Exit::Code(1)))
    }
}

fn config() -> FleetConfig {
    FleetConfig { seed: 11, ..FleetConfig::default() }
}

fn worker(slot: u16, generation: u32) -> Worker {
    Worker { slot, generation }
}

const CODE_0: Exit = Exit::Code(0);
const KILLED: Exit = Exit::Signal(9);
