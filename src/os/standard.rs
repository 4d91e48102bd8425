//! Standard output and error, written without ever blocking the caller.
//!
//! Any of them can block its writer: a terminal that is not read, a full pipe, a disk that hangs. No
//! descriptor tells in advance, and non-blocking mode would be shared with the shell. So each is written by a
//! thread of its own, which may block, and its queue is bounded. The threads have no capabilities and get no
//! signals; a terminal does not stop them (`SIGTTOU` is blocked).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags, poll};

use super::{capabilities, clock};
use crate::logic::output::{Buffer, Label, Stream};
use crate::logic::time::Time;

/// What the threads need of their stack, which is little.
const STACK: usize = 64 * 1024;

/// One of the two, for as long as the program runs.
struct Place {
    stream: Stream,
    state: Mutex<State>,
    /// There is more to write, or less.
    changed: Condvar,
}

struct State {
    buffer: Buffer,
    /// Whether there is a thread that writes.
    started: bool,
    /// Whether it is in the middle of it.
    writing: bool,
    /// Whether it is to begin nothing more.
    held: bool,
}

static STDOUT: Place = Place::new(Stream::Stdout);
static STDERR: Place = Place::new(Stream::Stderr);

/// Has lines written, each with its end, that came at this time. Never waits.
pub fn say(label: Label, lines: &[impl AsRef<[u8]>], time: &str) {
    let place = place(label.stream);
    let mut state = place.lock();
    for line in lines {
        state.buffer.push(label, line.as_ref(), time);
    }
    place.go_on(state);
}

/// Whether lines of this slot would be dropped.
pub fn is_full(stream: Stream, slot: u16) -> bool {
    place(stream).lock().buffer.is_full(Some(slot))
}

/// Waits until everything is written, but not longer than this.
pub fn finish(within: Duration) {
    let until = clock::now() + within;
    for place in [&STDOUT, &STDERR] {
        place.wait_until(until, |state| state.buffer.is_empty() && !state.writing);
    }
}

/// Begins to write nothing more, for a program that this process becomes. Waits for what is being
/// written, but not longer than this.
pub fn hold(within: Duration) {
    let until = clock::now() + within;
    for place in [&STDOUT, &STDERR] {
        place.wait_until(until, |state| state.buffer.is_empty() && !state.writing);
        place.lock().held = true;
        place.wait_until(until, |state| !state.writing);
    }
}

/// Writes again.
pub fn release() {
    for place in [&STDOUT, &STDERR] {
        let mut state = place.lock();
        state.held = false;
        place.go_on(state);
    }
}

/// What waits for each of the two.
pub fn unwritten() -> [Buffer; 2] {
    [&STDOUT, &STDERR].map(|place| place.lock().buffer.clone())
}

/// Goes on with what waited in another program.
pub fn restore(buffers: [Buffer; 2]) {
    for (place, buffer) in [&STDOUT, &STDERR].into_iter().zip(buffers) {
        let mut state = place.lock();
        state.buffer.restore(buffer);
        place.go_on(state);
    }
}

fn place(stream: Stream) -> &'static Place {
    match stream {
        Stream::Stdout => &STDOUT,
        Stream::Stderr => &STDERR,
    }
}

impl Place {
    const fn new(stream: Stream) -> Self {
        let state = State { buffer: Buffer::new(), started: false, writing: false, held: false };
        Self { stream, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what waits written by the thread, which begins with the first line.
    fn go_on(&'static self, mut state: MutexGuard<'_, State>) {
        if state.buffer.is_empty() {
            return;
        }
        if !state.started {
            state.started = self.start().is_ok();
            if !state.started {
                // There is no room for a thread, so there may be a wait.
                while let Some(rest) = self.write_next(state) {
                    state = rest;
                }
                return;
            }
        }
        self.changed.notify_all();
    }

    /// Starts the thread. No signal may come to it, not even at first: nobody would hear of it if this
    /// process became another one then.
    fn start(&'static self) -> io::Result<()> {
        // Those of a fault cannot be blocked, and the others are for the loop.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new().name(format!("{:?}", self.stream));
        let thread = thread.stack_size(STACK).spawn(|| self.write_for_ever());
        before.thread_set_mask()?;
        thread.map(drop)
    }

    fn write_for_ever(&self) {
        // Who is not root has none to give up.
        _ = capabilities::give_up_all();
        let mut state = self.lock();
        loop {
            state = match self.write_next(state) {
                Some(state) => state,
                None => self.wait(self.lock()),
            };
        }
    }

    /// Writes the next lines, if there are any.
    fn write_next<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Option<MutexGuard<'a, State>> {
        if state.held {
            return None;
        }
        let (batch, count) = state.buffer.batch()?;
        state.writing = true;
        drop(state);
        let written = match self.stream {
            Stream::Stdout => write_all(io::stdout().as_fd(), &batch),
            Stream::Stderr => write_all(io::stderr().as_fd(), &batch),
        };
        let mut state = self.lock();
        state.writing = false;
        state.buffer.done(count, written.is_ok());
        self.changed.notify_all();
        Some(state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let idle = |state: &mut State| state.held || state.buffer.is_empty();
        self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, until: Time, mut done: impl FnMut(&mut State) -> bool) {
        let left = until - clock::now();
        // Whether it was in time makes no difference.
        drop(self.changed.wait_timeout_while(self.lock(), left, |state| !done(state)));
    }
}

/// Writes all of it, however long that takes.
fn write_all(place: BorrowedFd<'_>, mut rest: &[u8]) -> nix::Result<()> {
    while !rest.is_empty() {
        match nix::unistd::write(place, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            // Somebody who shares it has made it so that it does not wait.
            Err(Errno::EAGAIN) => wait_for_room(place),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait_for_room(place: BorrowedFd<'_>) {
    // An error of it is one of the next write.
    _ = poll(&mut [PollFd::new(&place, PollFlags::OUT)], None);
}
