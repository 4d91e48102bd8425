//! Processes that a worker leaves behind.

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

/// How many of them have the same parent, which ends before anybody has reaped them.
const SIBLINGS: u32 = 100;

/// Leaves at least so many behind. They end at once: with all exit codes, every hundredth by a
/// signal.
#[expect(unsafe_code, reason = "no library makes orphans")]
pub fn leave(count: u32) {
    for first in (0..count).step_by(SIBLINGS as usize) {
        // SAFETY: the new processes call nothing but fork(2), kill(2) and _exit(2).
        match unsafe { fork() }.expect("room for a process") {
            ForkResult::Parent { child } => _ = waitpid(child, None).expect("it is our child"),
            ForkResult::Child => {
                for nth in first..first + SIBLINGS {
                    // SAFETY: as above.
                    if let Ok(ForkResult::Child) = unsafe { fork() } {
                        end(nth);
                    }
                }
                end(0);
            }
        }
    }
}

#[expect(unsafe_code, reason = "nothing of this process may be cleaned up twice")]
fn end(nth: u32) -> ! {
    // SAFETY: both calls are async-signal-safe.
    unsafe {
        if nth % 100 == 99 {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        libc::_exit(i32::from(nth.to_le_bytes()[0]))
    }
}
