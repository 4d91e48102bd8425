//! Channels with something to tell: one look for all of them, however many workers there are.
//!
//! Channels are in a poll of their own, which the loop's poll watches like any descriptor. Before a
//! key that nobody knows is placed, everything that lies in channels has to be heard: what this poll
//! tells then, and what it told before and was not read to its end, is all there is.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry};

use crate::engine::tokens::Subject;
use crate::logic::Worker;

/// Events taken at one go.
const AT_ONCE: usize = 256;
/// The number of the channel of a worker that has one.
const ONLY: u8 = 0;

/// The poll of all channels.
#[derive(Debug)]
pub(in crate::engine) struct ChannelPoll {
    poll: Poll,
    events: Events,
}

/// What there is to tell of one channel.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct ChannelEvent {
    pub(in crate::engine) worker: Worker,
    /// There is something to read, or the end.
    pub(in crate::engine) readable: bool,
    /// There is room to write.
    pub(in crate::engine) writable: bool,
}

impl ChannelPoll {
    /// An empty one, which the loop is told of.
    pub(in crate::engine) fn new(registry: &Registry) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (fd, token) = (poll.as_raw_fd(), Subject::Channels.into());
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(AT_ONCE) })
    }

    /// Watches the channel of a worker, until it is closed.
    pub(in crate::engine) fn add(&self, worker: Worker, fd: RawFd) -> io::Result<()> {
        let token = Subject::Channel(worker, ONLY).into();
        self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Tells of a channel when it can be read, and perhaps also when there is room.
    pub(in crate::engine) fn watch(&self, worker: Worker, fd: RawFd, room: bool) -> io::Result<()> {
        let readable = Interest::READABLE;
        let interest = if room { readable | Interest::WRITABLE } else { readable };
        let token = Subject::Channel(worker, ONLY).into();
        self.poll.registry().reregister(&mut SourceFd(&fd), token, interest)
    }

    /// What has come up since the last look.
    pub(in crate::engine) fn look(&mut self) -> io::Result<Vec<ChannelEvent>> {
        let mut all = Vec::new();
        loop {
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let before = all.len();
            all.extend(self.events.iter().filter_map(|event| match event.token().into() {
                Subject::Channel(worker, _) => Some(ChannelEvent {
                    worker,
                    readable: event.is_readable() || event.is_read_closed(),
                    writable: event.is_writable(),
                }),
                Subject::Signals
                | Subject::Listener(_)
                | Subject::Channels
                | Subject::Pending(_)
                | Subject::Output(_) => None,
            }));
            if all.len() - before < AT_ONCE {
                return Ok(all);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn one_look_tells_of_every_channel_that_has_something_and_of_no_other() {
        let mut main = Poll::new().unwrap();
        let mut channels = ChannelPoll::new(main.registry()).unwrap();
        let worker = |slot| Worker { slot, generation: 3 };
        // More than one look takes at one go.
        let mut pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
        for (slot, (ours, _)) in (0..).zip(&pairs) {
            channels.add(worker(slot), ours.as_raw_fd()).unwrap();
        }
        let mut events = Events::with_capacity(8);
        let mut is_told = || {
            main.poll(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().any(|event| Subject::from(event.token()) == Subject::Channels)
        };
        let told = |channels: &mut ChannelPoll| -> Vec<u16> {
            let events = channels.look().unwrap();
            assert!(events.iter().all(|event| event.readable && !event.writable));
            let mut told: Vec<_> = events.iter().map(|event| event.worker.slot).collect();
            told.sort_unstable();
            told
        };
        assert!(!is_told() && told(&mut channels).is_empty());
        for slot in (0..600).step_by(2) {
            pairs[slot].1.write_all(b"READY").unwrap();
        }
        assert!(is_told());
        assert!(told(&mut channels).into_iter().eq((0..600).step_by(2)));
        // What was told once is not told again, and what comes later is, also on the same channel.
        pairs[4].0.read_exact(&mut [0; 2]).unwrap();
        pairs[2].1.write_all(b"x").unwrap();
        drop(pairs.swap_remove(599).1);
        assert!(is_told());
        assert_eq!(told(&mut channels), [2]);
        assert!(!is_told());
    }
}
