//! What the fleet is held to, action by action.

use super::*;

impl Walk {
    /// The workers that get new keys.
    pub(super) fn servers(&self) -> Vec<Worker> {
        let serving = self.lives.iter().filter(|(_, life)| life.serves());
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
        if let Some(life) = self.lives.get(&failed) {
            assert!(
                life.alive || !life.born || life.retired,
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
            assert!(self.fleet.size() == self.fleet.size_to_be() || self.fleet.is_rolling());
            let ends_itself = self.config.ends_itself;
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
                    assert!(!life.withdrawn || ends_itself, "{about} {life:?}");
                    life.drained = true;
                }
                Action::Close { worker, at_once } => {
                    let late = self.stop.is_some();
                    let life = self.alive(worker, &about);
                    assert!(ends_itself && life.retired && !life.closed, "{about} {life:?}");
                    assert!(!life.terminated && !life.killed, "{about} {life:?}");
                    assert!(life.withdrawn || late && at_once, "{about} {life:?}");
                    life.closed = true;
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
                Action::Withdraw(worker) => self.withdraw(worker, &about),
                Action::Ping(worker) => {
                    let stops = self.stop.is_some();
                    let life = self.alive(worker, &about);
                    assert!(life.placed && !life.retired && !stops, "{about} {life:?}");
                    life.owes = true;
                }
                Action::Abort(worker) => {
                    assert!(!self.is_late && self.stop.is_none(), "{about}");
                    let life = self.alive(worker, &about);
                    assert!(life.retired && !life.terminated && !life.killed, "{about} {life:?}");
                    assert!(life.placed && life.owes, "{about} {life:?}");
                    life.terminated = true;
                }
                Action::Resized(size) => {
                    assert!(self.stop.is_none() && size > 0, "{about}");
                    assert!(size.abs_diff(self.size) == 1, "{about}");
                    assert!(size > self.size || !self.to_shrink, "{about}");
                    let gone = self.lives.iter_mut().filter(|(worker, _)| worker.slot >= size);
                    gone.for_each(|(_, life)| life.given_up |= !life.answered);
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
            Event::Replacing(Replacing::WornFailed { .. }) => seen.worn_failed += 1,
            Event::Replacing(Replacing::DrainEnded { .. }) => seen.drain_ended += 1,
            Event::Hung { .. } => seen.hung += 1,
            _ => {}
        }
    }

    /// A new worker: of a generation not seen before, beside one other at most that may become
    /// ready or is, and only for a slot that there is.
    fn spawn(&mut self, worker: Worker, about: &str) {
        assert!(self.stop.is_none() && worker.slot < self.size, "{about}");
        let starts =
            |life: &Life| !life.retired && (life.alive || !life.answered && !life.given_up);
        let alone = !self.lives.values().any(starts);
        assert!(self.ever_ready || alone, "{about}: nobody has been ready");
        let others = self.lives.iter().filter(|(other, _)| other.slot == worker.slot);
        for (other, life) in others {
            assert!(other.generation < worker.generation, "{about}: after {other:?}");
            let is_other = life.alive && !life.retired && !life.withdrawn;
            assert!(!is_other || life.placed, "{about}: beside {other:?}");
        }
        self.lives.insert(worker, Life::default());
    }

    /// No new keys any more: said once, and of so many as may drain.
    fn withdraw(&mut self, worker: Worker, about: &str) {
        let removes = worker.slot >= self.fleet.size();
        let most = usize::from(self.config.most_draining.max(1));
        let life = self.alive(worker, about);
        assert!(life.placed && !life.withdrawn && !life.retired, "{about} {life:?}");
        life.withdrawn = true;
        life.removed = removes;
        self.seen.removed += u32::from(removes);
        let drains = |life: &&Life| life.withdrawn && life.alive && !life.killed && !life.removed;
        let draining = self.lives.values().filter(drains).count();
        assert!(draining <= most, "{about}: {draining} drain");
        assert!(self.stop.is_none(), "{about}");
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
}
