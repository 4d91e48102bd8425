//! The handoff `channel`: workers that receive datagrams with connections, see `sticky-run-channel(7)`.

mod receive;
mod recovery;

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use serde::{Deserialize, Serialize};
use sticky_worker::message::{
    ENV_CHANNEL, ENV_CHANNEL_INODE, ENV_CHANNEL_KEYS, ENV_PROTOCOL, MAX_MESSAGE,
    MAX_WORKER_MESSAGE, PROTOCOL, ToWorker,
};
use tracing::debug;

use self::recovery::{Recovery, SavedRecovery};
use crate::engine::links::channels::ChannelPoll;
use crate::engine::{Connection, Engine};
use crate::logic::Worker;
use crate::logic::route::key::KeyList;
use crate::logic::time::Time;
use crate::os::fdpass::{Buffer, Channel};
use crate::os::kept::{Keeper, Kept};
use crate::os::spawn::Launch;

/// The longest message with a connection, to measure what one costs.
const LONGEST: &[u8] =
    b"CONN client=[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535 listener=65535\n";

/// What all links of this handoff share.
#[derive(Debug)]
pub(in crate::engine) struct Native {
    /// What the kernel charges for one message in flight, in bytes.
    charge: usize,
    buffer: Box<Buffer>,
    recovery: Recovery,
}

/// What all links of this handoff share, in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedNative {
    charge: usize,
    recovery: SavedRecovery,
}

impl Native {
    pub(in crate::engine) fn new() -> io::Result<Self> {
        Ok(Self::with(Channel::charge(LONGEST)?, Recovery::default()))
    }

    fn with(charge: usize, recovery: Recovery) -> Self {
        Self { charge, buffer: Box::new([0; MAX_WORKER_MESSAGE + 1]), recovery }
    }

    /// Writes down what could not be taken back yet.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedNative {
        SavedNative { charge: self.charge, recovery: self.recovery.save(keeper) }
    }

    /// Goes on with what was written down.
    pub(in crate::engine) fn restore(now: Time, saved: SavedNative) -> io::Result<Self> {
        Ok(Self::with(saved.charge, Recovery::restore(now, saved.recovery)?))
    }

    /// How many messages a worker has not picked up.
    pub(in crate::engine) fn unread(&self, link: &NativeLink) -> io::Result<usize> {
        Ok(link.channel.unread_bytes()?.div_ceil(self.charge))
    }

    /// When to call [`Engine::recover_rest`].
    pub(in crate::engine) fn recovery_due(&self) -> Option<Time> {
        self.recovery.due()
    }

    /// How many channels may still hold connections of workers that are gone.
    pub(in crate::engine) fn abandoned(&self) -> usize {
        self.recovery.abandoned()
    }
}

/// What connects a worker that speaks the native protocol.
#[derive(Debug)]
pub(in crate::engine) struct NativeLink {
    pub(in crate::engine) channel: Channel,
}

/// A channel in a state.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::engine) struct SavedChannel {
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

impl NativeLink {
    /// Writes it down.
    pub(in crate::engine) fn save(&self, keeper: &mut Keeper) -> SavedChannel {
        SavedChannel::save(&self.channel, keeper)
    }

    /// The link that was written down.
    pub(in crate::engine) fn restore(saved: &SavedChannel, worker: Worker) -> io::Result<Self> {
        Ok(Self { channel: saved.restore(worker)? })
    }

    pub(in crate::engine) fn new(worker: Worker) -> io::Result<Self> {
        Ok(Self { channel: Channel::new(worker)? })
    }

    /// Tells a worker that is about to be started about its end.
    pub(in crate::engine) fn prepare(&self, keys: &KeyList, launch: &mut Launch) -> io::Result<()> {
        let variables = [
            (ENV_CHANNEL_KEYS, keys.looked_for()),
            (ENV_CHANNEL, self.channel.workers_end().as_raw_fd().to_string()),
            (ENV_CHANNEL_INODE, self.channel.inode()?.to_string()),
            (ENV_PROTOCOL, PROTOCOL.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.into(), Some(value.into())));
        launch.environment.extend(variables);
        Ok(())
    }

    /// Sends a connection; it stays with the caller.
    pub(in crate::engine) fn send(&self, connection: &Connection) -> io::Result<()> {
        let mut buffer = [0; MAX_MESSAGE];
        let Connection { client, listener, .. } = *connection;
        let listener = listener.and_then(|number| u16::try_from(number).ok());
        let message = ToWorker::Conn { client, listener }.encode(&mut buffer);
        self.channel.send(message, Some(connection.socket.as_fd()))
    }

    /// Has the loop tell when the worker picks something up, if that is `wanted`.
    pub(in crate::engine) fn watch(
        &self,
        channels: &ChannelPoll,
        worker: Worker,
        wanted: bool,
    ) -> io::Result<()> {
        channels.watch(worker, self.channel.as_raw_fd(), wanted)
    }
}

impl Engine {
    pub(in crate::engine) fn drain_native(&mut self, worker: Worker) -> bool {
        self.send_note(worker, &ToWorker::Drain)
    }

    /// Asks a worker for a sign of life. One that has no room for the question does not read, which
    /// is an answer too.
    pub(in crate::engine) fn ping_native(&mut self, worker: Worker) {
        self.send_note(worker, &ToWorker::Ping);
    }

    /// Sends a message without a connection.
    fn send_note(&mut self, worker: Worker, message: &ToWorker) -> bool {
        let mut buffer = [0; MAX_MESSAGE];
        let Some(link) = self.workers.get(worker).and_then(|live| live.link.native()) else {
            return true;
        };
        match link.channel.send(message.encode(&mut buffer), None) {
            Ok(()) => {
                self.router.note_sent(self.now, worker);
                true
            }
            Err(error) => {
                let message = String::from_utf8_lossy(message.encode(&mut buffer)).into_owned();
                debug!(
                    name: "message_unsent", worker = worker.slot,
                    "cannot tell {worker} {}: {error}",
                    message.trim_end()
                );
                false
            }
        }
    }
}
