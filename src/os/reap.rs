//! Children: waiting for them, and signalling them.

use std::io;
use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::descendants::Descendants;
use crate::logic::fleet::Exit;

/// A child that is not as it was.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// Its process id.
    pub pid: Pid,
    /// What has become of it.
    pub change: Change,
}

/// What can become of a child.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It has ended like this. It stays a zombie until [`reap`], so that its pid cannot be used again.
    Ended(Exit),
    /// The signal with this number has stopped it.
    Stopped(i32),
    /// It goes on.
    Continued,
}

/// The next child that has changed, if there is one.
///
/// The call is made by hand since a child may have ended by any signal, real-time ones included
/// (`signal(7)`), for which the wrapper of nix has no name.
pub fn next_change() -> io::Result<Option<Changed>> {
    let all = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED;
    let Some((pid, status, code)) = wait_for(libc::P_ALL, 0, all | libc::WNOWAIT)? else {
        return Ok(None);
    };
    let change = match code {
        libc::CLD_EXITED => Change::Ended(Exit::Code(status)),
        libc::CLD_CONTINUED => Change::Continued,
        libc::CLD_STOPPED => Change::Stopped(status),
        _ => Change::Ended(Exit::Signal(status)),
    };
    match change {
        Change::Ended(_) => {}
        Change::Stopped(_) | Change::Continued => {
            // It would be told again and again.
            let id = libc::id_t::try_from(pid).expect("a pid of a child is positive");
            wait_for(libc::P_PID, id, libc::WSTOPPED | libc::WCONTINUED)?;
        }
    }
    Ok(Some(Changed { pid: Pid::from_raw(pid), change }))
}

/// The pid, the status and the code of a child that has changed, if there is one.
#[expect(unsafe_code, reason = "waitid(2) tells in a union what has become of a child")]
fn wait_for(
    which: libc::idtype_t,
    id: libc::id_t,
    options: c_int,
) -> io::Result<Option<(i32, i32, c_int)>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is valid for writes.
        if unsafe { libc::waitid(which, id, info.as_mut_ptr(), options | libc::WNOHANG) } == 0 {
            break;
        }
        match Errno::last() {
            Errno::EINTR => {}
            Errno::ECHILD => return Ok(None),
            errno => return Err(errno.into()),
        }
    }
    // SAFETY: zeros are valid for it where nothing was written.
    let (pid, status, code) = unsafe {
        let info = info.assume_init();
        (info.si_pid(), info.si_status(), info.si_code)
    };
    Ok((pid != 0).then_some((pid, status, code)))
}

/// Reaps a child that has ended. If it led a process group, what is left of that is ended before.
///
/// In this order the group's id is still the child's and cannot be somebody else's. Errors tell
/// that the rest of the group could not be ended; the child is reaped all the same.
pub fn reap(pid: Pid, group: bool) -> io::Result<()> {
    let ended = if group { ignore_gone(killpg(pid, Signal::SIGKILL)) } else { Ok(()) };
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

/// Asks a child to end, also one that is stopped, which gets no other signal until it goes on.
pub fn terminate(pid: Pid) -> io::Result<()> {
    signal(pid, Signal::SIGTERM)?;
    signal_group(pid, Signal::SIGCONT)
}

/// Has a child end at once, with a core dump where that is set up.
pub fn abort(pid: Pid) -> io::Result<()> {
    signal(pid, Signal::SIGABRT)?;
    signal_group(pid, Signal::SIGCONT)
}

/// Sends a signal to a child.
pub fn signal(pid: Pid, signal: Signal) -> io::Result<()> {
    ignore_gone(kill(pid, signal))
}

/// Ends a child, its whole process group, and all that it has started, as far as that is still found: who
/// has to be killed may have left the group, or had others leave it.
pub fn kill_all(pid: Pid) -> io::Result<()> {
    let descendants = Descendants::of(pid);
    let killed = signal_group(pid, Signal::SIGKILL);
    descendants.kill();
    killed
}

/// Sends a signal to a child and its process group; to one that has left that as well.
fn signal_group(pid: Pid, signal: Signal) -> io::Result<()> {
    let sent = ignore_gone(killpg(pid, signal));
    if getpgid(Some(pid)) == Ok(pid) { sent } else { sent.and(self::signal(pid, signal)) }
}

/// A process that ended in this moment needs no signal any more.
fn ignore_gone(sent: nix::Result<()>) -> io::Result<()> {
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
