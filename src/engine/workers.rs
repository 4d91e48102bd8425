//! Workers: their processes.

use std::collections::BTreeMap;
use std::io;
use std::mem;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::children::Paused;
use crate::logic::Worker;
use crate::logic::config::{Command, ProcessConfig};
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::reap;
use crate::os::spawn::Spawner;

/// All live workers and how they are started.
#[derive(Debug)]
pub(super) struct Workers {
    spawner: Spawner,
    command: Command,
    /// Those whose process exists, in the order of their slots.
    live: BTreeMap<Worker, Live>,
    /// The processes of those that have ended, until all was said about it.
    pub(super) buried: BTreeMap<Worker, Pid>,
    /// How many slots there are.
    pub(super) slots: u16,
    /// Whether the command could ever be started.
    started: bool,
    /// Whether children may have ended that were left for the next turn.
    pub(super) unreaped: bool,
}

/// A worker whose process exists.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: Worker,
    pub(super) violations: Throttle,
    /// It was ended for what it did, and is not heard any more.
    pub(super) ended: bool,
    pub(super) paused: Paused,
    /// This program has started it, and not the one that it was before an upgrade.
    is_own: bool,
    pid: Pid,
}

impl Live {
    fn new(worker: Worker, pid: Pid) -> Self {
        let (violations, paused) = (Throttle::default(), Paused::default());
        Self { worker, violations, ended: false, paused, is_own: true, pid }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

/// All live workers in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedWorkers {
    live: Vec<SavedLive>,
    started: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedLive {
    worker: Worker,
    pid: i32,
}

impl Workers {
    pub(super) fn new(spawner: Spawner, command: Command, slots: u16) -> Self {
        Self {
            spawner,
            command,
            live: BTreeMap::new(),
            buried: BTreeMap::new(),
            slots,
            started: false,
            unreaped: false,
        }
    }

    /// How they are started.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Workers that are started from now on run this, and as this.
    pub(super) fn set_command(&mut self, command: Command, process: ProcessConfig) {
        self.command = command;
        self.spawner.process = process;
    }

    /// Writes them down.
    pub(super) fn save(&self) -> SavedWorkers {
        let save = |live: &Live| SavedLive { worker: live.worker, pid: live.pid.as_raw() };
        SavedWorkers { live: self.all().map(save).collect(), started: self.started }
    }

    /// Goes on with those that were written down.
    pub(super) fn restore(&mut self, saved: SavedWorkers) {
        self.started = saved.started;
        for SavedLive { worker, pid } in saved.live {
            let live = Live { is_own: false, ..Live::new(worker, Pid::from_raw(pid)) };
            self.live.insert(worker, live);
        }
    }

    /// What they run.
    pub(super) fn command(&self) -> &Command {
        &self.command
    }

    /// Whether the command could ever be started.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// The process of a worker exists.
    pub(super) fn add(&mut self, worker: Worker, pid: Pid) {
        self.started = true;
        self.live.insert(worker, Live::new(worker, pid));
    }

    /// A worker has ended, of which something is still to be said.
    pub(super) fn on_exit(&mut self, worker: Worker) {
        if let Some(live) = self.live.remove(&worker) {
            self.buried.insert(worker, live.pid);
        }
    }

    /// Whether this program has started a worker, and not the one that it was before an upgrade.
    pub(super) fn is_own(&self, worker: Worker) -> bool {
        self.get(worker).is_some_and(|live| live.is_own)
    }

    /// All live workers.
    pub(super) fn live(&self) -> Vec<Worker> {
        self.live.keys().copied().collect()
    }

    /// What is known of each live worker.
    pub(super) fn all(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    pub(super) fn terminate(&self, worker: Worker) {
        self.signal(worker, "SIGTERM", reap::terminate);
    }

    pub(super) fn abort(&self, worker: Worker) {
        self.signal(worker, "SIGABRT", reap::abort);
    }

    pub(super) fn kill(&self, worker: Worker) {
        self.signal(worker, "SIGKILL", reap::kill_all);
    }

    /// Sends a signal to a worker, if that lives.
    fn signal(&self, worker: Worker, signal: &str, send: impl FnOnce(Pid) -> io::Result<()>) {
        if let Some(live) = self.get(worker)
            && let Err(error) = send(live.pid)
        {
            warn!(
                name: "worker_signal_failed", worker = worker.slot, pid = live.pid.as_raw(), signal,
                "cannot send {signal} to {worker} (pid {}): {error}",
                live.pid
            );
        }
    }

    /// Ends a worker for what it did, which is said once, whatever was said of it before.
    pub(super) fn end_for(&mut self, worker: Worker, what: &str) {
        let Some(live) = self.get_mut(worker) else { return };
        if mem::replace(&mut live.ended, true) {
            return;
        }
        let pid = live.pid();
        warn!(
            name: "worker_killed", worker = worker.slot, pid = pid.as_raw(), reason = "protocol",
            error = what,
            "{worker} violated the protocol: {what}; sending KILL (pid {pid})"
        );
        self.kill(worker);
    }

    /// Says in the log what a worker did wrong, at a limited rate.
    pub(super) fn on_violation(&mut self, now: Time, worker: Worker, what: &str) {
        if let Some(live) = self.get_mut(worker)
            && let Some(before) = live.violations.allow(now)
        {
            let pid = live.pid();
            warn!(
                name: "protocol_violated", worker = worker.slot, pid = pid.as_raw(), error = what,
                suppressed = before,
                "{worker} violated the protocol: {what} (pid {pid}, {before} earlier ones not \
                 shown)"
            );
        }
    }

    /// Passes a signal on to every worker.
    pub(super) fn forward(&self, signal: Signal) {
        info!(name: "signal_forwarded", %signal, "forwarding {signal} to the workers");
        for worker in self.live.keys() {
            self.signal(*worker, signal.as_str(), |pid| reap::signal(pid, signal));
        }
    }

    pub(super) fn get(&self, worker: Worker) -> Option<&Live> {
        self.live.get(&worker)
    }

    pub(super) fn get_mut(&mut self, worker: Worker) -> Option<&mut Live> {
        self.live.get_mut(&worker)
    }

    /// The process of a worker, also of one about whose end something is still to be said.
    pub(super) fn pid_of(&self, worker: Worker) -> Option<Pid> {
        self.get(worker).map(Live::pid).or_else(|| self.buried.get(&worker).copied())
    }

    /// All was said about those that have ended.
    pub(super) fn forget_buried(&mut self) {
        self.buried.clear();
    }

    pub(super) fn of_pid(&self, pid: Pid) -> Option<Worker> {
        self.all().find(|live| live.pid == pid).map(|live| live.worker)
    }
}
