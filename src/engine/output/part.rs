//! What an event about output can mean.

use crate::logic::output::Stream;

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::engine) enum Part {
    /// There is room in one of our own streams.
    Room(Stream),
    /// The pipe with this number can be read.
    Pipe(u32),
}
