//! Children that have ended.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::logic::fleet::Exit;

/// A child that has ended and was not yet reaped, so that its pid cannot be used again.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its process id.
    pub pid: Pid,
    /// How it ended.
    pub exit: Exit,
}

/// The next child that has ended, if there is one. It stays a zombie until [`reap`].
pub fn next_ended() -> io::Result<Option<Ended>> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, code)) => Ok(Some(Ended { pid, exit: Exit::Code(code) })),
        Ok(WaitStatus::Signaled(pid, signal, _)) => {
            Ok(Some(Ended { pid, exit: Exit::Signal(signal as i32) }))
        }
        Ok(_) | Err(Errno::ECHILD) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Ends what is left of the process group that a child led, and reaps the child.
///
/// In this order the group's id is still the child's and cannot be somebody else's.
pub fn reap(pid: Pid, group: bool) -> io::Result<()> {
    if group {
        ignore_gone(killpg(pid, Signal::SIGKILL))?;
    }
    waitpid(pid, None)?;
    Ok(())
}

/// Asks a child to end.
pub fn terminate(pid: Pid) -> io::Result<()> {
    ignore_gone(kill(pid, Signal::SIGTERM))
}

/// Ends a child and its whole process group.
pub fn kill_group(pid: Pid) -> io::Result<()> {
    ignore_gone(killpg(pid, Signal::SIGKILL))
}

/// A process that ended in this moment needs no signal any more.
fn ignore_gone(sent: nix::Result<()>) -> io::Result<()> {
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
