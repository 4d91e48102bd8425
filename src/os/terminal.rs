//! The terminal that controls this process, `tty(4)`.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

/// Whether there is one. After a hangup there is none any more.
pub fn is_there() -> bool {
    match open_it() {
        Ok(_) => true,
        // Whoever has no terminal gets the first, and who has one that is gone for others the second.
        Err(Errno::ENXIO | Errno::EIO | Errno::ENOENT) => false,
        Err(_) => true,
    }
}

/// Gives it up, for this process and those that it starts. Async-signal-safe.
pub fn give_up() -> nix::Result<()> {
    let terminal = match open_it() {
        Ok(terminal) => terminal,
        Err(Errno::ENXIO) => return Ok(()),
        Err(error) => return Err(error),
    };
    // SAFETY: it takes nothing and changes nothing but which terminal controls this process.
    #[expect(unsafe_code, reason = "an ioctl without a safe wrapper")]
    let given_up = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCNOTTY) };
    Errno::result(given_up).map(drop)
}

fn open_it() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(c"/dev/tty", flags, Mode::empty())
}
