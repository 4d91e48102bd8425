//! The thread that sends what nobody else has sent yet: counts of closed connections after 10 ms,
//! and messages that found the channel full.
//!
//! An accept that is about to sleep sends all of this itself. The thread is for a worker that is busy
//! elsewhere, and the same for blocking and asynchronous workers, so that a connection may be dropped
//! outside of any runtime.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::SigSet;

/// How long a count may wait for more of its kind.
const COALESCE: Duration = Duration::from_millis(10);

/// Wakes the thread.
#[derive(Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum State {
    #[default]
    Quiet,
    Rung,
    Over,
}

impl Bell {
    /// There is something to send within [`COALESCE`].
    pub(crate) fn ring(&self) {
        let mut state = self.lock();
        if *state == State::Quiet {
            *state = State::Rung;
            self.rung.notify_one();
        }
    }

    /// Nobody is left; the thread ends.
    pub(crate) fn end(&self) {
        *self.lock() = State::Over;
        self.rung.notify_one();
    }

    /// Waits for a ring and then for its time to run out; false when all is over.
    fn wait(&self) -> bool {
        let quiet = |state: &mut State| *state == State::Quiet;
        let state =
            self.rung.wait_while(self.lock(), quiet).unwrap_or_else(PoisonError::into_inner);
        let not_over = |state: &mut State| *state != State::Over;
        let (mut state, _) = self
            .rung
            .wait_timeout_while(state, COALESCE, not_over)
            .unwrap_or_else(PoisonError::into_inner);
        if *state == State::Over {
            return false;
        }
        *state = State::Quiet;
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread, which ends after [`Bell::end`]. `send` sends all there is; it says whether
/// something is left, or that there is nobody left to send for.
pub(crate) fn start(bell: Arc<Bell>, send: impl Fn() -> Left + Send + 'static) -> io::Result<()> {
    let run = move || {
        // Signals are for the threads of the server. This fails for no valid set.
        if let Err(errno) = SigSet::all().thread_block() {
            eprintln!("sticky-worker: cannot block signals in the sending thread: {errno}");
        }
        while bell.wait() {
            match send() {
                Left::Nothing => {}
                Left::Something => bell.ring(),
                Left::Nobody => return,
            }
        }
    };
    thread::Builder::new().name("sticky-worker".into()).spawn(run).map(drop)
}

/// What is left after sending.
pub(crate) enum Left {
    /// Everything was sent.
    Nothing,
    /// There was no room for all of it.
    Something,
    /// The worker is no more.
    Nobody,
}
