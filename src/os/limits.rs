//! Limits of `setrlimit(2)`, above all that on file descriptors, `RLIMIT_NOFILE`.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use serde::{Deserialize, Serialize};

use crate::logic::config::ResourceLimit;

/// The resources by the names that users give them.
const RESOURCES: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

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

/// The resource of this name.
pub fn resource(name: &str) -> Option<Resource> {
    RESOURCES.into_iter().find(|(known, _)| *known == name).map(|(_, resource)| resource)
}

/// The name of this resource.
pub fn name(resource: Resource) -> &'static str {
    let known = RESOURCES.into_iter().find(|(_, known)| *known == resource);
    known.map_or("?", |(name, _)| name)
}

/// The names of all resources.
pub fn names() -> impl Iterator<Item = &'static str> {
    RESOURCES.into_iter().map(|(name, _)| name)
}

/// Whether only a process with the right to raise hard limits can set this one.
pub fn raises(limit: &ResourceLimit) -> io::Result<bool> {
    let (_, hard) = getrlimit(limit.resource)?;
    Ok(limit.hard > hard)
}
