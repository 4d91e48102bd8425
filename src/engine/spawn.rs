//! Starting workers.

use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;
use sticky_worker::message::{ENV_WORKER_ID, ENV_WORKERS};
use tracing::{info, warn};

use super::Engine;
use super::command_error::CommandError;
use super::links::{self, Facts};
use crate::logic::Worker;
use crate::logic::config::{Command, with_slot};
use crate::logic::core::Input;
use crate::os::closing;
use crate::os::listen::Listener;
use crate::os::spawn::{Launch, SpawnError};

/// How long the start of a worker waits for descriptors that are being closed.
const FOR_DESCRIPTORS: Duration = Duration::from_millis(20);

impl Engine {
    /// Starts a worker. Fails only if the command could never be started.
    pub(super) fn spawn(&mut self, worker: Worker, incarnation: Option<u16>) -> anyhow::Result<()> {
        let error = match self.try_spawn(worker, incarnation) {
            Ok(pid) => {
                info!(
                    name: "worker_started", worker = worker.slot, pid = pid.as_raw(),
                    generation = worker.generation,
                    "{worker} started (pid {pid})"
                );
                let reports = links::traits(&self.config.handoff).reports;
                self.core.handle(self.now, Input::Spawned(worker, reports));
                return Ok(());
            }
            Err(error) => error,
        };
        // The machine is short of something, or the file is just being written.
        let passing =
            [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::ETXTBSY, libc::EINTR];
        let SpawnError { step, error } = error;
        let temporary = error.raw_os_error().is_none_or(|errno| passing.contains(&errno));
        let program = self.workers.command().program.clone();
        let error = CommandError { program, step, error, script: None };
        if !temporary && !self.workers.has_started() {
            return Err(error.into());
        }
        warn!(
            name: "worker_spawn_failed", worker = worker.slot, %error,
            "cannot start {worker}: {error}"
        );
        self.core.handle(self.now, Input::SpawnFailed(worker));
        Ok(())
    }

    fn try_spawn(&mut self, worker: Worker, incarnation: Option<u16>) -> Result<Pid, SpawnError> {
        // Connections that have just been taken back may have left no descriptor.
        closing::wait(FOR_DESCRIPTORS);
        let pid =
            self.launch(worker, incarnation).inspect_err(|_| self.links.not_started(worker))?;
        self.workers.add(worker, pid);
        if let Err(error) = self.links.started(worker) {
            // Without events nothing of it would ever be heard, so it goes the way of a worker
            // that is not ready in time, only sooner.
            warn!(
                name: "channel_watch_failed", worker = worker.slot,
                "cannot watch the channel of {worker}: {error}; sending KILL"
            );
            self.workers.kill(worker);
        }
        Ok(pid)
    }

    /// Starts the process of a worker.
    fn launch(&mut self, worker: Worker, incarnation: Option<u16>) -> Result<Pid, SpawnError> {
        let mut launch = self.what_to_launch(worker);
        let addresses = self.listeners.all().filter_map(Listener::address);
        let facts = Facts {
            incarnation,
            mint: self.mint.as_ref(),
            keys: &self.config.route.keys,
            ports: addresses.map(|address| address.port()).collect(),
            slots: self.workers.slots,
        };
        self.links.prepare(worker, &facts, &mut launch)?;
        let (pipes, output) = self.output.pipes()?.unzip();
        let end = self.links.workers_end(worker);
        let pid = self.workers.spawner().spawn(&launch, end, output)?;
        if let Some(pipes) = pipes {
            self.output.started(self.poll.registry(), worker, pid, pipes);
        }
        Ok(pid)
    }

    /// What a worker is started as, in any handoff.
    fn what_to_launch(&self, worker: Worker) -> Launch {
        let Command { program, mut arguments, directory, mut environment } =
            self.workers.command().clone();
        let values = environment.iter_mut().filter_map(|(_, value)| value.as_mut());
        for text in arguments.iter_mut().chain(values) {
            *text = with_slot(text, worker.slot);
        }
        let mut launch = Launch { program, arguments, directory, environment };
        let every = [
            (ENV_WORKER_ID, worker.slot.to_string()),
            (ENV_WORKERS, self.core.fleet().target_size().to_string()),
        ];
        let every = every.map(|(name, value)| (name.into(), Some(value.into())));
        launch.environment.extend(every);
        launch
    }

    /// A worker became ready; it is `placed` unless it has ended since then.
    pub(super) fn is_ready(&mut self, worker: Worker, placed: bool) {
        let pid = self.workers.pid_of(worker).map_or(0, Pid::as_raw);
        info!(
            name: "worker_ready", worker = worker.slot, pid, generation = worker.generation,
            "{worker} is ready (pid {pid})"
        );
        if placed {
            let served = self.listeners.placed(self.now, worker);
            self.notify_served(worker, served);
        }
        let is_own = self.workers.is_own(worker);
        if is_own && !self.core.fleet().is_rolling() {
            // What workers run now has proved itself.
            self.fallback = None;
        }
    }
}
