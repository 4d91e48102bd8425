//! Terminals that nobody sits at, `pty(7)`.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

/// A terminal: the end of whoever sits there, and that of programs. No other program inherits them.
pub fn new() -> (OwnedFd, OwnedFd) {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname_r(&master).expect("it has a name");
    let slave = open(Path::new(&name), flags, Mode::empty()).expect("it was unlocked");
    (master.into(), slave)
}
