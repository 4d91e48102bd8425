//! What a process has started, and that has started, as `/proc` tells it (`proc_pid_task(5)`, `children`).
//!
//! It is looked for while the process is alive: the children of one that has ended are somebody else's, and
//! nobody knows any more whose they were. A process that goes on starting others may be quicker than this.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The most threads whose children are looked at; the descendants of others are not found.
const MOST_THREADS: usize = 4096;
/// The most descendants that are found.
const MOST: usize = 1024;

/// The descendants of a child of ours, whatever group or session they are in.
///
/// None where the kernel does not tell: without `/proc`, or before Linux 5.3, which cannot hold on to a
/// process.
#[derive(Debug)]
pub(super) struct Descendants(Vec<OwnedFd>);

impl Descendants {
    /// Finds those of this child, which must not be reaped meanwhile.
    pub(super) fn of(child: Pid) -> Self {
        let mut found = Vec::new();
        let mut threads = MOST_THREADS;
        let mut parents = VecDeque::from([(child, None::<usize>)]);
        while let Some((parent, held)) = parents.pop_front() {
            for pid in children(parent, &mut threads) {
                let Ok(process) = hold(pid) else { continue };
                // Both live still, so neither number was somebody else's meanwhile.
                if found.len() < MOST
                    && parent_of(pid) == Some(parent)
                    && is_alive(&process)
                    && held.is_none_or(|at: usize| is_alive(&found[at]))
                {
                    parents.push_back((pid, Some(found.len())));
                    found.push(process);
                }
            }
        }
        Self(found)
    }

    /// Ends them at once. Those that have ended meanwhile need nothing, and those that became somebody
    /// whom we may not signal are not ours any more.
    pub(super) fn kill(&self) {
        for process in &self.0 {
            _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

/// The children of all threads of a process; of so many `threads` at most, of which those are taken away that
/// were looked at.
fn children(pid: Pid, threads: &mut usize) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tasks = tasks.take(*threads).inspect(|_| *threads -= 1);
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let numbers = |list: String| -> Vec<_> {
        list.split_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
    };
    lists.flat_map(numbers).collect()
}

/// A descriptor for the process that has this number now.
fn hold(pid: Pid) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in brackets and may hold any character.
    let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
    parent.parse().ok().map(Pid::from_raw)
}

/// Whether a process has not ended, so that its number is its own.
fn is_alive(process: &OwnedFd) -> bool {
    let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn those_in_other_sessions_and_their_children_are_found_and_ended() {
        let nested = "setsid sh -c 'sleep 100 & wait' & sleep 100 & wait";
        let mut child = Command::new("sh").args(["-c", nested]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let mut found = Descendants::of(pid);
        while found.0.len() < 3 {
            found = Descendants::of(pid);
        }
        assert_eq!(found.0.len(), 3);
        found.kill();
        assert!(child.wait().unwrap().success(), "it waits for its own, and is none of them");
        for process in &found.0 {
            let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ended, PollTimeout::from(20_000_u16)), Ok(1));
        }
        assert!(Descendants::of(pid).0.is_empty());
    }
}
