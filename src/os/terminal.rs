//! The terminal that controls this process, `tty(4)`.

use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

/// Whether there is one. After a hangup there is none any more.
pub fn is_there() -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match open(Path::new("/dev/tty"), flags, Mode::empty()) {
        Ok(_) => true,
        // Whoever has no terminal gets the first, and who has one that is gone for others the second.
        Err(Errno::ENXIO | Errno::EIO | Errno::ENOENT) => false,
        Err(_) => true,
    }
}
