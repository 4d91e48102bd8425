//! What the fleet is held to, action by action.

use super::*;

impl Walk {
    /// The workers that get new keys.
    pub(super) fn servers(&self) -> Vec<Worker> {
        let serving = self.processes.iter().filter(|(_, process)| process.serves());
        serving.map(|(worker, _)| *worker).collect()
    }

    /// Nobody loses the slot by what is said of another one, and none of it has two owners.
    pub(super) fn check(&self, input: Input, before: &[Worker]) {
        let servers = self.servers();
        let seed = self.seed;
        assert!(
            servers.is_sorted_by(|one, other| one.slot < other.slot),
            "seed {seed}: {input:?}: {servers:?}"
        );
        let failed = match input {
            Input::SpawnFailed(worker) | Input::Exited(worker, _) => worker,
            _ => return,
        };
        if let Some(process) = self.processes.get(&failed) {
            assert!(
                process.alive || !process.born || process.retired,
                "seed {seed}: {failed:?} was not retired"
            );
        }
        // Slots that a restart has added go again when it fails.
        let stays = |worker: &&Worker| worker.slot < self.fleet.size();
        let others = before.iter().filter(|worker| **worker != failed).filter(stays);
        for other in others {
            assert!(
                self.stop.is_some() || servers.contains(other),
                "seed {seed}: {other:?} paid for {input:?}"
            );
        }
    }

    /// Does what the fleet wants, and holds it to its promises.
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.fleet.poll_action() {
            // Slots go only when the restart has come to its end.
            assert!(self.fleet.size() == self.fleet.target_size() || self.fleet.is_rolling());
            let ends_itself = self.config.exits_when_drained;
            let about = format!("seed {}: {action:?}", self.seed);
            assert_eq!(self.outcome, None, "{about}");
            match action {
                Action::Spawn(worker) => self.spawn(worker, &about),
                Action::AddBackend(worker) => {
                    let process = self.alive(worker, &about);
                    assert!(!process.placed && !process.terminated, "{about} {process:?}");
                    process.placed = true;
                    self.ever_ready = true;
                    assert!(self.fleet.is_ready(worker) && self.stop.is_none(), "{about}");
                }
                Action::RemoveBackend(worker) => self.retire(worker, &about),
                Action::Drain(worker) => {
                    let process = self.alive(worker, &about);
                    assert!(
                        process.placed && !process.drained && !process.retired,
                        "{about} {process:?}"
                    );
                    assert!(!process.withdrawn || ends_itself, "{about} {process:?}");
                    process.drained = true;
                }
                Action::RequestExit { worker, at_once } => {
                    let late = self.stop.is_some();
                    let process = self.alive(worker, &about);
                    assert!(
                        ends_itself && process.retired && !process.closed,
                        "{about} {process:?}"
                    );
                    assert!(!process.terminated && !process.killed, "{about} {process:?}");
                    assert!(process.withdrawn || late && at_once, "{about} {process:?}");
                    process.closed = true;
                }
                Action::Terminate(worker) => {
                    let process = self.alive(worker, &about);
                    assert!(
                        process.retired && !process.terminated && !process.killed,
                        "{about} {process:?}"
                    );
                    process.terminated = true;
                }
                Action::Kill(worker) => {
                    let process = self.alive(worker, &about);
                    assert!(process.retired && !process.killed, "{about} {process:?}");
                    process.killed = true;
                }
                Action::DrainBackend(worker) => self.withdraw(worker, &about),
                Action::Ping(worker) => {
                    let stops = self.stop.is_some();
                    let process = self.alive(worker, &about);
                    assert!(process.placed && !process.retired && !stops, "{about} {process:?}");
                    process.owes = true;
                }
                Action::Abort(worker) => {
                    assert!(!self.is_late && self.stop.is_none(), "{about}");
                    let process = self.alive(worker, &about);
                    assert!(
                        process.retired && !process.terminated && !process.killed,
                        "{about} {process:?}"
                    );
                    assert!(process.placed && process.owes, "{about} {process:?}");
                    process.terminated = true;
                }
                Action::Resized(size) => {
                    assert!(self.stop.is_none() && size > 0, "{about}");
                    assert!(size.abs_diff(self.size) == 1, "{about}");
                    assert!(size > self.size || !self.to_shrink, "{about}");
                    let gone = self.processes.iter_mut().filter(|(worker, _)| worker.slot >= size);
                    gone.for_each(|(_, process)| process.given_up |= !process.answered);
                    self.size = size;
                }
                Action::CloseListeners => _ = self.stop.get_or_insert((self.now, GIVING_UP)),
                Action::Report(Event::GaveUp { .. }) => assert!(!self.ever_ready, "{about}"),
                Action::Report(event) => self.note(&event),
                Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let seen = &mut self.seen;
        match event {
            Event::Replacing(Replacing::Restarted { .. }) => {
                seen.restarted += 1;
                seen.shrunk += u32::from(self.to_shrink);
                self.before = None;
                self.to_shrink = false;
            }
            Event::Replacing(Replacing::RestartFailed { .. }) => {
                seen.restart_failed += 1;
                // As the engine does it.
                self.config.workers = self.before.take().unwrap_or(self.config.workers);
                self.to_shrink = false;
                self.fleet.reconfigure(self.now, self.config.clone());
            }
            Event::Replacing(Replacing::RecyclingFailed { .. }) => seen.worn_failed += 1,
            Event::Replacing(Replacing::ExitedDraining { .. }) => seen.drain_ended += 1,
            Event::Hung { .. } => seen.hung += 1,
            _ => {}
        }
    }

    /// A new worker: of a generation not seen before, beside one other at most that may become
    /// ready or is, and only for a slot that there is.
    fn spawn(&mut self, worker: Worker, about: &str) {
        assert!(self.stop.is_none() && worker.slot < self.size, "{about}");
        let starts = |process: &Fake| {
            !process.retired && (process.alive || !process.answered && !process.given_up)
        };
        let alone = !self.processes.values().any(starts);
        assert!(self.ever_ready || alone, "{about}: nobody has been ready");
        let others = self.processes.iter().filter(|(other, _)| other.slot == worker.slot);
        for (other, process) in others {
            assert!(other.generation < worker.generation, "{about}: after {other:?}");
            let is_other = process.alive && !process.retired && !process.withdrawn;
            assert!(!is_other || process.placed, "{about}: beside {other:?}");
        }
        self.processes.insert(worker, Fake::default());
    }

    /// No new keys any more: said once, and of so many as may drain.
    fn withdraw(&mut self, worker: Worker, about: &str) {
        let removes = worker.slot >= self.fleet.size();
        let most = usize::from(self.config.max_draining.max(1));
        let process = self.alive(worker, about);
        assert!(process.placed && !process.withdrawn && !process.retired, "{about} {process:?}");
        process.withdrawn = true;
        process.removed = removes;
        self.seen.removed += u32::from(removes);
        let drains = |process: &&Fake| {
            process.withdrawn && process.alive && !process.killed && !process.removed
        };
        let draining = self.processes.values().filter(drains).count();
        assert!(draining <= most, "{about}: {draining} drain");
        assert!(self.stop.is_none(), "{about}");
    }

    /// No connections any more: said once, dead or alive.
    fn retire(&mut self, worker: Worker, about: &str) {
        let process = self.processes.get_mut(&worker).expect("it was spawned");
        assert!(process.answered && !process.retired, "{about} {process:?}");
        process.retired = true;
        assert!(!self.fleet.is_ready(worker), "{about}");
    }

    /// The life of a worker whose process must exist for this action to make sense.
    fn alive(&mut self, worker: Worker, about: &str) -> &mut Fake {
        let process = self.processes.get_mut(&worker).expect("it was spawned");
        assert!(process.alive, "{about} {process:?}");
        process
    }
}
