//! What root may do, in parts, `capabilities(7)`: the supervisor gives up what it does not need.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::unistd::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What every supervisor needs whose workers are somebody else: to start and signal them, and to
/// listen where Node workers ask it to or an upgrade finds new addresses.
const NEEDED: [Capability; 4] = [
    Capability::CAP_KILL,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Gives up all capabilities of this process except those needed. Returns the names of those that are
/// kept; `raises` also keeps the right to raise hard limits.
///
/// The programs that it executes do not get the others back, unless it may not see to that, for want
/// of `CAP_SETPCAP`. Who is not root keeps those that it hands on to programs (ambient ones), since
/// an upgrade is one; `hand_on_none` is for all others. This thread must be the only one that has any,
/// since capabilities are of threads.
pub fn keep_needed(raises: bool) -> io::Result<Vec<String>> {
    let mut needed: CapsHashSet = NEEDED.into_iter().collect();
    if raises {
        needed.insert(Capability::CAP_SYS_RESOURCE);
    }
    // Before CAP_SETPCAP goes below.
    let may_bound = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    let bounded = if may_bound.map_err(io::Error::other)? { bound(&needed) } else { Ok(()) };
    let among_needed = |set| -> io::Result<CapsHashSet> {
        Ok(read(set)?.intersection(&needed).copied().collect())
    };
    let handed_on =
        if geteuid().is_root() { CapsHashSet::new() } else { among_needed(CapSet::Inheritable)? };
    // What is not inheritable is not ambient either.
    caps::set(None, CapSet::Inheritable, &handed_on).map_err(io::Error::other)?;
    let kept = among_needed(CapSet::Permitted)?;
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    bounded?;
    let mut names: Vec<_> = kept.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    Ok(names)
}

/// Has the program that is executed next get none of the capabilities of one who is not root. Async-signal-safe.
pub(super) fn hand_on_none() -> nix::Result<()> {
    // What is not inheritable is not ambient either.
    let inheritable = CapabilitySet::empty();
    capabilities(None)
        .and_then(|own| set_capabilities(None, CapabilitySets { inheritable, ..own }))
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// Gives up all capabilities of this thread.
pub(super) fn give_up_all() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, none)?)
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
    has(Capability::CAP_SYS_RESOURCE)
}

/// Whether permissions of files do not matter to this process.
pub fn may_read_everything() -> bool {
    has(Capability::CAP_DAC_OVERRIDE)
}

/// Whether this process may be somebody else.
pub fn may_be_others() -> bool {
    has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID)
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

fn read(set: CapSet) -> io::Result<CapsHashSet> {
    caps::read(None, set).map_err(io::Error::other)
}
