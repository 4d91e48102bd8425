//! What an event of the loop is about.

use crate::logic::Worker;
use crate::logic::route::Conn;

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    /// A signal came.
    Signals,
    /// The listener of this number.
    Listener(u32),
    /// The channel with this number to this worker, in the poll of channels.
    Channel(Worker, u8),
    /// Some of the channels.
    Channels,
    /// A connection whose first bytes are awaited.
    Pending(Conn),
    /// The pipe with this number, which a worker writes to.
    Output(u32),
}

const KINDS: usize = 6;
/// Where the slot begins in the token of a channel, above the number of the channel.
const SLOT_AT: u32 = u8::BITS;
/// Where the generation begins there.
const GENERATION_AT: u32 = SLOT_AT + u16::BITS;

impl From<Subject> for mio::Token {
    fn from(subject: Subject) -> Self {
        let (kind, number) = match subject {
            Subject::Signals => (0, 0),
            Subject::Listener(number) => (1, number as usize),
            Subject::Channel(Worker { slot, generation }, channel) => {
                let worker = (generation as usize) << GENERATION_AT | usize::from(slot) << SLOT_AT;
                (2, worker | usize::from(channel))
            }
            Subject::Channels => (5, 0),
            Subject::Pending(Conn(number)) => (3, number as usize),
            Subject::Output(number) => (4, number as usize),
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
            2 => {
                let slot = (number >> SLOT_AT) as u16;
                let generation = (number >> GENERATION_AT) as u32;
                Self::Channel(Worker { slot, generation }, number as u8)
            }
            3 => Self::Pending(Conn(number as u64)),
            4 => Self::Output(number as u32),
            _ => Self::Channels,
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
            Subject::Channel(Worker { slot: 0, generation: 0 }, 0),
            Subject::Channel(Worker { slot: 0, generation: 0 }, 1),
            Subject::Channel(Worker { slot: 1, generation: 1 << 20 }, 0),
            Subject::Channel(Worker { slot: u16::MAX, generation: u32::MAX }, u8::MAX),
            Subject::Channels,
            Subject::Pending(Conn(0)),
            Subject::Pending(Conn(1 << 40)),
            Subject::Output(0),
            Subject::Output(u32::MAX),
        ];
        for subject in all {
            assert_eq!(Subject::from(mio::Token::from(subject)), subject);
        }
    }
}
