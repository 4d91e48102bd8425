//! The limit on file descriptors, `RLIMIT_NOFILE` of `setrlimit(2)`.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use serde::{Deserialize, Serialize};

/// The limit as it was before the supervisor raised its own, for the workers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileLimit {
    pub(super) soft: rlim_t,
    pub(super) hard: rlim_t,
}

/// Raises the soft limit to the hard one and returns what it was.
///
/// The supervisor holds the connections that wait, and the kernel counts descriptors in flight
/// against the soft limit of their sender (`unix(7)`, `ETOOMANYREFS`).
pub fn raise_file_limit() -> io::Result<FileLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(FileLimit { soft, hard })
}

impl FileLimit {
    /// How many descriptors the supervisor itself may have.
    pub fn raised(self) -> usize {
        usize::try_from(self.hard).unwrap_or(usize::MAX)
    }
}
