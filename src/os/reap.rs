//! Children that have ended.

use std::io;
use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
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
///
/// The call is made by hand since a child may have ended by any signal, real-time ones included
/// (`signal(7)`), for which the wrapper of nix has no name.
#[expect(unsafe_code, reason = "waitid(2) tells in a union how a child ended")]
pub fn next_ended() -> io::Result<Option<Ended>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes, and zeros are valid for it where nothing is written.
    let (pid, status, code) = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) != 0 {
            return match Errno::last() {
                Errno::ECHILD | Errno::EINTR => Ok(None),
                errno => Err(errno.into()),
            };
        }
        let info = info.assume_init();
        (info.si_pid(), info.si_status(), info.si_code)
    };
    let exit = if code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    Ok((pid != 0).then_some(Ended { pid: Pid::from_raw(pid), exit }))
}

/// Reaps a child that has ended. If it led a process group, what is left of that is ended before.
///
/// In this order the group's id is still the child's and cannot be somebody else's. Errors tell
/// that the rest of the group could not be ended; the child is reaped all the same.
pub fn reap(pid: Pid, group: bool) -> io::Result<()> {
    let ended = if group { kill_group(pid) } else { Ok(()) };
    let reaped = rustix::process::waitpid(
        rustix::process::Pid::from_raw(pid.as_raw()),
        rustix::process::WaitOptions::NOHANG,
    );
    reaped?;
    ended
}

/// Makes this process the parent of those among its descendants whose own parent ends
/// (`PR_SET_CHILD_SUBREAPER` of `prctl(2)`), or not any more. It stays so across `execve(2)`.
pub fn adopt_orphans(whether: bool) -> io::Result<()> {
    match set_child_subreaper(whether) {
        // Who may not ask for it did not before either.
        Err(_) if !whether => Ok(()),
        set => Ok(set?),
    }
}

/// Asks a child to end.
pub fn terminate(pid: Pid) -> io::Result<()> {
    signal(pid, Signal::SIGTERM)
}

/// Has a child end at once, with a core dump where that is set up.
pub fn abort(pid: Pid) -> io::Result<()> {
    signal(pid, Signal::SIGABRT)
}

/// Sends a signal to a child.
pub fn signal(pid: Pid, signal: Signal) -> io::Result<()> {
    ignore_gone(kill(pid, signal))
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
