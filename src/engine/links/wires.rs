//! The wires: which channels there are, which of them are to be read, and what was read.
//!
//! They are alike in all handoffs, and each handoff is lent them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::RawFd;

use tracing::warn;

use super::Said;
use super::channels::{ChannelEvent, ChannelPoll};
use super::choked::{Choked, ReadState};
use crate::logic::Worker;
use crate::logic::time::Time;

/// All channels.
#[derive(Debug)]
pub(super) struct Wires {
    /// The time of this turn of the loop.
    pub(super) now: Time,
    channels: ChannelPoll,
    /// The supervisor's ends.
    ends: BTreeMap<Worker, RawFd>,
    /// Those that had something to read, and nothing said yet that there is no more.
    readable: BTreeSet<Worker>,
    /// Those whose workers took long to hear, and until when these are not heard again.
    resting: BTreeMap<Worker, Time>,
    choked: Choked,
    /// What was said and not yet told.
    said: VecDeque<(Worker, Said)>,
}

impl Wires {
    pub(super) fn new(channels: ChannelPoll) -> Self {
        Self {
            now: Time::default(),
            channels,
            ends: BTreeMap::new(),
            readable: BTreeSet::new(),
            resting: BTreeMap::new(),
            choked: Choked::default(),
            said: VecDeque::new(),
        }
    }

    /// The same, at this time.
    pub(super) fn at(&mut self, now: Time) -> &mut Self {
        self.now = now;
        self
    }

    /// Watches the channel of a worker from now on.
    pub(super) fn add(&mut self, worker: Worker, end: RawFd) -> io::Result<()> {
        self.ends.insert(worker, end);
        self.channels.add(worker, end)
    }

    /// A worker is gone.
    pub(super) fn remove(&mut self, worker: Worker) {
        self.ends.remove(&worker);
        self.readable.remove(&worker);
        self.resting.remove(&worker);
        self.choked.forget(worker);
    }

    /// Tells of a channel when it can be read, and perhaps also when there is room. Returns whether
    /// that could be had.
    pub(super) fn watch(&self, worker: Worker, room: bool) -> bool {
        let Some(end) = self.ends.get(&worker) else { return true };
        let watched = self.channels.watch(worker, *end, room);
        if let Err(error) = &watched {
            warn!(
                name: "channel_watch_failed", worker = worker.slot,
                "cannot watch the channel of {worker}: {error}"
            );
        }
        watched.is_ok()
    }

    /// What has come up since the last look.
    pub(super) fn look(&mut self) -> io::Result<Vec<ChannelEvent>> {
        self.channels.look()
    }

    /// A worker has said this.
    pub(super) fn say(&mut self, worker: Worker, said: Said) {
        self.said.push_back((worker, said));
    }

    /// The next thing that was said.
    pub(super) fn said(&mut self) -> Option<(Worker, Said)> {
        self.said.pop_front()
    }

    pub(super) fn has_said(&self) -> bool {
        !self.said.is_empty()
    }

    /// How many connections are in what was said.
    pub(super) fn held(&self) -> usize {
        let has_connection = |said: &Said| {
            matches!(said, Said::Returned(..) | Said::GivenBack { connection: Some(_), .. })
        };
        self.said.iter().filter(|(_, said)| has_connection(said)).count()
    }

    /// A channel has something to read.
    pub(super) fn became_readable(&mut self, worker: Worker) {
        if self.ends.contains_key(&worker) {
            self.readable.insert(worker);
        }
    }

    /// Nothing is left to read in a channel.
    pub(super) fn was_read(&mut self, worker: Worker) {
        self.readable.remove(&worker);
    }

    /// Those whose channels are to be read.
    pub(super) fn to_read(&self) -> Vec<Worker> {
        self.readable.iter().copied().collect()
    }

    /// Whether a channel has messages that were left for the next turn.
    pub(super) fn has_more(&self) -> bool {
        let waits = |worker| self.choked.has(worker) || self.rests(worker);
        self.readable.iter().any(|worker| !waits(*worker))
    }

    /// A worker is not heard again before this time, so that others have theirs.
    pub(super) fn rest(&mut self, worker: Worker, until: Time) {
        if self.ends.contains_key(&worker) {
            self.resting.insert(worker, until);
        }
    }

    /// Whether a worker is not to be heard yet.
    pub(super) fn rests(&self, worker: Worker) -> bool {
        self.resting.get(&worker).is_some_and(|until| self.now < *until)
    }

    /// When something is due here.
    pub(super) fn due(&self) -> Option<Time> {
        let rested = self.readable.iter().filter_map(|worker| self.resting.get(worker)).min();
        rested.copied().into_iter().chain(self.choked.due(self.now)).min()
    }

    /// Whether a worker is not to be heard, since more than `most` of what it sent await closing. It is
    /// ended when this takes too long.
    pub(super) fn is_choked(&mut self, worker: Worker, most: usize) -> bool {
        let state = self.choked.judge(self.now, worker, most);
        if state == ReadState::TooLong {
            self.say(worker, Said::Condemned);
        }
        state != ReadState::Open
    }

    /// Has those workers ended that have sent files which do not close.
    pub(super) fn look_at_files(&mut self) {
        for worker in self.choked.look_at_files(self.now, |worker| self.ends.contains_key(&worker))
        {
            self.say(worker, Said::Condemned);
        }
    }
}
