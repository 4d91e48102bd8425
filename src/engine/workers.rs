//! Workers: started and buried as the fleet says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sticky_worker::message::{ENV_WORKER_ID, ENV_WORKERS, MAX_KEY};
use tracing::{info, warn};

use super::channels::ChannelPoll;
use super::command_error::CommandError;
use super::link::{Link, SavedLink};
use super::upgrade::{Keeper, Shared};
use super::{Channels, Engine};
use crate::logic::Worker;
use crate::logic::config::{Command, ProcessConfig, with_slot};
use crate::logic::fleet::{Exit, Input};
use crate::logic::route::OwnedByAnother;
use crate::logic::throttle::Throttle;
use crate::os::reap::{self, Change, Changed};
use crate::os::signals;
use crate::os::spawn::{Launch, SpawnError, Spawner};

/// So many children are reaped before connections are looked after: a few milliseconds.
const REAPED_AT_ONCE: usize = 256;

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
    /// Those of which the loop tells when they pick something up.
    watched: BTreeSet<Worker>,
    /// The processes of those that have ended, until all was said about it.
    buried: BTreeMap<Worker, Pid>,
    /// How many slots there are.
    pub(super) slots: u16,
    /// Workers that are to be told `DRAIN` once no connection is on its way to them.
    drains: Vec<Worker>,
    /// Whether the command could ever be started.
    started: bool,
    said: Said,
    /// Whether children may have ended that were left for the next turn.
    pub(super) unreaped: bool,
}

/// What was said once about keys that workers announce.
#[derive(Debug, Default)]
struct Said {
    /// That one is too long.
    too_long: bool,
    /// That one lives on another worker.
    shared: bool,
}

/// A worker whose process exists.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: Worker,
    pub(super) link: Link,
    pub(super) told_off: Throttle,
    paused: Paused,
    /// How many connections it was given.
    pub(super) given: u64,
    /// This program has started it, and not the one that it was before an upgrade.
    is_own: bool,
    pid: Pid,
}

/// What is said of a worker that a signal has stopped.
#[derive(Debug, Default)]
struct Paused {
    throttle: Throttle,
    /// It was said, and not yet that it goes on.
    is_said: bool,
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
            watched: BTreeSet::new(),
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
            let link = link.restore(shared)?;
            self.channels.add(worker, link.as_raw_fd())?;
            let (told_off, pid) = (Throttle::default(), Pid::from_raw(pid));
            let paused = Paused::default();
            let live = Live { worker, link, told_off, paused, given, is_own: false, pid };
            self.live.insert(worker, live);
            // Whatever came before the change has to be read without another event.
            self.readable.insert(worker);
        }
        Ok(())
    }

    /// Whether a channel has messages that were left for the next turn.
    pub(super) fn has_more(&self) -> bool {
        !self.readable.is_empty()
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
    fn remove(&mut self, worker: Worker) -> Option<Live> {
        self.readable.remove(&worker);
        self.watched.remove(&worker);
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
                warn!("cannot watch the channel of {worker}: {error}");
            }
        }
        self.watched = wanted;
    }

    /// Has the loop tell when there is room to write to a Node worker, for as long as that matters.
    pub(super) fn watch_node(&mut self, worker: Worker) {
        let link = self.live.get_mut(&worker).and_then(|live| live.link.node_mut());
        if let Some(Err(error)) = link.map(|link| link.watch(&self.channels, worker)) {
            warn!("cannot watch the channel of {worker}: {error}");
        }
    }

    pub(super) fn drain_later(&mut self, worker: Worker) {
        self.drains.push(worker);
    }

    pub(super) fn terminate(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::terminate(live.pid)
        {
            warn!("cannot end {worker} (pid {}): {error}", live.pid);
        }
    }

    pub(super) fn abort(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::abort(live.pid)
        {
            warn!("cannot abort {worker} (pid {}): {error}", live.pid);
        }
    }

    pub(super) fn kill(&self, worker: Worker) {
        if let Some(live) = self.get(worker)
            && let Err(error) = reap::kill_group(live.pid)
        {
            warn!("cannot kill {worker} (pid {}): {error}", live.pid);
        }
    }

    /// Passes a signal on to every worker.
    pub(super) fn forward(&self, signal: Signal) {
        info!("forwarding {signal} to the workers");
        for live in self.all() {
            if let Err(error) = reap::signal(live.pid, signal) {
                warn!("cannot send {signal} to {} (pid {}): {error}", live.worker, live.pid);
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

    fn of_pid(&self, pid: Pid) -> Option<Worker> {
        self.all().find(|live| live.pid == pid).map(|live| live.worker)
    }
}

impl Engine {
    /// Starts a worker. Fails only if the command could never be started.
    pub(super) fn spawn(&mut self, worker: Worker) -> anyhow::Result<()> {
        let error = match self.try_spawn(worker) {
            Ok(pid) => {
                self.workers.started = true;
                info!(worker = worker.slot, pid = pid.as_raw(), "{worker} started (pid {pid})");
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
        warn!("cannot start {worker}: {error}");
        self.fleet.handle(self.now, Input::SpawnFailed(worker));
        Ok(())
    }

    fn try_spawn(&mut self, worker: Worker) -> Result<Pid, SpawnError> {
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
        let live = Live { worker, link, told_off, paused, given: 0, is_own: true, pid };
        self.workers.live.insert(worker, live);
        if let Err(error) = registered {
            // Without events nothing of it would ever be heard, so it goes the way of a worker
            // that is not ready in time, only sooner.
            warn!("cannot wait for messages of {worker}: {error}");
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
        info!(worker = worker.slot, pid, "{worker} is ready (pid {pid})");
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

    /// Buries the children that have ended: workers, and as PID 1 anybody. Where there are many, some
    /// are left for the next turn.
    pub(super) fn reap_children(&mut self) {
        self.workers.unreaped = false;
        for _ in 0..REAPED_AT_ONCE {
            let Changed { pid, change } = match reap::next_change() {
                Ok(Some(changed)) => changed,
                Ok(None) => return,
                Err(error) => return warn!("cannot wait for children: {error}"),
            };
            match change {
                Change::Ended(exit) => self.hear_child_end(pid, exit),
                Change::Stopped(signal) => self.hear_pause(pid, Some(signal)),
                Change::Continued => self.hear_pause(pid, None),
            }
        }
        self.workers.unreaped = true;
    }

    /// A child has ended.
    fn hear_child_end(&mut self, pid: Pid, exit: Exit) {
        let worker = self.workers.of_pid(pid);
        if let Some(worker) = worker {
            self.read_channel(worker, Channels::All);
        }
        if let Err(error) = reap::reap(pid, worker.is_some()) {
            warn!("cannot end what pid {pid} left behind: {error}");
        }
        match worker {
            Some(worker) => self.bury(worker, exit),
            None => self.hear_upgrade_answer(pid, exit),
        }
    }

    /// A signal has stopped a child, or it goes on.
    fn hear_pause(&mut self, pid: Pid, stopped_by: Option<i32>) {
        let now = self.now;
        let Some(worker) = self.workers.of_pid(pid) else {
            let Some(signal) = stopped_by else { return };
            let signal = signals::name(signal);
            return info!("a child that is no worker is stopped by {signal} (pid {pid})");
        };
        let Some(live) = self.workers.get_mut(worker) else { return };
        let (slot, pid) = (worker.slot, pid.as_raw());
        match stopped_by {
            Some(signal) => {
                let Some(before) = live.paused.throttle.say(now) else { return };
                live.paused.is_said = true;
                let signal = signals::name(signal);
                let more =
                    if before == 0 { String::new() } else { format!(" ({before} times before)") };
                warn!(
                    worker = slot,
                    pid,
                    "{worker} is stopped by {signal} and serves nobody until kill -CONT {pid}{more}"
                );
            }
            None if mem::take(&mut live.paused.is_said) => {
                info!(worker = slot, pid, "{worker} goes on (pid {pid})");
            }
            None => {}
        }
    }

    /// A worker was reaped.
    fn bury(&mut self, worker: Worker, exit: Exit) {
        if let Some(live) = self.workers.remove(worker) {
            self.workers.buried.insert(worker, live.pid);
            self.recover(worker, live.link);
        }
        self.output.ended(self.now, worker);
        self.router.gone(self.now, worker);
        self.fleet.handle(self.now, Input::Exited(worker, exit));
        self.settling.changed(self.now);
    }

    /// A worker announces a key. Two may do so innocently: when ids collide, or when clients present
    /// what is the same for all of them.
    pub(super) fn hear_session(&mut self, worker: Worker, key: &[u8]) {
        if self.fleet.is_outgoing(worker) {
            // Nobody new is sent there, and whoever is there already stays.
        } else if !self.fleet.is_ready(worker) {
            self.tell_off(worker, "SESSION came before READY");
        } else if key.len() > MAX_KEY {
            let length = key.len();
            if !mem::replace(&mut self.workers.said.too_long, true) {
                warn!(
                    "{worker} announces a key of {length} bytes: only {MAX_KEY} are taken, so clients \
                     that present it may reach another worker; use shorter ids (said once)"
                );
            }
        } else if let Err(OwnedByAnother(owner)) = self.router.session(self.now, worker, key)
            && !mem::replace(&mut self.workers.said.shared, true)
        {
            warn!(
                "{worker} announces a key that lives on {owner}, where everybody who presents it goes: \
                 several clients seem to share it, such as a cookie with the same value for all, or ids \
                 that collide; have --by name a key that each client has for itself (said once)"
            );
        }
    }

    /// A worker has finished so many connections.
    pub(super) fn hear_closed(&mut self, worker: Worker, count: u32) {
        if !self.router.closed(worker, count) {
            self.tell_off(worker, "it closed more connections than it was given");
        }
    }

    /// Ends a worker with which nothing can be exchanged any more.
    pub(super) fn end_unusable(&mut self, worker: Worker, error: &io::Error) {
        self.tell_off(worker, &format!("it shut its channel down, so it is ended: {error}"));
        self.workers.kill(worker);
    }

    /// Says in the log what a worker did wrong, at a limited rate.
    pub(super) fn tell_off(&mut self, worker: Worker, what: &str) {
        let now = self.now;
        if let Some(live) = self.workers.get_mut(worker)
            && let Some(before) = live.told_off.say(now)
        {
            let pid = live.pid;
            warn!(
                "{worker} misuses its channel: {what} (pid {pid}, {before} earlier ones not shown)"
            );
        }
    }
}
