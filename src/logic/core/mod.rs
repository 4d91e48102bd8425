//! The core: everything that the supervisor decides, in one machine.
//!
//! It is the [`Router`], the [`Fleet`], the room that there is, and one table of the connections that the
//! supervisor holds. It has no socket, no process and no clock. The engine tells it what has happened, an
//! [`Input`], and does what it says, an [`Action`]; so does the simulation, with a world of its own.
//!
//! **Turns.** A turn of the loop begins with [`Core::begin_turn`]. Then [`Core::poll_action`] is asked until
//! it has nothing, and [`Core::advance`] until that has nothing either: it lets those go that wait, and asks
//! the fleet. In between, and whenever something has happened, [`Core::handle`] is told of it, and
//! [`Core::poll_action`] asked until it has nothing, before anything else is told. Some actions have an answer,
//! which is told before the next action is asked for.
//!
//! **A connection** stands in one place at a time (`Stage`).
//!
//! 1. It arrives. Its PROXY header is read first, if it has one, then its first bytes, if the keys need any.
//!    Those that are not there are awaited.
//! 2. A key that some worker may have announced and that nobody knows is looked for twice: everything that
//!    channels hold is heard in between, since an announcement is in the kernel before its answer is.
//! 3. The router gives it to a worker, or has it wait in a queue. When too many wait for its owner, the channel
//!    of that one is looked at, who waits is sent, and it is asked for once more; then it is closed.
//! 4. It is sent, and is not held any more. When the kernel has no room, it waits in front of all others, and
//!    nothing is sent for a moment.
//! 5. It may come back: given back, for its next request, not arrived, or not picked up by a worker that has
//!    ended or stopped reading. Then it is routed in the next turn, so that nothing goes round within one.
//!
//! **A worker** is the fleet's; here stands what the router has to know of that, and what it has to be told.
//! One that is to drain hears that when no connection is held any more.

mod action;
mod arrival;
mod held;
mod input;
mod returned;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::action::{Action, Closing, Look, Report, Unwanted, Violation};
use self::held::{Held, Stage, Table};
pub use self::input::{
    Arrived, Command, First, How, Input, Message, NotSent, Note, Noted, Preface, Reports, Said,
    Seen, TakenBack,
};
use self::workers::Facts;
use super::Worker;
use super::capacity::{Capacity, Footprint};
use super::fleet::{self, Fleet};
use super::route::returns::Returns;
use super::route::{Conn, ListenerId, RouteConfig, Router};
use super::throttle::Throttle;
use super::time::Time;

/// The head timeout while others wait for a place or for the end: enough for an honest client, and
/// little for those that only hold a place.
const HURRIED: Duration = Duration::from_secs(1);
/// The rest after the kernel had no room for a message although the window had.
const BLOCKED: Duration = Duration::from_millis(10);

/// What the core has to know of a configuration, besides what the router and the fleet do.
#[derive(Clone, Copy, Debug)]
pub struct CoreConfig {
    /// How long first bytes may take.
    pub head_timeout: Duration,
    /// How many connections may be open.
    pub most_connections: Option<u64>,
    /// How many connections each worker may have in its life.
    pub connections_of_one: Option<u64>,
    /// The seed of what is drawn around that.
    pub seed: u64,
    /// Signs of life are asked for, and have to be heard before anybody is judged.
    pub watches: bool,
    /// How many workers there may be beside those of the slots, and what they take.
    pub crew: Footprint,
}

/// The core.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    fleet: Fleet,
    router: Router,
    room: Capacity,
    held: Table,
    returns: Returns,
    workers: BTreeMap<Worker, Facts>,
    /// Where connections come in that lead to workers.
    listeners: BTreeMap<ListenerId, First>,
    actions: VecDeque<Action>,
    /// Those that wait for a second look.
    second_looks: Vec<Conn>,
    /// Those that wait for a look at their owner.
    crowded: VecDeque<Conn>,
    /// The fleet is asked what is due when all was heard.
    judges: bool,
    /// Nothing is sent before this time: the kernel had no room.
    blocked_until: Option<Time>,
    turn: Turn,
    /// Workers that are to be told `DRAIN`.
    drains: Vec<Worker>,
    listening: Listening,
    /// How many are open, as the fleet last heard.
    reported: Option<u64>,
    said: Once,
}

/// What is done once in a turn.
#[derive(Debug, Default)]
struct Turn {
    /// So many of those that came back are still to be routed.
    returned: usize,
    /// So many connections are kept outside of the table, of workers that are gone.
    abandoned: usize,
    /// Workers for whom somebody waits were looked at.
    looked_at_wanted: bool,
    looked_at_draining: bool,
    drains_sent: bool,
}

/// Whether anybody is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listening {
    Open,
    Closing,
    Closed,
}

/// What was said, once or lately.
#[derive(Debug, Default)]
struct Once {
    too_long: bool,
    shared: bool,
    presented_too_long: bool,
    refused: Throttle,
    unwanted: Throttle,
}

/// What another program has to know to go on, besides the fleet and the router.
#[derive(Debug, Deserialize, Serialize)]
pub struct SavedCore {
    held: Vec<(Conn, Held)>,
    returns: Returns,
    workers: Vec<(Worker, Facts)>,
    listeners: Vec<(ListenerId, First)>,
    drains: Vec<Worker>,
}

impl Core {
    /// A core that holds nothing.
    pub fn new(config: CoreConfig, fleet: Fleet, router: Router, room: Capacity) -> Self {
        Self {
            config,
            fleet,
            router,
            room,
            held: Table::default(),
            returns: Returns::default(),
            workers: BTreeMap::new(),
            listeners: BTreeMap::new(),
            actions: VecDeque::new(),
            second_looks: Vec::new(),
            crowded: VecDeque::new(),
            judges: false,
            blocked_until: None,
            turn: Turn::default(),
            drains: Vec::new(),
            listening: Listening::Open,
            reported: None,
            said: Once::default(),
        }
    }

    /// Whether everything that is held has a socket, and everybody who waits is held.
    pub fn is_sound(&self, has_socket: impl Fn(Conn) -> bool) -> bool {
        let queued =
            |conn| self.held.get(conn).is_some_and(|held| matches!(held.stage, Stage::Queued));
        self.connections().all(has_socket) && self.router.queued().all(queued)
    }

    /// What is to be written down, with the [`Fleet`] and the [`Router`]. Nothing may be left to do.
    pub fn save(&self) -> SavedCore {
        SavedCore {
            held: self.held.all().map(|(conn, held)| (conn, held.clone())).collect(),
            returns: self.returns.clone(),
            workers: self.workers.iter().map(|(worker, facts)| (*worker, *facts)).collect(),
            listeners: self.listeners.iter().map(|(listener, first)| (*listener, *first)).collect(),
            drains: self.drains.clone(),
        }
    }

    /// Goes on with what was written down.
    #[must_use]
    pub fn resume(self, saved: SavedCore) -> Self {
        let SavedCore { held, returns, workers, listeners, drains } = saved;
        Self {
            held: held.into(),
            returns,
            workers: workers.into_iter().collect(),
            listeners: listeners.into_iter().collect(),
            drains,
            ..self
        }
    }

    /// Another configuration holds from now on.
    pub fn reconfigure(&mut self, config: CoreConfig, route: RouteConfig) {
        let crew = Footprint { slots: self.config.crew.slots, ..config.crew };
        self.config = CoreConfig { crew, ..config };
        self.resize_room(self.config.crew.slots);
        self.router.reconfigure(route, self.room.queue_limits());
    }

    /// Who lives.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Who gets connections.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// How many connections a worker was given and has not finished.
    pub fn open_on(&mut self, worker: Worker) -> Option<u32> {
        self.router.open_on(worker)
    }

    /// How much may be held.
    pub fn room(&self) -> &Capacity {
        &self.room
    }

    /// How many connections are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// All connections that are held.
    pub fn connections(&self) -> impl Iterator<Item = Conn> {
        self.held.all().map(|(conn, _)| conn)
    }

    /// Those of them whose first bytes are awaited.
    pub fn awaited(&self) -> impl Iterator<Item = Conn> {
        let awaited = |stage: &Stage| matches!(stage, Stage::Head(_));
        self.held.all().filter(move |(_, held)| awaited(&held.stage)).map(|(conn, _)| conn)
    }

    /// Whether no more can be let in, when so many descriptors are used elsewhere for connections.
    pub fn is_full(&mut self, elsewhere: usize) -> bool {
        self.has_most() || self.room.is_full(self.held.len() + elsewhere)
    }

    /// Whether as many are open as may be.
    fn has_most(&self) -> bool {
        let most = self.config.most_connections;
        let held = || (self.held.len() + self.turn.abandoned) as u64;
        most.is_some_and(|most| self.router.open() + held() >= most)
    }

    /// So many times as many messages as configured may be in flight to workers that pick them up quickly.
    pub fn widen(&mut self, now: Time, times: usize) {
        self.router.scale_windows(now, times);
    }

    /// How long first bytes may take now: less when others wait for their place, or the workers for the end.
    fn head_timeout(&self) -> Duration {
        let hurried = self.room.was_full() || self.has_most() || self.fleet.is_stopping();
        let timeout = self.config.head_timeout;
        if hurried { timeout.min(HURRIED) } else { timeout }
    }

    /// When to call [`Self::handle_timeout`], if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let due = [
            self.fleet.poll_timeout(),
            self.router.poll_timeout(now),
            self.held.due(self.head_timeout()),
            self.blocked_until.filter(|_| self.held.queued() > 0),
        ];
        due.into_iter().flatten().min()
    }

    /// What is due by now. Calling it early, late or for nothing is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(conn) = self.held.rested(now) {
            self.look_again(now, conn);
        }
        let timeout = self.head_timeout();
        while let Some(conn) = self.held.overdue(now, timeout) {
            self.head_is_late(now, conn);
        }
        if self.fleet.poll_timeout().is_some_and(|at| at <= now) {
            if self.config.watches {
                // A sign of life that came in time may lie unread when its time is over.
                if !mem::replace(&mut self.judges, true) {
                    self.actions.push_back(Action::ReadChannels);
                }
            } else {
                self.fleet.handle_timeout(now);
            }
        }
    }

    /// A turn of the loop begins. So many connections of workers that are gone are not in the table yet.
    pub fn begin_turn(&mut self, abandoned: usize) {
        let returned = self.held.returned();
        self.turn = Turn { returned, abandoned, ..Turn::default() };
    }

    /// New connections are about to come: workers that seem to have no room are looked at, so that these do
    /// not pass them over.
    pub fn before_accepting(&mut self) {
        self.actions.extend(self.router.full().into_iter().map(Action::LookAtWorker));
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            // Whoever waits goes before somebody who would be sent away.
            if self.crowded.is_empty() {
                return None;
            }
            if !self.send_next(now) {
                self.admit_crowded(now);
            }
        }
    }

    /// Goes on when nothing is left to do: lets those go that wait, then does what the fleet wants. False if
    /// there is nothing.
    #[must_use]
    pub fn advance(&mut self, now: Time) -> bool {
        if self.route_returned(now) || self.look_at_wanted(now) {
            return true;
        }
        if let Some(worker) = self.router.poll_stalled(now) {
            self.actions.push_back(Action::LookAtWorker(worker));
            return true;
        }
        if self.send_next(now) || self.look_at_draining() {
            return true;
        }
        self.report_drained(now);
        self.report_open(now);
        match self.fleet.poll_action() {
            Some(action) => self.carry_out(now, action),
            None => return self.send_drains(),
        }
        true
    }

    /// Takes in what has happened.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Arrived(conn, arrived) => self.arrived(now, conn, arrived),
            Input::Returned(conn, arrived, how) => self.came_back(conn, arrived, how),
            Input::Preface(conn, preface) => self.preface(now, conn, preface),
            Input::Seen(conn, seen) => self.seen(now, conn, &seen),
            Input::Readable { conn, closed } => self.readable(now, conn, closed),
            Input::NoRoomForMore(conn) => self.no_room_for_more(conn),
            Input::Progress(conn, progress) => self.progress(now, conn, progress),
            Input::Gone(conn) => self.connection_is_gone(conn),
            Input::Sent(conn) => self.sent(now, conn),
            Input::NotSent(conn, why) => self.not_sent(now, conn, why),
            Input::TooMuch(conn) => self.too_much(now, conn),
            Input::ChannelsRead => self.channels_read(now),
            Input::Unread(worker, unread) => self.unread(now, worker, unread),
            Input::TakenBack(worker, taken) => self.taken_back(now, worker, taken),
            Input::Said(worker, said) => self.worker_said(now, worker, said),
            Input::Noted(worker, note, noted) => self.noted(now, worker, note, noted),
            Input::Serves(worker, listener) => self.router.add_listener(worker, listener),
            Input::Leaves(worker, listener) => self.router.remove_listener(worker, listener),
            Input::Leads(listener, first) => {
                let own = self.listeners.entry(listener).or_default();
                *own = first.unwrap_or(*own);
            }
            Input::LeadsNowhere(listener) => self.leads_nowhere(listener),
            Input::ListenersClosed => self.listeners_closed(),
            Input::Spawned(worker, reports) => {
                self.workers.insert(worker, Facts::new(reports));
                self.fleet.handle(now, fleet::Input::Spawned(worker));
            }
            Input::SpawnFailed(worker) => {
                self.fleet.handle(now, fleet::Input::SpawnFailed(worker));
            }
            Input::Exited(worker, exit) => self.exited(worker, exit),
            Input::Recovered(worker) => self.recovered(now, worker),
            Input::Recycle(worker, limit) => {
                self.fleet.handle(now, fleet::Input::Recycle(worker, limit));
            }
            Input::Command(command) => self.command(now, command),
        }
    }

    fn command(&mut self, now: Time, command: Command) {
        match command {
            Command::Stop => self.fleet.handle(now, fleet::Input::Stop),
            Command::Restart(config) => self.fleet.restart_with(now, config),
            Command::Configure(config) => self.fleet.reconfigure(now, config),
            Command::RestartLate => self.fleet.handle(now, fleet::Input::Restart),
            Command::More => self.fleet.handle(now, fleet::Input::More),
            Command::Fewer => self.fleet.handle(now, fleet::Input::Fewer),
        }
    }
}
