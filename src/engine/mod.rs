//! The one loop: events in, actions out. What is to be done is decided on the ground floor.
//!
//! A turn of the loop waits for events, hears them, lets the fleet and the router decide, and does
//! what they say. The life of a connection is in `arrivals`, `pending` and `intake`, in this order; the
//! life of a worker is in `workers` and `life`, that of the supervisor in `start`, `source` and
//! `upgrade`. How a connection gets into a worker, and how workers say something, differs
//! from handoff to handoff: `links` is one face for all, and `hear` does what is said.

mod arrivals;
mod children;
mod command_error;
mod connection;
mod hear;
mod intake;
mod life;
mod links;
mod listeners;
mod notify;
mod origin;
mod output;
mod pending;
mod privileges;
mod source;
mod start;
mod tokens;
mod upgrade;
mod workers;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use anyhow::Context;
use mio::{Events, Poll};
use nix::sys::signal::Signal;
use tracing::info;

pub use self::command_error::CommandError;
use self::connection::Connection;
use self::intake::Handoff;
use self::life::Worn;
use self::links::{Channels, Links, Pacing};
use self::listeners::Listeners;
use self::notify::Notifier;
use self::origin::Origins;
use self::output::Output;
use self::pending::Pending;
pub use self::source::Source;
pub use self::start::{Origin, check};
use self::tokens::Subject;
pub use self::upgrade::StateError;
use self::upgrade::Upgrade;
use self::workers::Workers;
use crate::logic::config::Config;
use crate::logic::fleet::{Action, Fleet, Input, Outcome};
use crate::logic::room::Room;
use crate::logic::route::mint::MintKey;
use crate::logic::route::{Conn, Router};
use crate::logic::time::Time;
use crate::os::signals::{Came, Signals};
use crate::os::{clock, closing};

/// The supervisor at work.
#[derive(Debug)]
pub struct Engine {
    poll: Poll,
    signals: Signals,
    /// The time of this turn.
    now: Time,
    fleet: Fleet,
    router: Router,
    listeners: Listeners,
    origins: Origins,
    pending: Pending,
    /// Connections that the router has in a queue.
    waiting: HashMap<Conn, Connection>,
    handoff: Handoff,
    workers: Workers,
    links: Links,
    /// The secret under which workers mint session ids.
    mint: Option<MintKey>,
    /// Whether listeners that are opened later may hold back connections without a byte.
    defers: bool,
    room: Room,
    /// The open connections as the fleet last heard, while it stops.
    reported: Option<u64>,
    output: Output,
    notifier: Notifier,
    outcome: Option<Outcome>,
    upgrade: Upgrade,
    worn: Worn,
    /// Where the configuration comes from.
    source: Box<dyn Source>,
    /// What is in force now.
    config: Config,
    /// What was in force before a rolling restart that has not come to its end.
    fallback: Option<Config>,
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
            self.act()?;
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
            for event in &events {
                match Subject::from(event.token()) {
                    Subject::Signals => self.hear_signals(),
                    Subject::Listener(number) => self.listeners.became_readable(number),
                    Subject::Channels | Subject::Channel(..) => self.links.look(self.now),
                    Subject::Pending(conn) => self.head_grew(conn, event.is_read_closed()),
                    Subject::Output(pipe) => self.output.became_readable(pipe),
                }
            }
            if self.workers.unreaped {
                self.reap_children();
            }
            self.read_channels(Channels::Readable);
            self.look_at_full();
            self.accept_all();
            self.output.read_some(self.now);
            self.look_after_time();
        }
    }

    /// Does what was decided, until nothing is left to do: what the fleet wants done can free
    /// connections to go, and these can be what the fleet waits for.
    fn act(&mut self) -> anyhow::Result<()> {
        let mut acted = false;
        loop {
            self.hear_all();
            self.accept_from_replaced();
            self.route_returned();
            self.send_waiting();
            self.report_open();
            self.look_after_drains();
            let Some(action) = self.fleet.poll_action() else { break };
            // A ping changes nothing, and comes for ever.
            acted |= !matches!(action, Action::Ping(_));
            self.carry_out(action)?;
        }
        self.workers.forget_buried();
        if acted {
            self.tell_manager();
        }
        if self.held() == 0 && self.listeners.closing_at().is_none() {
            self.send_drains();
        }
        self.links.watch(self.router.watched());
        Ok(())
    }

    fn carry_out(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Spawn(worker) => self.spawn(worker)?,
            Action::AddBackend(worker) => self.place(worker),
            Action::RemoveBackend(worker) => self.router.remove(self.now, worker),
            Action::Drain(worker) => self.workers.drain_later(worker),
            Action::RequestExit { worker, at_once } => self.tell_close(worker, at_once),
            Action::Terminate(worker) => self.workers.terminate(worker),
            Action::Kill(worker) => self.workers.kill(worker),
            Action::DrainBackend(worker) => self.withdraw(worker),
            Action::Ping(worker) => self.ping(worker),
            Action::Abort(worker) => self.workers.abort(worker),
            Action::Resized(slots) => self.resized(slots),
            Action::CloseListeners => self.listeners.close_soon(self.now),
            Action::Report(event) => self.report(&event),
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
        Ok(())
    }

    /// Everything that is due by now.
    fn look_after_time(&mut self) {
        while let Some(conn) = self.pending.rested(self.now) {
            self.head_grew(conn, false);
        }
        while let Some(conn) = self.pending.overdue(self.now, self.is_hurried()) {
            self.give_up_waiting(conn);
        }
        if self.listeners.closing_at().is_some_and(|at| at <= self.now) {
            self.close_down();
        }
        if self.listeners.retired_until().is_some_and(|at| at <= self.now) {
            self.close_retired();
        }
        while let Some(worker) = self.router.poll_stalled(self.now) {
            self.look_at(worker);
        }
        self.links.expire(self.now);
        self.hear_all();
        self.look_after_served();
        self.notifier.look_after_time(self.now);
        self.look_after_upgrade();
        self.look_after_wear();
        self.hear_all_before_judging();
        self.fleet.handle_timeout(self.now);
    }

    /// A sign of life that came in time may lie unread when its time is over.
    fn hear_all_before_judging(&mut self) {
        let due = self.fleet.poll_timeout().is_some_and(|at| at <= self.now);
        if due && self.config.fleet.watchdog.is_some() {
            self.read_channels(Channels::All);
        }
    }

    /// How long the loop may sleep; without an end when nothing is due.
    fn timeout(&mut self) -> Option<Duration> {
        let busy = self.links.has_more(self.now)
            || self.output.has_more()
            || self.workers.unreaped
            || self.handoff.has_returned()
            || (self.listeners.has_more() && !self.is_full());
        if busy {
            return Some(Duration::ZERO);
        }
        let due = [
            self.fleet.poll_timeout(),
            self.router.poll_timeout(self.now),
            self.pending.deadline(self.is_hurried()),
            self.pending.rest_ends(),
            self.listeners.due(),
            self.links.due(self.now),
            self.output.due(),
            self.notifier.due(),
            self.upgrade.late_at(),
            self.worn.due(),
            self.handoff.blocked_until().filter(|_| !self.waiting.is_empty()),
        ];
        due.into_iter().flatten().min().map(|due| due - clock::now())
    }

    /// Rests a little, and has more connections than usual be on their way, when they come fast.
    fn pace(&mut self) {
        let Pacing { widen, rest } = self.links.pace(self.now, self.handoff.connections());
        if let Some(times) = widen {
            self.router.scale_windows(self.now, times);
        }
        if let Some(rest) = rest {
            clock::rest(rest);
        }
    }

    fn hear_signals(&mut self) {
        for came in self.signals.take() {
            // It may have come since the turn began, and what is said of it has to be later.
            self.now = clock::now();
            self.obey(came);
        }
    }

    fn obey(&mut self, came: Came) {
        match came {
            Came::Stop(signal) => {
                info!(name: "signal_received", %signal, "got {signal}");
                self.fleet.handle(self.now, Input::Stop);
            }
            Came::Restart => {
                info!(name: "signal_received", signal = %Signal::SIGHUP, "got HUP");
                if self.fleet.is_stopping() {
                    // It is refused, so nothing of a configuration is to hold.
                    return self.fleet.handle(self.now, Input::Restart);
                }
                match self.reread() {
                    Ok(()) => self.fleet.restart_with(self.now, self.config.fleet.clone()),
                    Err(error) => {
                        self.notifier.reloading(self.now);
                        self.notifier.reloaded(self.now, Some(&error));
                    }
                }
            }
            Came::Hangup if self.workers.spawner().signals.ignores(Signal::SIGHUP) => {
                info!(
                    name: "terminal_lost",
                    "the terminal is gone: going on, since HUP was ignored at the start"
                );
            }
            Came::Hangup => {
                info!(name: "terminal_lost", "the terminal is gone (HUP)");
                self.fleet.handle(self.now, Input::Stop);
            }
            Came::Upgrade => self.begin_upgrade(),
            Came::More => self.fleet.handle(self.now, Input::More),
            Came::Fewer => self.fleet.handle(self.now, Input::Fewer),
            Came::Forward(signal) => self.workers.forward(signal),
            Came::Child => self.reap_children(),
        }
    }

    /// The beginning of a stop: nobody new, and nobody who has not said anything.
    fn close_down(&mut self) {
        self.close_listeners();
        for conn in self.pending.silent() {
            self.close_pending(conn);
        }
    }

    /// Tells a fleet that stops how many connections are left.
    fn report_open(&mut self) {
        if !self.fleet.is_stopping() || !self.listeners.are_closed() || self.links.is_blind() {
            return;
        }
        let open = self.router.open() + self.held() as u64;
        if self.reported != Some(open) {
            self.reported = Some(open);
            self.fleet.handle(self.now, Input::Open(open));
        }
    }

    /// Whether clients have less time for their first bytes: others wait for their place, or the
    /// workers for the end.
    fn is_hurried(&self) -> bool {
        self.room.was_full() || self.has_most() || self.fleet.is_stopping()
    }

    /// How many connections are with the supervisor.
    fn held(&self) -> usize {
        self.pending.len() + self.waiting.len() + self.handoff.returned() + self.links.held()
    }

    /// Whether no more can be held, beside what workers have opened.
    fn is_full(&mut self) -> bool {
        let on_their_way = self.links.all_on_their_way();
        let elsewhere = on_their_way + closing::all_awaiting() + self.listeners.opened();
        self.has_most() || self.room.is_full(self.held() + elsewhere)
    }

    /// Whether as many are open as may be.
    fn has_most(&self) -> bool {
        let most = self.config.most_connections;
        most.is_some_and(|most| self.router.open() + self.held() as u64 >= most)
    }
}
