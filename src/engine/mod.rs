//! The one loop: events in, actions out. Everything is decided by the [`Core`]; here is done what it says, and it
//! is told what has happened.
//!
//! Callers stand above those whom they call, in this order, and nobody calls back:
//!
//! 1. this file, the loop;
//! 2. `children` and `signals`, what becomes of processes and what the operator wants; `perform`, one branch for
//!    each action of the core;
//! 3. `hear`, what workers say; `start`, `upgrade`, `report`, `source`, `spawn`;
//! 4. `arrivals`, what comes in at the listeners;
//! 5. the parts, which know no engine: `intake`, the sockets that are held, `listeners/`, `links/`, one folder for
//!    each handoff, `workers`, their processes, `output`, `notify`.

mod arrivals;
mod children;
mod command_error;
mod connection;
mod hear;
mod intake;
mod limits;
mod links;
mod listeners;
mod notify;
mod origin;
mod output;
mod perform;
mod privileges;
mod report;
mod signals;
mod source;
mod spawn;
mod start;
mod tokens;
mod upgrade;
mod workers;

use std::io;
use std::time::Duration;

use anyhow::Context;
use mio::{Events, Poll};
use tracing::info;

pub use self::command_error::CommandError;
use self::connection::Connection;
use self::intake::Intake;
use self::limits::MemoryLimit;
use self::links::{Channels, Links, Pacing};
use self::listeners::Listeners;
use self::notify::Notifier;
use self::output::Output;
pub use self::source::Source;
pub use self::start::{Origin, check};
use self::tokens::Subject;
pub use self::upgrade::StateError;
use self::upgrade::Upgrade;
use self::workers::Workers;
use crate::logic::config::Config;
use crate::logic::core::{Core, Input};
use crate::logic::fleet::Outcome;
use crate::logic::route::mint::MintKey;
use crate::logic::time::Time;
use crate::os::signals::Signals;
use crate::os::{clock, closing};

/// The supervisor at work.
#[derive(Debug)]
pub struct Engine {
    poll: Poll,
    signals: Signals,
    /// The time of this turn.
    now: Time,
    core: Core,
    intake: Intake,
    listeners: Listeners,
    workers: Workers,
    links: Links,
    output: Output,
    notifier: Notifier,
    upgrade: Upgrade,
    memory: MemoryLimit,
    /// The secret under which workers mint session ids.
    mint: Option<MintKey>,
    /// Whether listeners that are opened later may hold back connections without a byte.
    defers: bool,
    /// Where the configuration comes from.
    source: Box<dyn Source>,
    /// What is in force now.
    config: Config,
    /// What was in force before a rolling restart that has not come to its end.
    fallback: Option<Config>,
    outcome: Option<Outcome>,
}

impl Engine {
    /// Runs until the fleet has finished.
    ///
    /// Fails when the loop itself breaks, or when the command cannot be run at all: then the
    /// source is the error of `execve(2)`.
    pub fn run(mut self) -> anyhow::Result<Outcome> {
        let mut events = Events::with_capacity(1024);
        // Later there may be no room for one.
        _ = closing::has_thread();
        loop {
            self.do_what_is_left()?;
            if let Some(outcome) = self.outcome {
                self.output.finish();
                match outcome {
                    Outcome::Stopped => info!(name: "stopped", "stopped"),
                    // The last line is the one that says why.
                    Outcome::NeverReady => {}
                }
                return Ok(outcome);
            }
            if self.may_become_upgraded() {
                self.become_upgraded();
            }
            self.pace();
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(error) => return Err(error).context("cannot wait for events"),
            }
            self.now = clock::now();
            self.take_in(&events)?;
            self.read_channels(Channels::Readable);
            self.core.before_accepting();
            self.drive()?;
            self.accept_all()?;
            self.output.read_some(self.now);
            self.expire()?;
        }
    }

    /// Hears what events are about.
    fn take_in(&mut self, events: &Events) -> anyhow::Result<()> {
        for event in events {
            match Subject::from(event.token()) {
                Subject::Signals => self.take_signals(),
                Subject::Listener(number) => self.listeners.became_readable(number),
                Subject::Channels | Subject::Channel(..) => self.links.look(self.now),
                Subject::Pending(conn) => {
                    let closed = event.is_read_closed();
                    self.core.handle(self.now, Input::Readable { conn, closed });
                }
                Subject::Output(pipe) => self.output.became_readable(pipe),
            }
            self.drive()?;
        }
        if self.workers.unreaped {
            self.reap_children();
            self.drive()?;
        }
        Ok(())
    }

    /// Does what the core says, until it says nothing more at once.
    fn drive(&mut self) -> anyhow::Result<()> {
        while let Some(action) = self.core.poll_action(self.now) {
            self.perform(action)?;
        }
        Ok(())
    }

    /// Does everything that is left to do: what is done can free connections to go, and these can be what
    /// the fleet waits for.
    fn do_what_is_left(&mut self) -> anyhow::Result<()> {
        self.core.begin_turn(self.links.held());
        loop {
            self.handle_all();
            self.drive()?;
            while self.accept_replaced() {
                self.drive()?;
            }
            if !self.core.advance(self.now) {
                break;
            }
        }
        self.workers.forget_buried();
        self.notifier.follow(self.now, self.core.fleet());
        self.links.watch(self.core.router().watched());
        Ok(())
    }

    /// Accepts from every listener that has something.
    fn accept_all(&mut self) -> anyhow::Result<()> {
        let mut round = self.listeners.round(self.now);
        while self.accept_next(&mut round) {
            self.drive()?;
        }
        Ok(())
    }

    /// Does everything that is due by now.
    fn expire(&mut self) -> anyhow::Result<()> {
        if self.listeners.closing_at().is_some_and(|at| at <= self.now) {
            self.close_listeners();
            self.drive()?;
            self.core.handle(self.now, Input::ListenersClosed);
        }
        if self.listeners.retired_until().is_some_and(|at| at <= self.now) {
            self.close_retired();
        }
        self.links.expire(self.now);
        self.handle_all();
        self.expire_served();
        self.notifier.expire(self.now);
        self.expire_upgrade();
        self.look_at_memory();
        self.drive()?;
        self.core.handle_timeout(self.now);
        self.drive()
    }

    /// How long the loop may sleep; without an end when nothing is due.
    fn timeout(&mut self) -> Option<Duration> {
        let busy = self.links.has_more(self.now)
            || self.output.has_more()
            || self.workers.unreaped
            || (self.listeners.has_more() && !self.is_full());
        if busy {
            return Some(Duration::ZERO);
        }
        let due = [
            self.core.poll_timeout(self.now),
            self.listeners.due(),
            self.links.due(self.now),
            self.output.due(),
            self.notifier.due(),
            self.upgrade.late_at(),
            self.memory.due(),
        ];
        due.into_iter().flatten().min().map(|due| due - clock::now())
    }

    /// Rests a little, and has more connections than usual be on their way, when they come fast.
    fn pace(&mut self) {
        let Pacing { widen, rest } = self.links.pace(self.now, self.intake.connections());
        if let Some(times) = widen {
            self.core.widen(self.now, times);
        }
        if let Some(rest) = rest {
            clock::rest(rest);
        }
    }
}
