//! Times in which no socket begins to be closed.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use super::{File, POOL, State};
use crate::os::clock;

/// How often a pause looks whether it can begin.
const LOOK: Duration = Duration::from_millis(1);

/// As long as it is there, no socket begins to be closed: for a child that this process forks, which
/// would otherwise be the last one to have it, and wait before it runs its program; or for a program that
/// this process becomes, which sees to what is left.
#[derive(Debug)]
pub struct Pause(());

impl Pause {
    /// For a fork. Waits for sockets that are being closed, and for files to be begun: whoever has a copy of
    /// a file has to wait for its close, whether or not it is the last one, but those that are begun a
    /// child does not have. It is an error if this takes longer than that.
    pub fn for_fork(within: Duration) -> io::Result<Self> {
        Self::begin(within, |state| state.closing == 0 && state.files.iter().all(File::is_out))
    }

    /// For a program that this process becomes. Waits for all that is being closed and for all files, since a
    /// thread that closes a file would keep the program from being executed.
    pub fn for_exec(within: Duration) -> io::Result<Self> {
        Self::begin(within, |state| state.closing == 0 && state.files.is_empty())
    }

    fn begin(within: Duration, can_begin: fn(&State) -> bool) -> io::Result<Self> {
        let mut state = POOL.lock();
        state.pauses += 1;
        let pause = Self(());
        let until = clock::now() + within;
        while !can_begin(&state) {
            if until <= clock::now() {
                drop(state);
                drop(pause);
                return Err(io::Error::other("what a worker or a client has sent does not close"));
            }
            let waited = POOL.done.wait_timeout(state, LOOK);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(pause)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let mut state = POOL.lock();
        state.pauses -= 1;
        POOL.go_on(&mut state);
    }
}
