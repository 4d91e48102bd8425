//! Links: what connects the supervisor and its workers, behind one face for every handoff.
//!
//! A handoff knows no router, no fleet and no listener. What it hears of workers, and what comes back
//! from them, waits here as [`Said`] until somebody asks for it with [`Links::said`].

mod channels;
mod choked;
mod handoff;
mod native;
mod node;
mod said;
mod wires;

use std::io;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use mio::Registry;
use tracing::warn;

use self::channels::{ChannelEvent, ChannelPoll};
use self::handoff::Handoff;
pub(super) use self::handoff::{
    Channels, Facts, NotSent, Pacing, SavedHandoff, TakenBack, Turn, Unread, check, traits,
};
pub(super) use self::said::Said;
use self::wires::Wires;
use super::Connection;
use super::listeners::{Granted, Request};
use crate::logic::Worker;
use crate::logic::config::Config;
use crate::logic::core::{Note, Noted};
use crate::logic::route::Reason;
use crate::logic::time::Time;
use crate::os::kept::{Keeper, Shared};
use crate::os::spawn::Launch;

/// What connects all workers.
#[derive(Debug)]
pub(super) struct Links {
    handoff: Box<dyn Handoff>,
    wires: Wires,
}

impl Links {
    /// None yet, of the handoff that is configured.
    pub(super) fn new(registry: &Registry, now: Time, config: &Config) -> anyhow::Result<Self> {
        let wires = Wires::new(watch(registry)?);
        Ok(Self { handoff: handoff::new(now, config)?, wires })
    }

    /// Those that were written down, to these workers.
    pub(super) fn restore(
        registry: &Registry,
        now: Time,
        config: &Config,
        saved: SavedHandoff,
        workers: &[Worker],
        shared: &mut Shared,
    ) -> anyhow::Result<Self> {
        let mut handoff = handoff::restore(now, config, saved, shared)?;
        let mut wires = Wires::new(watch(registry)?);
        for worker in workers {
            let end = handoff.started(*worker).context("a worker is there without its link")?;
            wires.add(*worker, end)?;
            // Whatever came before the change has to be read without another event.
            wires.became_readable(*worker);
        }
        Ok(Self { handoff, wires })
    }

    /// Writes them down.
    pub(super) fn save(&self, keeper: &mut Keeper) -> SavedHandoff {
        self.handoff.save(keeper)
    }

    /// Workers that are started from now on find this.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.handoff.reconfigure(config);
    }

    /// Makes a link for a worker that is about to be started, and tells that one about its end.
    pub(super) fn prepare(
        &mut self,
        worker: Worker,
        facts: &Facts<'_>,
        launch: &mut Launch,
    ) -> io::Result<()> {
        self.handoff.prepare(worker, facts, launch)
    }

    /// The end that such a worker inherits.
    pub(super) fn workers_end(&self, worker: Worker) -> BorrowedFd<'_> {
        self.handoff
            .workers_end(worker)
            .expect("a worker is started with the link that was prepared")
    }

    /// A worker was started. On an error nothing of it will ever be heard.
    pub(super) fn started(&mut self, worker: Worker) -> io::Result<()> {
        let end = self.handoff.started(worker);
        end.map_or(Ok(()), |end| self.wires.add(worker, end))
    }

    /// A worker could not be started.
    pub(super) fn not_started(&mut self, worker: Worker) {
        self.handoff.not_started(worker);
    }

    /// A worker is gone. What it did not pick up is returned.
    pub(super) fn recover(&mut self, now: Time, worker: Worker) {
        self.wires.remove(worker);
        self.handoff.recover(worker, self.wires.at(now));
    }

    /// Sees what there is to tell of channels by now.
    pub(super) fn look(&mut self, now: Time) {
        match self.wires.at(now).look() {
            Ok(events) => events.into_iter().for_each(|event| self.came(event)),
            Err(error) => warn!(
                name: "channels_poll_failed",
                "cannot poll the channels of workers: {error}"
            ),
        }
    }

    fn came(&mut self, event: ChannelEvent) {
        let ChannelEvent { worker, readable, writable } = event;
        if readable {
            self.wires.became_readable(worker);
        }
        if writable {
            self.handoff.became_writable(worker, &mut self.wires);
        }
    }

    /// Those that have something to read, as far as is known.
    pub(super) fn to_read(&self) -> Vec<Worker> {
        self.wires.to_read()
    }

    /// A worker's turn to be heard, if it has one: everything that lies in its channel, or some of it.
    /// It may have `most_unclosed` descriptors that await closing.
    pub(super) fn turn(
        &mut self,
        now: Time,
        worker: Worker,
        which: Channels,
        most_unclosed: usize,
    ) -> Option<Turn> {
        let mut turn = Turn { worker, which, most_unclosed, began: now, left: 0 };
        self.handoff.begin(&mut turn, self.wires.at(now)).then_some(turn)
    }

    /// Reads the next message in a turn; what it means is then [`Self::said`]. False if the turn is over.
    pub(super) fn receive(&mut self, turn: &mut Turn) -> bool {
        self.handoff.receive(turn, &mut self.wires)
    }

    /// The next thing that was said, by whom.
    pub(super) fn said(&mut self) -> Option<(Worker, Said)> {
        self.wires.said()
    }

    /// Sends a connection to its worker. The supervisor's copy of the socket is closed as soon as
    /// nothing more can become of it.
    ///
    /// One that is not sent comes back.
    pub(super) fn send(
        &mut self,
        now: Time,
        connection: Connection,
        worker: Worker,
        reason: Reason,
    ) -> Result<(), (Connection, NotSent)> {
        self.handoff.send(connection, worker, reason, self.wires.at(now))
    }

    /// Says something to a worker.
    pub(super) fn notify(&mut self, now: Time, worker: Worker, note: Note) -> Noted {
        self.handoff.notify(worker, note, self.wires.at(now))
    }

    /// Answers what a worker asked for.
    pub(super) fn answer(
        &mut self,
        now: Time,
        worker: Worker,
        request: &Request,
        answer: io::Result<Granted>,
    ) {
        self.handoff.answer(worker, request, answer, self.wires.at(now));
    }

    /// How much a worker has not picked up, which says how much room it has.
    pub(super) fn unread(&self, worker: Worker) -> usize {
        self.handoff.unread(worker).unwrap_or_else(|error| {
            warn!(
                name: "channel_query_failed", worker = worker.slot,
                "cannot query the channel of {worker}: {error}"
            );
            usize::MAX
        })
    }

    /// Takes back what a worker which has stopped reading did not pick up, as far as that is safe.
    pub(super) fn take_back(&mut self, now: Time, worker: Worker) -> Option<TakenBack> {
        self.handoff.take_back(worker, self.wires.at(now))
    }

    /// Has the loop tell when these workers pick something up, and no others.
    pub(super) fn watch(&mut self, wanted: Vec<Worker>) {
        self.handoff.watch(wanted, &self.wires);
    }

    /// Whether a connection may wait for its owner, because of which it is kept from now on.
    pub(super) fn may_wait(&mut self, connection: &mut Connection, owner: Worker) -> bool {
        self.handoff.may_wait(connection, owner)
    }

    /// A worker has so many connections open, and can give back no more.
    pub(super) fn limit_returns(&mut self, worker: Worker, open: u32) {
        self.handoff.limit_returns(worker, open);
    }

    /// How many connections are held that did not get into their workers.
    pub(super) fn held(&self) -> usize {
        self.handoff.held() + self.wires.held()
    }

    /// How many descriptors are kept here until this worker has them.
    pub(super) fn on_their_way(&self, worker: Worker) -> usize {
        self.handoff.on_their_way(worker)
    }

    /// How many descriptors are kept here until their workers have them.
    pub(super) fn all_on_their_way(&self) -> usize {
        self.handoff.all_on_their_way()
    }

    /// How to go on when there were so many connections by now.
    pub(super) fn pace(&mut self, now: Time, connections: u64) -> Pacing {
        self.handoff.pace(connections, self.wires.at(now))
    }

    /// Whether something was left for the next turn.
    pub(super) fn has_more(&mut self, now: Time) -> bool {
        self.wires.has_said() || self.wires.at(now).has_more()
    }

    /// When to [`expire`](Self::expire), or to read on.
    pub(super) fn due(&mut self, now: Time) -> Option<Time> {
        self.handoff.due().into_iter().chain(self.wires.at(now).due()).min()
    }

    /// Does what is due by now.
    pub(super) fn expire(&mut self, now: Time) {
        self.handoff.expire(self.wires.at(now));
        self.wires.look_at_files();
    }
}

fn watch(registry: &Registry) -> anyhow::Result<ChannelPoll> {
    ChannelPoll::new(registry).context("cannot create the poll of channels")
}
