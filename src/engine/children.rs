//! What became of children: those that have ended are reaped, those that a signal has stopped are named.

use std::mem;

use nix::unistd::Pid;
use tracing::{info, warn};

use super::Engine;
use super::links::Channels;
use crate::logic::core::Input;
use crate::logic::fleet::Exit;
use crate::logic::throttle::Throttle;
use crate::os::reap::{self, Change, Changed};
use crate::os::signals;

/// So many children are reaped before connections are looked after: a few milliseconds.
const REAPED_AT_ONCE: usize = 256;

/// What is said of a worker that a signal has stopped.
#[derive(Debug, Default)]
pub(super) struct Paused {
    throttle: Throttle,
    /// It was said, and not yet that it goes on.
    is_said: bool,
}

impl Engine {
    /// Buries the children that have ended: workers, and as PID 1 anybody. Where there are many, some
    /// are left for the next turn.
    pub(super) fn reap_children(&mut self) {
        self.workers.unreaped = false;
        for _ in 0..REAPED_AT_ONCE {
            let Changed { pid, change } = match reap::next_change() {
                Ok(Some(changed)) => changed,
                Ok(None) => return,
                Err(error) => {
                    return warn!(
                        name: "children_wait_failed",
                        "cannot wait for children: {error}"
                    );
                }
            };
            match change {
                Change::Ended(exit) => self.on_child_exit(pid, exit),
                Change::Stopped(signal) => self.on_child_stopped(pid, Some(signal)),
                Change::Continued => self.on_child_stopped(pid, None),
            }
        }
        self.workers.unreaped = true;
    }

    /// A child has ended.
    fn on_child_exit(&mut self, pid: Pid, exit: Exit) {
        let worker = self.workers.of_pid(pid);
        if let Some(worker) = worker {
            self.read_channel(worker, Channels::All);
        }
        if let Err(error) = reap::reap(pid, worker.is_some()) {
            warn!(
                name: "process_kill_failed", pid = pid.as_raw(),
                "cannot kill the process group of pid {pid}: {error}"
            );
        }
        match worker {
            Some(worker) => {
                self.workers.on_exit(worker);
                self.core.handle(self.now, Input::Exited(worker, exit));
            }
            None => self.on_upgrade_answer(pid, exit),
        }
    }

    /// A signal has stopped a child, or it goes on.
    fn on_child_stopped(&mut self, pid: Pid, stopped_by: Option<i32>) {
        let now = self.now;
        let Some(worker) = self.workers.of_pid(pid) else {
            let Some(signal) = stopped_by else { return };
            let signal = signals::name(signal);
            return info!(
                name: "child_paused", pid = pid.as_raw(), signal,
                "a child that is not a worker was stopped by {signal} (pid {pid})"
            );
        };
        let Some(live) = self.workers.get_mut(worker) else { return };
        let (slot, pid) = (worker.slot, pid.as_raw());
        match stopped_by {
            Some(signal) => {
                let Some(before) = live.paused.throttle.allow(now) else { return };
                live.paused.is_said = true;
                let signal = signals::name(signal);
                let more =
                    if before == 0 { String::new() } else { format!(" ({before} times before)") };
                warn!(
                    name: "worker_paused", worker = slot, pid, signal, suppressed = before,
                    "{worker} was stopped by {signal} and serves nobody until kill -CONT \
                     {pid}{more}"
                );
            }
            None if mem::take(&mut live.paused.is_said) => {
                info!(
                    name: "worker_resumed", worker = slot, pid,
                    "{worker} was continued (pid {pid})"
                );
            }
            None => {}
        }
    }
}
