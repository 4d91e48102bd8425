//! The handoff `channel`: workers that receive datagrams with connections, see `sticky-run-channel(7)`.

mod receive;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use serde::{Deserialize, Serialize};
use sticky_worker::message::{
    ENV_CHANNEL, ENV_CHANNEL_INODE, ENV_CHANNEL_KEYS, ENV_PROTOCOL, MAX_MESSAGE,
    MAX_WORKER_MESSAGE, PROTOCOL, ToWorker,
};
use tracing::debug;

use self::recovery::{Recovery, SavedRecovery};
use super::handoff::{Facts, Handoff, NotSent, SavedHandoff, TakenBack, Traits, Turn};
use super::wires::Wires;
use crate::engine::Connection;
use crate::logic::Worker;
use crate::logic::core::{Note, Noted, Reports};
use crate::logic::route::Reason;
use crate::logic::time::Time;
use crate::os::fdpass::{Buffer, Channel};
use crate::os::kept::{Keeper, Kept};
use crate::os::listen::Mode;
use crate::os::spawn::Launch;

/// The longest message with a connection, to measure what one costs.
const LONGEST: &[u8] =
    b"CONN client=[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535 listener=65535\n";

/// The channels of all workers. A worker with several of them needs a list here, their numbers in the wires, and
/// messages that say which one they are about.
#[derive(Debug)]
pub(super) struct Native {
    channels: BTreeMap<Worker, Channel>,
    /// What the kernel charges for one message in flight, in bytes.
    charge: usize,
    buffer: Box<Buffer>,
    /// The workers of which the loop tells when they pick something up.
    watched: BTreeSet<Worker>,
    recovery: Recovery,
}

/// The channels in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedNative {
    charge: usize,
    channels: Vec<(Worker, SavedChannel)>,
    recovery: SavedRecovery,
}

/// A channel in a state.
#[derive(Debug, Deserialize, Serialize)]
struct SavedChannel {
    ours: Kept,
    theirs: Kept,
}

impl SavedChannel {
    fn save(channel: &Channel, keeper: &mut Keeper) -> Self {
        Self { ours: keeper.keep(channel), theirs: keeper.keep(&channel.workers_end()) }
    }

    fn restore(&self, worker: Worker) -> io::Result<Channel> {
        Ok(Channel::from_ends(self.ours.take_over()?, self.theirs.take_over()?, worker))
    }
}

impl Native {
    pub(super) const TRAITS: Traits = Traits {
        mode: Mode::Blocking,
        mints: false,
        reports: Reports::Ends,
        asks_to_listen: false,
        how_to_be_ready: "with --handoff channel a worker does not listen but sends READY on its channel, see \
                          sticky-run-channel(7); a Node server behind a script or another program needs \
                          --handoff node",
    };

    pub(super) fn new() -> io::Result<Self> {
        Ok(Self::with(Channel::charge(LONGEST)?, BTreeMap::new(), Recovery::default()))
    }

    fn with(charge: usize, channels: BTreeMap<Worker, Channel>, recovery: Recovery) -> Self {
        let buffer = Box::new([0; MAX_WORKER_MESSAGE + 1]);
        Self { channels, charge, buffer, watched: BTreeSet::new(), recovery }
    }

    /// Goes on with what was written down.
    pub(super) fn restore(now: Time, saved: SavedNative) -> io::Result<Self> {
        let SavedNative { charge, channels, recovery } = saved;
        let channels = channels.into_iter();
        let channels = channels.map(|(worker, channel)| Ok((worker, channel.restore(worker)?)));
        let channels = channels.collect::<io::Result<_>>()?;
        Ok(Self::with(charge, channels, Recovery::restore(now, recovery)?))
    }
}

impl Handoff for Native {
    fn prepare(
        &mut self,
        worker: Worker,
        facts: &Facts<'_>,
        launch: &mut Launch,
    ) -> io::Result<()> {
        let channel = Channel::new(worker)?;
        let variables = [
            (ENV_CHANNEL_KEYS, facts.keys.looked_for()),
            (ENV_CHANNEL, channel.workers_end().as_raw_fd().to_string()),
            (ENV_CHANNEL_INODE, channel.inode()?.to_string()),
            (ENV_PROTOCOL, PROTOCOL.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.into(), Some(value.into())));
        launch.environment.extend(variables);
        self.channels.insert(worker, channel);
        Ok(())
    }

    fn workers_end(&self, worker: Worker) -> Option<BorrowedFd<'_>> {
        self.channels.get(&worker).map(Channel::workers_end)
    }

    /// The worker's end stays open here, for the day when something has to be taken back from it.
    fn started(&mut self, worker: Worker) -> Option<RawFd> {
        self.channels.get(&worker).map(AsRawFd::as_raw_fd)
    }

    fn not_started(&mut self, worker: Worker) {
        self.channels.remove(&worker);
    }

    fn recover(&mut self, worker: Worker, wires: &mut Wires) {
        self.watched.remove(&worker);
        if let Some(channel) = self.channels.remove(&worker) {
            self.recovery.abandon(worker, channel, wires);
        }
    }

    fn begin(&mut self, turn: &mut Turn, _wires: &mut Wires) -> bool {
        turn.left = receive::most(turn.which);
        self.channels.contains_key(&turn.worker)
    }

    fn receive(&mut self, turn: &mut Turn, wires: &mut Wires) -> bool {
        self.read(turn, wires)
    }

    fn send(
        &mut self,
        connection: Connection,
        worker: Worker,
        _reason: Reason,
        _wires: &mut Wires,
    ) -> Result<(), (Connection, NotSent)> {
        let Some(channel) = self.channels.get(&worker) else {
            return Err((connection, io::Error::from_raw_os_error(libc::ESRCH).into()));
        };
        let mut buffer = [0; MAX_MESSAGE];
        let Connection { client, listener, .. } = connection;
        let listener = listener.and_then(|number| u16::try_from(number).ok());
        let message = ToWorker::Conn { client, listener }.encode(&mut buffer);
        let sent = channel.send(message, Some(connection.socket.as_fd()));
        sent.map_err(|error| (connection, error.into()))
    }

    fn notify(&mut self, worker: Worker, note: Note, _wires: &mut Wires) -> Noted {
        let Some(channel) = self.channels.get(&worker) else { return Noted::Told };
        match note {
            Note::Drain | Note::Withdraw => send_note(worker, channel, &ToWorker::Drain),
            // It waits for TERM.
            Note::Close { .. } => Noted::NotHeard,
            // One that has no room for the question does not read, which is an answer too.
            Note::Ping => send_note(worker, channel, &ToWorker::Ping),
        }
    }

    fn unread(&self, worker: Worker) -> io::Result<usize> {
        let Some(channel) = self.channels.get(&worker) else { return Ok(0) };
        Ok(channel.unread_bytes()?.div_ceil(self.charge))
    }

    fn take_back(&mut self, worker: Worker, wires: &Wires) -> Option<TakenBack> {
        self.relieve(wires.now, worker)
    }

    fn watch(&mut self, wanted: Vec<Worker>, wires: &Wires) {
        let wanted = BTreeSet::from_iter(wanted);
        for worker in wanted.symmetric_difference(&self.watched) {
            wires.watch(*worker, wanted.contains(worker));
        }
        self.watched = wanted;
    }

    fn due(&self) -> Option<Time> {
        self.recovery.due()
    }

    fn expire(&mut self, wires: &mut Wires) {
        self.recovery.expire(wires);
    }

    fn held(&self) -> usize {
        self.recovery.abandoned()
    }

    fn save(&self, keeper: &mut Keeper) -> SavedHandoff {
        let channels = self.channels.iter();
        let channels =
            channels.map(|(worker, channel)| (*worker, SavedChannel::save(channel, keeper)));
        SavedHandoff::Native(SavedNative {
            charge: self.charge,
            channels: channels.collect(),
            recovery: self.recovery.save(keeper),
        })
    }
}

/// Sends a message without a connection.
fn send_note(worker: Worker, channel: &Channel, message: &ToWorker) -> Noted {
    let mut buffer = [0; MAX_MESSAGE];
    match channel.send(message.encode(&mut buffer), None) {
        Ok(()) => Noted::InFlight,
        Err(error) => {
            let message = String::from_utf8_lossy(message.encode(&mut buffer)).into_owned();
            debug!(
                name: "message_unsent", worker = worker.slot,
                "cannot send {worker} {}: {error}",
                message.trim_end()
            );
            Noted::NoRoom
        }
    }
}
