//! Accepting: one connection after the other, for as long as the caller has room for them.

use std::io;
use std::time::Duration;
use std::vec;

use nix::libc;
use tracing::warn;

use super::Listeners;
use crate::logic::time::Time;
use crate::os::listen::{Accepted, Listener};

/// Connections accepted from one listener before others get their turn.
const BATCH: usize = 64;
/// Connections accepted from all listeners before everything else gets its turn.
const TURN: usize = 1024;
/// The rest after the system had no descriptor or no memory for a connection, or a listener failed.
const REST: Duration = Duration::from_millis(100);
/// Connections accepted from one listener before it is closed: more than any backlog holds.
const WHOLE_BACKLOG: usize = 1 << 17;
/// Errors that were pending on a new connection and say nothing about the listener (`accept(2)`).
const OF_ONE_CONNECTION: [i32; 10] = [
    libc::ECONNABORTED,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EINTR,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPROTO,
];

/// What became of one attempt to accept.
enum Attempt {
    Accepted(Accepted),
    /// This connection failed before it was accepted; the next one may be there.
    Aborted,
    Empty,
    Failed(io::Error),
}

/// A connection that was accepted, and from which listener.
#[derive(Debug)]
pub(in crate::engine) struct Arrived {
    pub(in crate::engine) accepted: Accepted,
    pub(in crate::engine) listener: u32,
    /// The kernel may have held it back.
    pub(in crate::engine) is_deferred: bool,
}

/// Which listeners to accept from, and how often.
#[derive(Debug)]
pub(in crate::engine) struct Round {
    numbers: vec::IntoIter<u32>,
    /// So many connections from each.
    batch: usize,
    /// The one whose turn it is, and how often it still is.
    current: (u32, usize),
}

/// A listener that another one has replaced.
#[derive(Debug)]
pub(super) struct Replaced {
    number: u32,
    listener: Listener,
    /// How often to accept from it at most.
    left: usize,
}

impl Round {
    fn new(numbers: Vec<u32>, batch: usize) -> Self {
        Self { numbers: numbers.into_iter(), batch, current: (0, 0) }
    }

    /// Whether nothing is left to try.
    pub(in crate::engine) fn is_over(&self) -> bool {
        self.current.1 == 0 && self.numbers.as_slice().is_empty()
    }

    /// The number of the listener to try next.
    fn next(&mut self) -> Option<u32> {
        if self.current.1 == 0 {
            self.current = (self.numbers.next()?, self.batch);
        }
        self.current.1 -= 1;
        Some(self.current.0)
    }

    /// Nothing more comes from this listener.
    fn skip(&mut self) {
        self.current.1 = 0;
    }
}

impl Replaced {
    pub(super) fn new(number: u32, listener: Listener) -> Self {
        Self { number, listener, left: WHOLE_BACKLOG }
    }

    pub(super) fn is_of(&self, number: u32) -> bool {
        self.number == number
    }
}

impl Listeners {
    /// A turn of accepting from every listener that has something.
    pub(in crate::engine) fn round(&mut self, now: Time) -> Round {
        if self.is_resting(now) {
            return Round::new(Vec::new(), 0);
        }
        self.resting_until = None;
        let ready: Vec<_> = self.ready.iter().copied().collect();
        let batch = (TURN / ready.len().max(1)).clamp(1, BATCH);
        Round::new(ready, batch)
    }

    /// Accepting what the kernel has already completed for a listener.
    pub(in crate::engine) fn backlog(&mut self, number: u32) -> Round {
        // Whether or not the loop has said so yet.
        self.became_readable(number);
        Round::new(vec![number], WHOLE_BACKLOG)
    }

    /// Accepts the next connection of a round.
    pub(in crate::engine) fn accept(&mut self, now: Time, round: &mut Round) -> Option<Arrived> {
        loop {
            let number = round.next()?;
            let Some(listener) = self.get(number).filter(|_| self.ready.contains(&number)) else {
                round.skip();
                continue;
            };
            let is_deferred = listener.is_deferred();
            match attempt(listener) {
                Attempt::Accepted(accepted) => {
                    return Some(Arrived { accepted, listener: number, is_deferred });
                }
                Attempt::Aborted => {}
                Attempt::Empty => {
                    self.ready.remove(&number);
                }
                Attempt::Failed(error) => {
                    self.rest(now, &error);
                    round.skip();
                }
            }
        }
    }

    /// Whether connections may have come to listeners before they were replaced.
    pub(in crate::engine) fn has_replaced(&self, now: Time) -> bool {
        !self.replaced.is_empty() && !self.is_resting(now)
    }

    /// Accepts the next one of those.
    pub(in crate::engine) fn accept_replaced(&mut self, now: Time) -> Option<Arrived> {
        while let Some(replaced) = self.replaced.first_mut() {
            let attempt =
                if replaced.left == 0 { Attempt::Empty } else { attempt(&replaced.listener) };
            replaced.left = replaced.left.saturating_sub(1);
            match attempt {
                Attempt::Accepted(accepted) => {
                    let is_deferred = replaced.listener.is_deferred();
                    return Some(Arrived { accepted, listener: replaced.number, is_deferred });
                }
                Attempt::Aborted => {}
                Attempt::Empty => {
                    self.replaced.remove(0);
                }
                Attempt::Failed(error) => {
                    self.rest(now, &error);
                    return None;
                }
            }
        }
        None
    }

    fn is_resting(&self, now: Time) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }

    fn rest(&mut self, now: Time, error: &io::Error) {
        self.resting_until = Some(now + REST);
        if let Some(before) = self.no_room.allow(now) {
            let full = error.raw_os_error() == Some(libc::EMFILE);
            let hint = if full { "raise the limit on open files; " } else { "" };
            warn!(
                name: "accept_paused", %error, suppressed = before,
                "cannot accept: {error}; new connections stay in the backlog, retrying every {} ms \
                 ({hint}{before} earlier times not shown)",
                REST.as_millis()
            );
        }
    }
}

fn attempt(listener: &Listener) -> Attempt {
    match listener.accept() {
        Ok(accepted) => Attempt::Accepted(accepted),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Attempt::Empty,
        Err(error) => match error.raw_os_error() {
            Some(errno) if OF_ONE_CONNECTION.contains(&errno) => Attempt::Aborted,
            _ => Attempt::Failed(error),
        },
    }
}
