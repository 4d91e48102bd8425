//! Workers: started and ended as the fleet says.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sticky_worker::message::{ENV_WORKER_ID, ENV_WORKERS};
use tracing::{info, warn};

use super::Engine;
use super::children::Paused;
use super::command_error::CommandError;
use super::hear::SaidOnce;
use super::links::Facts;
use crate::logic::Worker;
use crate::logic::config::{Command, ProcessConfig, with_slot};
use crate::logic::fleet::Input;
use crate::logic::throttle::Throttle;
use crate::os::closing;
use crate::os::listen::Listener;
use crate::os::reap;
use crate::os::spawn::{Launch, SpawnError, Spawner};

/// How long the start of a worker waits for descriptors that are being closed.
const FOR_DESCRIPTORS: Duration = Duration::from_millis(20);

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
    /// Workers that are to be told `DRAIN` once no connection is on its way to them.
    drains: Vec<Worker>,
    /// Whether the command could ever be started.
    started: bool,
    pub(super) said_once: SaidOnce,
    /// Whether children may have ended that were left for the next turn.
    pub(super) unreaped: bool,
}

/// A worker whose process exists.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: Worker,
    pub(super) told_off: Throttle,
    /// It was ended for what it did, and is not heard any more.
    pub(super) ended: bool,
    pub(super) paused: Paused,
    /// How many connections it was given.
    pub(super) given: u64,
    /// This program has started it, and not the one that it was before an upgrade.
    is_own: bool,
    pid: Pid,
}

impl Live {
    fn new(worker: Worker, pid: Pid) -> Self {
        let (told_off, paused) = (Throttle::default(), Paused::default());
        Self { worker, told_off, ended: false, paused, given: 0, is_own: true, pid }
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }
}

/// All live workers in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct SavedWorkers {
    live: Vec<SavedLive>,
    drains: Vec<Worker>,
    started: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedLive {
    worker: Worker,
    pid: i32,
    #[serde(default)]
    given: u64,
}

impl Workers {
    pub(super) fn new(spawner: Spawner, command: Command, slots: u16) -> Self {
        Self {
            spawner,
            command,
            live: BTreeMap::new(),
            buried: BTreeMap::new(),
            slots,
            drains: Vec::new(),
            started: false,
            said_once: SaidOnce::default(),
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
        let save = |live: &Live| SavedLive {
            worker: live.worker,
            pid: live.pid.as_raw(),
            given: live.given,
        };
        SavedWorkers {
            live: self.all().map(save).collect(),
            drains: self.drains.clone(),
            started: self.started,
        }
    }

    /// Goes on with those that were written down.
    pub(super) fn restore(&mut self, saved: SavedWorkers) {
        (self.drains, self.started) = (saved.drains, saved.started);
        for SavedLive { worker, pid, given } in saved.live {
            let live = Live { given, is_own: false, ..Live::new(worker, Pid::from_raw(pid)) };
            self.live.insert(worker, live);
        }
    }

    /// A worker is gone.
    pub(super) fn remove(&mut self, worker: Worker) -> Option<Live> {
        self.live.remove(&worker)
    }

    /// All live workers.
    pub(super) fn live(&self) -> Vec<Worker> {
        self.live.keys().copied().collect()
    }

    /// What is known of each live worker.
    pub(super) fn all(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    /// Those that are to be told to drain.
    pub(super) fn take_drains(&mut self) -> Vec<Worker> {
        mem::take(&mut self.drains)
    }

    pub(super) fn drain_later(&mut self, worker: Worker) {
        self.drains.push(worker);
    }

    pub(super) fn terminate(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::terminate(live.pid)
        {
            warn!(
                name: "worker_signal_failed", worker = worker.slot, pid = live.pid.as_raw(),
                signal = "SIGTERM",
                "cannot end {worker} (pid {}): {error}",
                live.pid
            );
        }
    }

    pub(super) fn abort(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::abort(live.pid)
        {
            warn!(
                name: "worker_signal_failed", worker = worker.slot, pid = live.pid.as_raw(),
                signal = "SIGABRT",
                "cannot abort {worker} (pid {}): {error}",
                live.pid
            );
        }
    }

    pub(super) fn kill(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::kill_all(live.pid)
        {
            warn!(
                name: "worker_signal_failed", worker = worker.slot, pid = live.pid.as_raw(),
                signal = "SIGKILL",
                "cannot kill {worker} (pid {}): {error}",
                live.pid
            );
        }
    }

    /// Passes a signal on to every worker.
    pub(super) fn forward(&self, signal: Signal) {
        info!(name: "signal_forwarded", %signal, "forwarding {signal} to the workers");
        for live in self.all() {
            if let Err(error) = reap::signal(live.pid, signal) {
                warn!(
                    name: "worker_signal_failed", worker = live.worker.slot,
                    pid = live.pid.as_raw(), %signal,
                    "cannot send {signal} to {} (pid {}): {error}",
                    live.worker,
                    live.pid
                );
            }
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

impl Engine {
    /// Starts a worker. Fails only if the command could never be started.
    pub(super) fn spawn(&mut self, worker: Worker) -> anyhow::Result<()> {
        let error = match self.try_spawn(worker) {
            Ok(pid) => {
                self.workers.started = true;
                info!(
                    name: "worker_started", worker = worker.slot, pid = pid.as_raw(),
                    generation = worker.generation,
                    "{worker} started (pid {pid})"
                );
                self.fleet.handle(self.now, Input::Spawned(worker));
                return Ok(());
            }
            Err(error) => error,
        };
        // The machine is short of something, or the file is just being written.
        let passing =
            [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ETXTBSY, libc::EINTR];
        let SpawnError { step, error } = error;
        let temporary = error.raw_os_error().is_none_or(|errno| passing.contains(&errno));
        let program = self.workers.command.program.clone();
        let error = CommandError { program, step, error, script: None };
        if !temporary && !self.workers.started {
            return Err(error.into());
        }
        warn!(
            name: "worker_spawn_failed", worker = worker.slot, %error,
            "cannot start {worker}: {error}"
        );
        self.fleet.handle(self.now, Input::SpawnFailed(worker));
        Ok(())
    }

    fn try_spawn(&mut self, worker: Worker) -> Result<Pid, SpawnError> {
        // Connections that have just been taken back may have left no descriptor.
        closing::wait(FOR_DESCRIPTORS);
        let pid = self.launch(worker).inspect_err(|_| self.links.not_started(worker))?;
        self.workers.live.insert(worker, Live::new(worker, pid));
        if let Err(error) = self.links.started(worker) {
            // Without events nothing of it would ever be heard, so it goes the way of a worker
            // that is not ready in time, only sooner.
            warn!(
                name: "channel_watch_failed", worker = worker.slot,
                "cannot wait for messages of {worker}: {error}"
            );
            self.workers.kill(worker);
        }
        Ok(pid)
    }

    /// Starts the process of a worker.
    fn launch(&mut self, worker: Worker) -> Result<Pid, SpawnError> {
        let mut launch = self.what_to_launch(worker);
        let addresses = self.listeners.all().filter_map(Listener::address);
        let facts = Facts {
            incarnation: self.router.incarnate(worker),
            mint: self.mint.as_ref(),
            keys: &self.config.route.keys,
            ports: addresses.map(|address| address.port()).collect(),
            slots: self.workers.slots,
        };
        self.links.prepare(worker, &facts, &mut launch)?;
        let (pipes, output) = self.output.pipes()?.unzip();
        let end = self.links.workers_end(worker);
        let pid = self.workers.spawner.spawn(&launch, end, output)?;
        if let Some(pipes) = pipes {
            self.output.started(self.poll.registry(), worker, pid, pipes);
        }
        Ok(pid)
    }

    /// What a worker is started as, in any handoff.
    fn what_to_launch(&self, worker: Worker) -> Launch {
        let Command { program, mut arguments, directory, mut environment } =
            self.workers.command.clone();
        let values = environment.iter_mut().filter_map(|(_, value)| value.as_mut());
        for text in arguments.iter_mut().chain(values) {
            *text = with_slot(text, worker.slot);
        }
        let mut launch = Launch { program, arguments, directory, environment };
        let every = [
            (ENV_WORKER_ID, worker.slot.to_string()),
            (ENV_WORKERS, self.fleet.target_size().to_string()),
        ];
        let every = every.map(|(name, value)| (name.into(), Some(value.into())));
        launch.environment.extend(every);
        launch
    }

    /// A worker became ready, and may have ended since then.
    pub(super) fn place(&mut self, worker: Worker) {
        let pid = self.workers.pid_of(worker).map_or(0, Pid::as_raw);
        info!(
            name: "worker_ready", worker = worker.slot, pid, generation = worker.generation,
            "{worker} is ready (pid {pid})"
        );
        if self.fleet.is_ready(worker) {
            self.router.ready(self.now, worker);
            let served = self.listeners.placed(self.now, worker);
            self.tell_served(worker, served);
        }
        let is_own = self.workers.get(worker).is_some_and(|live| live.is_own);
        if is_own && !self.fleet.is_rolling() {
            // What workers run now has proved itself.
            self.fallback = None;
        }
    }
}
