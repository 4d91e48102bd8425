//! Who lives and who dies: the state machine of all workers.
//!
//! # One worker
//!
//! `life.rs` has the table. A worker is
//!
//! - **Spawning**: `Spawn` was asked for. `Spawned` makes it Booting, `SpawnFailed` is a failed start.
//! - **Booting**: the process has the boot timeout to say `READY`. Then it is Ready and gets `Place`.
//!   If it exits before, or is late, that is a failed start; a late one is Ending, KILL follows 5 s
//!   after TERM.
//! - **Ready**: it gets connections. A second `READY` changes nothing.
//! - **Draining**: it had `Withdraw`: no new keys, but still the connections of its own. Until it is
//!   `Drained`, or for the drain timeout; then it is Closing if it can end by itself, else Ending. KILL
//!   follows the grace later.
//! - **Closing**: it had `Close`, see below. It has a fifth of the grace, 5 s at most, 1 s if its connections are
//!   not to be waited for; then it is Ending.
//! - **Leaving**: it was Ready or Draining and said that it wants no more connections. It has 10 s to exit by
//!   itself, in a stop a fifth of the grace, 5 s at most; then it is Ending, KILL follows 5 s after TERM. One
//!   that leaves before it was ready is Booting still.
//! - **Ending**: TERM or ABRT was sent. `READY` comes too late now. Only its exit ends it.
//! - **Killed**: KILL was sent, likewise.
//!
//! # One slot
//!
//! A slot has one **present** worker, or rests until its next start. If the present one exits, with any
//! code, the slot rests and starts the next generation. Every rest is twice as long as the one before,
//! from 100 ms to 30 s, jittered by a fifth. A worker that was ready for a minute resets this; the minute
//! is looked at when it ends, so a fleet in which all are ready has no timer at all.
//!
//! Beside the present worker, while that is Ready, there can be its **successor**, Spawning or Booting.
//! When the successor is ready, it is the present one, and the old one drains as a **former** one. Formers
//! are Draining or on their way out; a former that was still Spawning is ended as soon as it is
//! `Spawned`. If the present worker ends while its successor boots, that is not started a second
//! time: it is the present one from then on, and fails as such. If the successor fails, the present one
//! goes on as if nothing had been.
//!
//! # TERM (`close.rs`)
//!
//! TERM is for the code that handles it. Workers of the handoff `channel` get it when they have drained. Those that
//! end by themselves (`ends_itself`: Node) are asked first, by `Drain` in a stop and by `Close` when they
//! have drained or their time for that is over:
//!
//! - One with a handler for TERM of its own knows how to end: it says so (`HandlesTerm`) and gets TERM at
//!   once. In a stop this is as soon as nobody new is let in, with its connections open, as if it were alone. In
//!   a restart and when its slot is taken away it is when no session is left or the drain timeout
//!   is over: the sessions of a worker that is replaced last as long with such a handler as without.
//! - One without waits for its connections, or not (`at_once`), disconnects and exits, by which its handlers of
//!   these run. TERM would only cut this short: it comes when the time for it is over, and before `Close`
//!   with `at_once` in no case.
//! - One that hears nothing, stuck or without the preload, gets TERM when that time is over.
//!
//! Whatever is said of a worker that is gone is ignored. What was heard goes before what is due:
//! inputs never run timers, so when the supervisor itself was late, a `READY` that came meanwhile
//! is in time if it is handed in before the timeout.
//!
//! # Replacing (`round.rs`)
//!
//! There is one queue of slots whose worker is to be replaced: first those of a rolling restart, then
//! the worn ones, the oldest worker first in each. At most `restart_parallel` slots are in hand at once. A slot
//! is in hand until the new worker is ready, not until the old one has drained; but while `most_draining`
//! workers drain, or will when their successors are ready, no successor is started. A restart that
//! stands still for this says so, once each time.
//!
//! - **Restart**: all workers that live now are old, but not one whose `Spawn` nobody has fetched yet, such as
//!   that of a slot which comes with the restart. A ready one gets a successor in its turn. One that
//!   boots is ended in its turn, if it is not ready by then, and another one is started at once. A slot
//!   without either, resting or with a worker on its way out, starts now and not in its turn, its failures forgotten,
//!   since somebody has mended something. A successor that fails ends the round for all: other
//!   successors are ended, the old ones go on, those replaced already stay. In a slot without a ready worker
//!   a start fails as always, and the round goes on. The round is over when no old one is left.
//! - **Restart while one rolls**: the same again, from the beginning: successors that boot are ended
//!   and count as old like all others.
//! - **Worn**: a ready worker reached one of its limits (`Recycle`), or its lifetime, which is drawn within a tenth
//!   of the configured one when it becomes ready. If its successor fails, it goes on, and the next try
//!   comes after the slot's rest. A round is not ended by this. One that reached a limit before it was ready for a
//!   minute goes on for a rest too, before it gets its successor: the limit may be less than any worker can do with,
//!   and then they would be replaced for ever. This rest is another one than that between starts, and grows in the same
//!   way, but not beyond a second for memory. The first time is a warning. Such a worker resets neither of them.
//!
//! # More and fewer (`scale.rs`)
//!
//! Slots are 0..n. `More` adds slot n, up to [`MOST_WORKERS`]; `Fewer` takes away the highest one, down to
//! one slot. A ready worker of a slot that is taken away drains, one that boots is ended. A slot that
//! comes back goes on with its generations. The number outlives restarts.
//!
//! A restart with a configuration that has fewer slots takes slots away at its end, since until then nobody
//! knows whether new workers do: if it fails, there are as many as before. Slots that go have no turn,
//! unless none of those that stay has a worker that could show it. `More` and `Fewer` meanwhile change how
//! many are to stay. A configuration that comes meanwhile does the same; slots that it adds start at once.
//! Slots that a configuration has added go again if the restart fails; those of `More` before it stay.
//!
//! # Watchdog (`watchdog.rs`)
//!
//! With a watchdog of T, Ready and Draining workers get a `Ping` at once and every T/2. `Pong` answers
//! all that were sent. If the oldest one without an answer is T old, the worker is hung: it gets ABRT, and KILL after
//! T/4 (5 s at most). The slot of a present one starts anew at once the first time, later after a
//! rest. Our own lateness never counts: if `handle_timeout` comes more than T/8 later than it was due,
//! nobody is hung in this call, and every open `Ping` gets a T from now.
//!
//! # The fleet
//!
//! - **Running**: every slot is to have a ready worker. As long as no worker has ever been ready, one slot at a
//!   time has one, so that a start which cannot work fails once and not in every slot. After a failed start the next slot
//!   tries, since the fault may be that slot's own, after a rest that doubles with every try. When one is ready, all
//!   others start at once: a worker that takes long to boot makes this first start twice as long, and no later one.
//!   After [`MAX_FIRST_TRIES`] it gives up: Ending, KILL after 1 s, and the outcome is
//!   [`Outcome::NeverReady`]. Once any worker has been ready it never gives up, and no start waits for another one.
//! - **Stopping**, by `Stop`: the listeners close, ready workers get `Drain`, draining ones go on without
//!   a time of their own, booting ones get TERM, resting slots stay empty, a `Spawn` that nobody has fetched yet is
//!   taken back, nobody is replaced or watched any more. The deadline is the grace
//!   from now and never moves back. It waits until no connection is open, which is unknown, and
//!   so not believed, until the first `Open` after the `Stop`.
//! - **Ending**: TERM to all that had none, when no connection is open or the last fifth of the grace
//!   (5 s at most) begins. Those that end by themselves know when no connection is open; they have `Close` in
//!   the last fifth, and TERM soon after. KILL at the deadline.
//! - **Killing**: KILL to all. If exits do not come within 2 s, it leaves without them.
//! - **Done**: `Finish` was the last action; every input is ignored.
//!
//! As soon as no process is left outside Running, it is Done. The phase never goes back.
//!
//! # Who wins
//!
//! | while | `Stop` | `Restart` | `More`, `Fewer` | `Recycle` |
//! |---|---|---|---|---|
//! | starting | the stop: TERM to those that boot | booting ones are ended in turn | a slot more or less | ignored: not ready |
//! | running | drain, TERM, KILL | the round begins | a slot more or less | replaced in turn |
//! | rolling | the stop: the round is dropped | the round begins anew | the round goes on without or beside it | replaced after the round |
//! | no worker ready, crash loop | the stop | slots that rest start now, failures forgotten | a slot more or less | ignored: not ready |
//! | stopping | TERM now, KILL after 1 s; then KILL now | refused, with a line | refused, with a line | ignored |
//! | giving up | the first changes nothing, the next is KILL now | refused, with a line | refused, with a line | ignored |
//!
//! - Stop while starting: one that is Spawning gets TERM as soon as it is `Spawned` (KILL, if it is
//!   Killing by then).
//! - Exit while stopping: it is retired and not replaced.
//! - A stop within half a second of one before is the same: a terminal or a wrapper has sent it twice.
//! - A second stop: TERM at once, KILL after 1 s, or at the deadline if that is earlier. A third: KILL now.
//! - Stop while giving up: KILL is 1 s away already. The outcome stays [`Outcome::NeverReady`].
//! - A failed start while stopping: the stop; nothing is given up any more.
//! - A KILL that a worker has coming for itself and the deadline: the earlier one, and KILL is sent only once.

mod action;
mod backoff;
mod close;
mod due;
mod event;
mod facts;
mod failed;
mod input;
mod life;
mod news;
mod phase;
mod present;
mod pulse;
mod replacing;
mod round;
mod scale;
mod slot;
mod stop;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
mod watchdog;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Outcome};
use due::NextDue;
pub use event::{Event, Refused};
pub use facts::Facts;
pub use failed::FailedStart;
pub use input::{Exit, FleetConfig, Input, Wear};
use life::Life;
use news::{Change, News, Stage};
use phase::Phase;
pub use replacing::Replacing;
use scale::Before;
use slot::{Role, Slot};

use crate::logic::Worker;
use crate::logic::rng::Rng;
use crate::logic::time::Time;

/// So many failed starts are allowed while no worker was ever ready.
pub const MAX_FIRST_TRIES: u32 = 5;
/// More copies than this on one machine are a mistake.
pub const MOST_WORKERS: u16 = 1024;
/// From the TERM of a worker that was not ready or gone in time to its KILL.
const TERM_TO_KILL: Duration = Duration::from_secs(5);

/// All workers, as plain data, which another supervisor can read and go on with once everything was
/// done that [`poll_action`](Self::poll_action) had.
///
/// Hand in all that was heard, call [`handle_timeout`](Self::handle_timeout) when it is due, ask
/// [`poll_action`](Self::poll_action) until it has no more, and
/// [`poll_timeout`](Self::poll_timeout) for when to come back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Fleet {
    /// What was configured.
    config: FleetConfig,
    /// The jitter of restarts and lifetimes.
    rng: Rng,
    /// Every slot that there ever was; those from `size` on have former workers at most.
    slots: Vec<Slot>,
    /// How many slots there are now.
    size: u16,
    /// How many are to stay when the rolling restart comes to its end, if that is fewer.
    #[serde(default)]
    staying: Option<u16>,
    /// What a rolling restart goes back to if it fails, if it changes how many there are.
    #[serde(default)]
    before: Option<Before>,
    /// The state of the whole.
    phase: Phase,
    /// When a stop was last asked for.
    #[serde(default)]
    stop_asked: Option<Time>,
    /// Whether a rolling restart has not come to its end.
    #[serde(default)]
    is_rolling: bool,
    /// A rolling restart has come to its end but for the workers that it has replaced: so many are new.
    #[serde(default)]
    winding_up: Option<usize>,
    /// Whether it was said that the restart stands still, since so many workers drain.
    #[serde(default)]
    waits: bool,
    /// Whether any worker was ready since the start.
    ever_ready: bool,
    /// Whether it was said that a limit of workers may be too low.
    #[serde(default)]
    warned_of_limit: bool,
    /// What is still to be fetched by `poll_action`. It is not written down.
    #[serde(skip)]
    actions: VecDeque<Action>,
    /// What [`next_due`](Self::next_due) said: there can be a thousand slots, and the loop asks in each
    /// turn.
    #[serde(skip)]
    due: NextDue,
}

impl Fleet {
    /// A fleet that wants a worker in every slot, and one of them first.
    pub fn new(now: Time, config: FleetConfig) -> Self {
        let mut fleet = Self {
            rng: Rng::new(config.seed),
            slots: (0..config.workers).map(Slot::new).collect(),
            size: config.workers,
            staying: None,
            before: None,
            phase: Phase::Running,
            stop_asked: None,
            is_rolling: false,
            winding_up: None,
            waits: false,
            ever_ready: false,
            warned_of_limit: false,
            actions: VecDeque::new(),
            due: NextDue::default(),
            config,
        };
        fleet.start(now, 0);
        fleet
    }

    /// The next thing to do. Ask again until there is none, after every other call that may change
    /// something, [`new`](Self::new) among them.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing is heard before. `None`
    /// when time changes nothing: an idle fleet without a watchdog never wakes up.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        *self.due.0.get_or_init(|| self.next_due())
    }

    fn next_due(&self) -> Option<Time> {
        self.slots.iter().filter_map(Slot::timeout).chain(self.phase.timeout()).min()
    }

    /// Takes in what was heard. Time does nothing here: a supervisor that comes late must not end
    /// workers whose `READY` is the next thing it would have read.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.due.0.take();
        match input {
            Input::Spawned(worker) => self.hear(now, worker, News::Spawned),
            Input::SpawnFailed(worker) => self.hear(now, worker, News::SpawnFailed),
            Input::Ready(worker) => self.hear(now, worker, News::Ready),
            Input::Leaving(worker) => self.hear(now, worker, News::Leaving),
            Input::Exited(worker, exit) => self.hear(now, worker, News::Exited(exit)),
            Input::HandlesTerm(worker) => self.handles_term(worker),
            Input::Pong(worker) => self.pong(worker),
            Input::Drained(worker) => self.drained(now, worker),
            Input::Recycle(worker, wear) => self.recycle(now, worker, wear),
            Input::Restart => self.restart(now),
            Input::More => self.more(now),
            Input::Fewer => self.fewer(now),
            // They see it themselves.
            Input::Open(0) if self.config.ends_itself => {}
            Input::Open(count) => self.enter(now, self.phase.open(count)),
            Input::Stop => self.stop(now),
        }
        self.advance(now);
        self.leave_if_gone(now);
    }

    /// Does what is due by now. Calling it early, late or for nothing is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        self.due.0.take();
        self.forgive_if_late(now);
        // Phases only move down, so this ends; a grace of zero goes through several at once.
        loop {
            let before = self.phase;
            self.enter(now, before.tick(now));
            if self.phase == before {
                break;
            }
        }
        self.do_what_is_due(now);
        self.beat(now);
        self.advance(now);
    }

    /// Whether this worker may be given connections: all, or those of its own keys while it drains.
    pub fn is_ready(&self, worker: Worker) -> bool {
        self.life(worker).is_some_and(Life::takes_connections)
    }

    /// Whether this worker may be given connections with new keys.
    pub fn is_present(&self, worker: Worker) -> bool {
        self.life(worker).is_some_and(|life| life.stage() == Stage::Ready)
    }

    /// Whether this worker gets no connections any more and is about to end.
    pub fn is_outgoing(&self, worker: Worker) -> bool {
        self.life(worker).is_some_and(|life| life.stage() == Stage::Outgoing)
    }

    /// The worker whose slot this one gets when it is ready.
    pub fn predecessor(&self, worker: Worker) -> Option<Worker> {
        let slot = self.slots.get(usize::from(worker.slot))?;
        let present = slot.present.as_ref().filter(|_| slot.role(worker) == Some(Role::Successor));
        present.map(|life| life.worker)
    }

    /// Whether it is on the way to its end, by a stop or because it gave up.
    pub fn is_stopping(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether a rolling restart has not come to its end.
    pub fn is_rolling(&self) -> bool {
        self.is_rolling
    }

    /// How many slots there are.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// How many slots there are when the rolling restart, if there is one, has come to its end.
    pub fn size_to_be(&self) -> u16 {
        self.staying.unwrap_or(self.size)
    }

    /// The workers whose process exists or has been asked for.
    pub fn workers(&self) -> impl Iterator<Item = Worker> {
        self.lives().map(|life| life.worker)
    }

    /// Handles what was said of one worker, and what it means for the fleet.
    fn hear(&mut self, now: Time, worker: Worker, news: News) {
        let (boot_timeout, leaving) = (self.config.boot_timeout, self.leaving());
        let Some(role) = self.role(worker).filter(|_| self.phase != Phase::Done) else { return };
        let Some(life) = self.life_mut(worker) else { return };
        let proved = life.has_proved_itself(now);
        let change = life.hear(now, news, boot_timeout, leaving);
        let slot = &mut self.slots[usize::from(worker.slot)];
        if slot.life(worker).is_some_and(Life::is_gone) {
            slot.forget(worker);
        }
        if proved && change != Change::Nothing {
            slot.prove();
        }
        match (self.phase, role) {
            (Phase::Running, Role::Present) => self.hear_present(now, worker, change),
            (Phase::Running, Role::Successor) => self.hear_successor(now, worker, change),
            (Phase::Running, Role::Former) => self.hear_former(now, worker, change),
            (
                Phase::Stopping { .. } | Phase::Ending { .. } | Phase::Killing { .. } | Phase::Done,
                Role::Present | Role::Successor | Role::Former,
            ) => self.hear_stopping(worker, change),
        }
    }

    /// TERM to this worker, if it had none, and KILL at the time given.
    fn end(&mut self, worker: Worker, kill_at: Option<Time>) {
        self.end_by(worker, kill_at, Action::Terminate(worker));
    }

    /// The same, with another signal.
    fn end_by(&mut self, worker: Worker, kill_at: Option<Time>, signal: Action) {
        if self.life_mut(worker).is_some_and(|life| life.end(kill_at)) {
            self.retire(worker);
            self.actions.push_back(signal);
        }
    }

    /// KILL to this worker, if it had none.
    fn kill(&mut self, worker: Worker) {
        if self.life_mut(worker).is_some_and(Life::kill) {
            self.actions.push_back(Action::Kill(worker));
        }
    }

    /// No connection for this worker any more, if that was not said yet.
    fn retire(&mut self, worker: Worker) {
        if self.life_mut(worker).is_some_and(Life::retire) {
            self.actions.push_back(Action::Retire(worker));
        }
    }

    fn report(&mut self, event: impl Into<Event>) {
        self.actions.push_back(Action::Report(event.into()));
    }

    /// All workers, the oldest slot first.
    fn lives(&self) -> impl Iterator<Item = &Life> {
        self.slots.iter().flat_map(Slot::lives)
    }

    fn life(&self, worker: Worker) -> Option<&Life> {
        self.slots.get(usize::from(worker.slot))?.life(worker)
    }

    fn life_mut(&mut self, worker: Worker) -> Option<&mut Life> {
        let slot = self.slots.get_mut(usize::from(worker.slot))?;
        slot.lives_mut().find(|life| life.worker == worker)
    }
}
