//! Starts that came to nothing.

use std::fmt;

use super::input::Exit;

/// Why a start failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailedStart {
    /// There was no process.
    NoProcess,
    /// It ended before it was ready.
    Exited(Exit),
    /// It was not ready in time and was ended.
    NotInTime,
}

impl fmt::Display for FailedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess => f.write_str("could not be started"),
            Self::Exited(exit) => write!(f, "exited before it was ready ({exit})"),
            Self::NotInTime => f.write_str("was not ready in time"),
        }
    }
}
