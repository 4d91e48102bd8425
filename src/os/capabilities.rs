//! What root may do, in parts, `capabilities(7)`: the supervisor gives up what it does not need.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// What every supervisor needs whose workers are somebody else: to start and signal them, and to
/// listen where Node workers ask it to or an upgrade finds new addresses.
const NEEDED: [Capability; 4] = [
    Capability::CAP_KILL,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Gives up all capabilities of this process except those needed, for good: the programs that it
/// executes do not get them back. `raises` also keeps the right to raise hard limits. Returns the
/// names of those that are kept.
///
/// The process must have one thread, since capabilities are of threads.
pub fn keep_needed(raises: bool) -> io::Result<Vec<String>> {
    let mut needed: CapsHashSet = NEEDED.into_iter().collect();
    if raises {
        needed.insert(Capability::CAP_SYS_RESOURCE);
    }
    // Without CAP_SETPCAP, which goes below, nothing can be taken from this set.
    let bounded = bound(&needed);
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    let kept: CapsHashSet = read(CapSet::Permitted)?.intersection(&needed).copied().collect();
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    bounded?;
    let mut names: Vec<_> = kept.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    Ok(names)
}

/// Limits what programs can get that are executed from now on.
fn bound(needed: &CapsHashSet) -> io::Result<()> {
    for capability in read(CapSet::Bounding)?.difference(needed) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Whether this process may raise hard limits.
pub fn may_raise_limits() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false)
}

fn read(set: CapSet) -> io::Result<CapsHashSet> {
    caps::read(None, set).map_err(io::Error::other)
}
