//! What an event of the loop is about.

use crate::logic::route::Conn;

/// The source of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A signal came.
    Signals,
    /// The listener of this number.
    Listener(usize),
    /// The channel to the worker in this slot.
    Channel(u16),
    /// A connection whose first bytes are awaited.
    Pending(Conn),
}

const KINDS: usize = 4;

impl From<Source> for mio::Token {
    fn from(source: Source) -> Self {
        let (kind, number) = match source {
            Source::Signals => (0, 0),
            Source::Listener(number) => (1, number),
            Source::Channel(slot) => (2, usize::from(slot)),
            Source::Pending(Conn(number)) => (3, number as usize),
        };
        Self(number.wrapping_mul(KINDS) + kind)
    }
}

impl From<mio::Token> for Source {
    fn from(token: mio::Token) -> Self {
        let number = token.0 / KINDS;
        match token.0 % KINDS {
            0 => Self::Signals,
            1 => Self::Listener(number),
            2 => Self::Channel(u16::try_from(number).unwrap_or(u16::MAX)),
            _ => Self::Pending(Conn(number as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_token_of_its_own() {
        let all = [
            Source::Signals,
            Source::Listener(0),
            Source::Listener(7),
            Source::Channel(0),
            Source::Channel(u16::MAX),
            Source::Pending(Conn(0)),
            Source::Pending(Conn(1 << 40)),
        ];
        for source in all {
            assert_eq!(Source::from(mio::Token::from(source)), source);
        }
    }
}
