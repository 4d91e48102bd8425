//! Workers: started and ended as the fleet says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sticky_worker::message::{ENV_WORKER_ID, ENV_WORKERS};
use tracing::{info, warn};

use super::Engine;
use super::children::Paused;
use super::choked::Choked;
use super::command_error::CommandError;
use super::links::channels::ChannelPoll;
use super::links::{Link, SavedLink};
use super::said::Said;
use crate::logic::Worker;
use crate::logic::config::{Command, ProcessConfig, with_slot};
use crate::logic::fleet::Input;
use crate::logic::throttle::Throttle;
use crate::logic::time::Time;
use crate::os::closing;
use crate::os::kept::{Keeper, Shared};
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
    pub(super) channels: ChannelPoll,
    /// Those whose channels had something to read, and nothing said yet that there is no more.
    readable: BTreeSet<Worker>,
    /// Those that took long to hear, and until when they are not heard again.
    resting: BTreeMap<Worker, Time>,
    /// Those of which the loop tells when they pick something up.
    watched: BTreeSet<Worker>,
    /// The processes of those that have ended, until all was said about it.
    pub(super) buried: BTreeMap<Worker, Pid>,
    /// How many slots there are.
    pub(super) slots: u16,
    pub(super) choked: Choked,
    /// Workers that are to be told `DRAIN` once no connection is on its way to them.
    drains: Vec<Worker>,
    /// Whether the command could ever be started.
    started: bool,
    pub(super) said: Said,
    /// Whether children may have ended that were left for the next turn.
    pub(super) unreaped: bool,
}

/// A worker whose process exists.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: Worker,
    pub(super) link: Link,
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
    link: SavedLink,
    pid: i32,
    #[serde(default)]
    given: u64,
}

impl Workers {
    pub(super) fn new(
        spawner: Spawner,
        command: Command,
        slots: u16,
        channels: ChannelPoll,
    ) -> Self {
        Self {
            spawner,
            command,
            live: BTreeMap::new(),
            buried: BTreeMap::new(),
            channels,
            readable: BTreeSet::new(),
            resting: BTreeMap::new(),
            watched: BTreeSet::new(),
            choked: Choked::default(),
            slots,
            drains: Vec::new(),
            started: false,
            said: Said::default(),
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
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedWorkers {
        let save = |live: &Live| SavedLive {
            worker: live.worker,
            link: live.link.save(keeper),
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
    pub(super) fn restore(&mut self, saved: SavedWorkers, shared: &mut Shared) -> io::Result<()> {
        (self.drains, self.started) = (saved.drains, saved.started);
        for SavedLive { worker, link, pid, given } in saved.live {
            let link = link.restore(worker, shared)?;
            self.channels.add(worker, link.as_raw_fd())?;
            let (told_off, pid) = (Throttle::default(), Pid::from_raw(pid));
            let paused = Paused::default();
            let live =
                Live { worker, link, told_off, ended: false, paused, given, is_own: false, pid };
            self.live.insert(worker, live);
            // Whatever came before the change has to be read without another event.
            self.readable.insert(worker);
        }
        Ok(())
    }

    /// Whether a channel has messages that were left for the next turn.
    pub(super) fn has_more(&self, now: Time) -> bool {
        let waits = |worker| self.choked.has(worker) || self.rests(now, worker);
        self.readable.iter().any(|worker| !waits(*worker))
    }

    /// A worker is not heard again before this time, so that others have theirs.
    pub(super) fn rest(&mut self, worker: Worker, until: Time) {
        if self.live.contains_key(&worker) {
            self.resting.insert(worker, until);
        }
    }

    /// Whether a worker is not to be heard yet.
    pub(super) fn rests(&self, now: Time, worker: Worker) -> bool {
        self.resting.get(&worker).is_some_and(|until| now < *until)
    }

    /// When the first of those has rested that have more to say.
    pub(super) fn rest_ends(&self) -> Option<Time> {
        self.readable.iter().filter_map(|worker| self.resting.get(worker)).min().copied()
    }

    /// A channel has something to read.
    pub(super) fn became_readable(&mut self, worker: Worker) {
        if self.live.contains_key(&worker) {
            self.readable.insert(worker);
        }
    }

    /// Nothing is left to read in a channel.
    pub(super) fn was_read(&mut self, worker: Worker) {
        self.readable.remove(&worker);
    }

    /// A worker is gone.
    pub(super) fn remove(&mut self, worker: Worker) -> Option<Live> {
        self.readable.remove(&worker);
        self.watched.remove(&worker);
        self.resting.remove(&worker);
        self.choked.forget(worker);
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

    /// Those whose channels are to be read.
    pub(super) fn to_read(&self) -> Vec<Worker> {
        self.readable.iter().copied().collect()
    }

    /// Has the loop tell when these workers pick something up, and no others.
    pub(super) fn watch_natives(&mut self, wanted: Vec<Worker>) {
        let wanted = BTreeSet::from_iter(wanted);
        for worker in wanted.symmetric_difference(&self.watched) {
            let link = self.live.get(worker).and_then(|live| live.link.native());
            let watched =
                link.map(|link| link.watch(&self.channels, *worker, wanted.contains(worker)));
            if let Some(Err(error)) = watched {
                warn!(
                    name: "channel_watch_failed", worker = worker.slot,
                    "cannot watch the channel of {worker}: {error}"
                );
            }
        }
        self.watched = wanted;
    }

    /// Has the loop tell when there is room to write to a Node worker, for as long as that matters.
    pub(super) fn watch_node(&mut self, worker: Worker) {
        let link = self.live.get_mut(&worker).and_then(|live| live.link.node_mut());
        if let Some(Err(error)) = link.map(|link| link.watch(&self.channels, worker)) {
            warn!(
                name: "channel_watch_failed", worker = worker.slot,
                "cannot watch the channel of {worker}: {error}"
            );
        }
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
        let mut link = self.new_link(worker)?;
        let launch = self.launch(worker, &link)?;
        let (pipes, output) = self.output.pipes()?.unzip();
        let pid = self.workers.spawner.spawn(&launch, link.workers_end(), output)?;
        link.inherited();
        if let Some(pipes) = pipes {
            self.output.started(self.poll.registry(), worker, pid, pipes);
        }
        let registered = self.workers.channels.add(worker, link.as_raw_fd());
        let told_off = Throttle::default();
        let paused = Paused::default();
        let live =
            Live { worker, link, told_off, ended: false, paused, given: 0, is_own: true, pid };
        self.workers.live.insert(worker, live);
        if let Err(error) = registered {
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

    /// What a worker is started as.
    fn launch(&mut self, worker: Worker, link: &Link) -> io::Result<Launch> {
        let Command { program, mut arguments, directory, mut environment } =
            self.workers.command.clone();
        let values = environment.iter_mut().filter_map(|(_, value)| value.as_mut());
        for text in arguments.iter_mut().chain(values) {
            *text = with_slot(text, worker.slot);
        }
        let mut launch = Launch { program, arguments, directory, environment };
        let every = [
            (ENV_WORKER_ID, worker.slot.to_string()),
            (ENV_WORKERS, self.fleet.size_to_be().to_string()),
        ];
        let every = every.map(|(name, value)| (name.into(), Some(value.into())));
        launch.environment.extend(every);
        self.prepare(worker, link, &mut launch)?;
        Ok(launch)
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
            self.begin_placing(worker);
        }
        let is_own = self.workers.get(worker).is_some_and(|live| live.is_own);
        if is_own && !self.fleet.is_rolling() {
            // What workers run now has proved itself.
            self.fallback = None;
        }
    }

    /// Tells workers to drain, now that no connection is on its way to them any more.
    pub(super) fn send_drains(&mut self) {
        for worker in std::mem::take(&mut self.workers.drains) {
            let live = self.workers.get(worker).is_some();
            if live && !self.tell_drain(worker) {
                self.workers.drain_later(worker);
            }
        }
    }
}
