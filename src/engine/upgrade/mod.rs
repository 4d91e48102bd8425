//! Upgrade in place: the supervisor becomes the program that is at its path now, and nobody notices.
//!
//! 1. USR2 comes. The state is written down, and the program at the path is asked, as a child,
//!    whether it can go on from it: it reads the state and the configuration, looks for the command
//!    as `--check` does, and tries the addresses that are new. Meanwhile all goes on. If it says no,
//!    or anything else, or nothing for [`PATIENCE`], that is told in the log, and all goes on.
//! 2. When it said yes, the state is written down once more, and `execve(2)` makes this process that
//!    program: the same pid, the same children, the same descriptors.
//! 3. The program finds the state by a variable, takes the descriptors over and goes on (`Engine::resume`).
//!
//! A stop goes before an upgrade that is not done yet, and none begins while the supervisor stops.
//! A rolling restart goes on across it.

mod state;

use std::time::Duration;
use std::{io, mem};

use anyhow::Context;
use nix::unistd::Pid;
use tracing::{error, info, warn};

pub(super) use self::state::State;
pub use self::state::StateError;
use super::Engine;
use crate::logic::fleet::Exit;
use crate::logic::route::Router;
use crate::logic::time::Time;
use crate::os::closing::Pause;
use crate::os::errors;
use crate::os::kept::Keeper;
use crate::os::upgrade::{Program, Question, StateFile};
use crate::os::{reap, standard};

/// How long a program may take to say whether it can go on.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the log of this program may take to be written.
const LAST_LINES: Duration = Duration::from_millis(200);
/// How long descriptors may take to be closed that others have sent. Sockets need less.
const LAST_CLOSES: Duration = Duration::from_millis(200);
/// What a program says that can go on from a state.
pub(super) const YES: &str = "sticky-run can go on from this state";

/// What there is to an upgrade.
#[derive(Debug)]
pub(super) struct Upgrade {
    program: Program,
    step: Step,
}

/// How far it is.
#[derive(Debug)]
enum Step {
    /// Nobody wants one.
    Idle,
    /// The program was asked.
    Asked {
        question: Question,
        /// When the answer is late.
        until: Time,
    },
    /// The program said yes.
    Due,
}

impl Upgrade {
    pub(super) fn new(program: Program) -> Self {
        Self { program, step: Step::Idle }
    }

    /// What the supervisor becomes.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// When the answer is late.
    pub(super) fn late_at(&self) -> Option<Time> {
        match self.step {
            Step::Asked { until, .. } => Some(until),
            Step::Idle | Step::Due => None,
        }
    }

    /// Whether the program said yes.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.step, Step::Due)
    }

    fn failed(&mut self, why: &str) {
        self.step = Step::Idle;
        warn!(
            name: "upgrade_failed", error = why,
            "cannot upgrade to {}: {why}; continuing as before",
            self.program.path().display()
        );
    }
}

impl Engine {
    /// An upgrade is asked for.
    pub(super) fn begin_upgrade(&mut self) {
        if self.core.fleet().is_stopping() {
            return info!(name: "upgrade_refused", reason = "stopping", "upgrade refused: stopping");
        }
        if !matches!(self.upgrade.step, Step::Idle) {
            return info!(
                name: "upgrade_refused", reason = "in_progress",
                "upgrade refused: another one is in progress"
            );
        }
        match self.ask() {
            Ok(question) => {
                info!(
                    name: "upgrade_begun", program = %self.upgrade.program.path().display(),
                    "upgrading: asking {} to take over",
                    self.upgrade.program.path().display()
                );
                let until = self.now + PATIENCE;
                self.upgrade.step = Step::Asked { question, until };
            }
            Err(error) => self.upgrade.failed(&format!("{error:#}")),
        }
    }

    fn ask(&self) -> anyhow::Result<Question> {
        let (state, _) = self.write_down()?;
        self.upgrade.program.ask(&state).map_err(|error| does_not_start(&error))
    }

    /// A child has ended that is no worker: perhaps the program that was asked.
    pub(super) fn on_upgrade_answer(&mut self, pid: Pid, exit: Exit) {
        match mem::replace(&mut self.upgrade.step, Step::Idle) {
            Step::Asked { question, .. } if question.pid() == pid => match judge(question, exit) {
                Ok(()) => self.upgrade.step = Step::Due,
                Err(why) => self.upgrade.failed(&why),
            },
            step => self.upgrade.step = step,
        }
    }

    /// Waits no longer for an answer that is late, or that does not matter any more since the
    /// supervisor stops.
    pub(super) fn expire_upgrade(&mut self) {
        let late = self.upgrade.late_at().is_some_and(|at| at <= self.now);
        let stops = self.core.fleet().is_stopping();
        if !(late || (stops && !matches!(self.upgrade.step, Step::Idle))) {
            return;
        }
        if let Step::Asked { question, .. } = &self.upgrade.step
            && let Err(error) = reap::kill_all(question.pid())
        {
            warn!(
                name: "process_kill_failed", pid = question.pid().as_raw(),
                "cannot kill the program that was asked to take over (pid {}): {error}",
                question.pid()
            );
        }
        if stops {
            self.upgrade.step = Step::Idle;
            info!(name: "upgrade_refused", reason = "stopping", "upgrade refused: stopping");
        } else {
            self.upgrade.failed(&format!("it does not answer within {PATIENCE:?}"));
        }
    }

    /// Whether it is time. The next program would not know which listeners let nobody in any more,
    /// as some do for a moment when they are given up, and all when the supervisor stops.
    pub(super) fn may_become_upgraded(&self) -> bool {
        let some_retire = self.listeners.retired_until().is_some();
        self.upgrade.is_due() && !some_retire && !self.core.fleet().is_stopping()
    }

    /// Becomes the program. Nothing may be left to do of what was decided.
    pub(super) fn become_upgraded(&mut self) {
        self.upgrade.step = Step::Idle;
        if let Err(error) = self.try_to_become_upgraded() {
            standard::release();
            self.upgrade.failed(&format!("{error:#}"));
            if let Err(error) = self.signals.release() {
                error!(name: "signals_blocked", "cannot unblock signals: {error}");
            }
        }
    }

    fn try_to_become_upgraded(&mut self) -> anyhow::Result<()> {
        // A signal that comes from now on is for the program that this one becomes.
        self.signals.hold().context("cannot hold signals back")?;
        standard::hold(LAST_LINES);
        // A thread that cannot be interrupted would keep the program from being executed.
        let _pause = Pause::for_exec(LAST_CLOSES)?;
        let (state, keeper) = self.write_down()?;
        match self.upgrade.program.become_it(&state, keeper.numbers()) {
            Ok(never) => match never {},
            Err(error) => Err(does_not_start(&error)),
        }
    }

    /// Writes everything down.
    fn write_down(&self) -> anyhow::Result<(StateFile, Keeper)> {
        let mut keeper = Keeper::default();
        let state = self.save(&mut keeper);
        Ok((StateFile::new(&state.encode()?)?, keeper))
    }

    fn save(&self, keeper: &mut Keeper) -> State<&Router> {
        State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_force: self.fallback.as_ref().unwrap_or(&self.config).worker_config(),
            fleet: self.core.fleet().clone(),
            router: self.core.router(),
            core: self.core.save(),
            listeners: self.listeners.save(keeper),
            intake: self.intake.save(keeper),
            workers: self.workers.save(),
            links: self.links.save(keeper),
            output: self.output.save(keeper),
            told: self.notifier.told().clone(),
            origins: self.intake.origins.save(),
            mint: self.mint.clone(),
            signals: self.workers.spawner().signals,
            file_limit: self.workers.spawner().file_limit,
            unclosed: keeper.keep_unclosed(),
        }
    }
}

fn does_not_start(error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("it does not start: {}", errors::text(error))
}

/// What the program that was asked has said.
fn judge(question: Question, exit: Exit) -> Result<(), String> {
    let answer = question.answer().map_err(|error| format!("cannot hear its answer: {error}"))?;
    let last = answer.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match exit {
        Exit::Code(0) if last == YES => Ok(()),
        Exit::Code(0) if last.is_empty() => Err("it is not sticky-run: it said nothing".to_owned()),
        _ if last.is_empty() => Err(format!("it ended with {exit} and said nothing")),
        Exit::Code(0) => Err(format!("it is not sticky-run: it said \"{last}\"")),
        Exit::Code(_) | Exit::Signal(_) => Err(format!("it ended with {exit}: {last}")),
    }
}
