//! What an event of the loop is about, and which of a channel are wanted.

use std::io;
use std::os::fd::RawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::output::part::Part;
use crate::logic::Worker;
use crate::logic::output::Stream;
use crate::logic::route::Conn;

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    /// A signal came.
    Signals,
    /// The listener of this number.
    Listener(u32),
    /// The channel to this worker.
    Channel(Worker),
    /// A connection whose first bytes are awaited.
    Pending(Conn),
    /// Output of workers.
    Output(Part),
}

/// Has the loop tell of a channel when it can be read, and perhaps also when there is room.
pub(super) fn watch(registry: &Registry, fd: RawFd, token: Token, room: bool) -> io::Result<()> {
    let interest = if room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    registry.reregister(&mut SourceFd(&fd), token, interest)
}

const KINDS: usize = 5;
/// The bits of a slot in a token; those of the generation stand above them.
const SLOT_BITS: u32 = u16::BITS;

impl From<Subject> for mio::Token {
    fn from(subject: Subject) -> Self {
        let (kind, number) = match subject {
            Subject::Signals => (0, 0),
            Subject::Listener(number) => (1, number as usize),
            Subject::Channel(Worker { slot, generation }) => {
                (2, (generation as usize) << SLOT_BITS | usize::from(slot))
            }
            Subject::Pending(Conn(number)) => (3, number as usize),
            Subject::Output(Part::Room(Stream::Stdout)) => (4, 0),
            Subject::Output(Part::Room(Stream::Stderr)) => (4, 1),
            Subject::Output(Part::Pipe(number)) => (4, number as usize + 2),
        };
        Self(number.wrapping_mul(KINDS) + kind)
    }
}

impl From<mio::Token> for Subject {
    fn from(token: mio::Token) -> Self {
        let number = token.0 / KINDS;
        match token.0 % KINDS {
            0 => Self::Signals,
            1 => Self::Listener(number as u32),
            2 => Self::Channel(Worker {
                slot: number as u16,
                generation: (number >> SLOT_BITS) as u32,
            }),
            3 => Self::Pending(Conn(number as u64)),
            _ => Self::Output(match number {
                0 => Part::Room(Stream::Stdout),
                1 => Part::Room(Stream::Stderr),
                number => Part::Pipe((number - 2) as u32),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_has_a_token_of_its_own() {
        let all = [
            Subject::Signals,
            Subject::Listener(0),
            Subject::Listener(7),
            Subject::Channel(Worker { slot: 0, generation: 0 }),
            Subject::Channel(Worker { slot: 1, generation: 1 << 20 }),
            Subject::Channel(Worker { slot: u16::MAX, generation: u32::MAX }),
            Subject::Pending(Conn(0)),
            Subject::Pending(Conn(1 << 40)),
            Subject::Output(Part::Room(Stream::Stdout)),
            Subject::Output(Part::Room(Stream::Stderr)),
            Subject::Output(Part::Pipe(0)),
            Subject::Output(Part::Pipe(u32::MAX)),
        ];
        for subject in all {
            assert_eq!(Subject::from(mio::Token::from(subject)), subject);
        }
    }
}
