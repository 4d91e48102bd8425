//! Closing what others have sent, on threads: it can take as long as whoever sent it likes.
//!
//! The last close of a socket with `SO_LINGER` waits for its unsent bytes (`socket(7)`), that of a Unix
//! socket closes what lies unread in it, and a file system of a user's own may never answer. So such
//! a descriptor is a [`Foreign`], whose drop never waits. Each sender has a queue and at most one
//! thread at a time, so that none has to wait for what another one sent.
//!
//! A timer interrupts a thread that waits for a socket. The kernel waits no longer then and closes it
//! all the same, so that only a file can keep a thread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigSet, SigevNotify, SigmaskHow, Signal};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::capabilities;
use crate::logic::Worker;

/// How long a socket may keep a thread.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);
/// What the threads need of their stack.
const STACK: usize = 64 * 1024;
/// What interrupts a thread. Nobody else sends this one, and a handler means the same to others as the
/// default of this program, which is to ignore it.
const INTERRUPT: Signal = Signal::SIGXFSZ;

/// Who has sent a descriptor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Sender {
    /// A worker.
    Worker(Worker),
    /// A client of this user, by a Unix socket.
    User(u32),
}

/// A descriptor whose close may wait, so that a thread sees to it.
#[derive(Debug)]
pub struct Foreign<T: Into<OwnedFd> = OwnedFd> {
    /// None only while it is dropped.
    descriptor: Option<T>,
    sender: Sender,
}

impl<T: Into<OwnedFd>> Foreign<T> {
    /// One of which this sender decides how long its close takes.
    pub fn new(descriptor: T, sender: Sender) -> Self {
        Self { descriptor: Some(descriptor), sender }
    }

    /// One of a client of a Unix socket.
    pub fn from_client(socket: T) -> Self
    where
        T: AsFd,
    {
        // Those of whom nobody can tell are one.
        let user = getsockopt(&socket, PeerCredentials).map_or(u32::MAX, |peer| peer.uid());
        Self::new(socket, Sender::User(user))
    }

    /// Who that is.
    pub fn sender(&self) -> Sender {
        self.sender
    }
}

impl<T: Into<OwnedFd>> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.descriptor.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Into<OwnedFd> + AsFd> AsFd for Foreign<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}

impl<T: Into<OwnedFd> + AsRawFd> AsRawFd for Foreign<T> {
    fn as_raw_fd(&self) -> RawFd {
        (**self).as_raw_fd()
    }
}

impl<T: Into<OwnedFd>> Drop for Foreign<T> {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            close(descriptor.into(), self.sender);
        }
    }
}

/// What awaits closing, and the threads.
struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// What awaits closing, by its sender. Nobody else's queue is there.
    queues: BTreeMap<Sender, VecDeque<OwnedFd>>,
    /// How many of them, or of what is being closed, are no sockets: nothing interrupts their close.
    files: BTreeMap<Sender, usize>,
    /// Senders with a queue and without a thread.
    ready: VecDeque<Sender>,
    /// How many threads have nothing to do, or have not begun yet.
    idle: usize,
    /// How many are closing something.
    closing: usize,
    /// How many pauses there are: they are to begin nothing more.
    pauses: usize,
}

static POOL: Pool = Pool {
    state: Mutex::new(State {
        queues: BTreeMap::new(),
        files: BTreeMap::new(),
        ready: VecDeque::new(),
        idle: 0,
        closing: 0,
        pauses: 0,
    }),
    changed: Condvar::new(),
};

/// How many descriptors await closing.
static AWAITING: AtomicUsize = AtomicUsize::new(0);

/// How many descriptors of this sender await closing.
pub fn awaiting(sender: Sender) -> usize {
    POOL.lock().queues.get(&sender).map_or(0, VecDeque::len)
}

/// How many do altogether.
pub fn all_awaiting() -> usize {
    AWAITING.load(Ordering::Relaxed)
}

/// Who has sent files that are not closed yet.
pub fn senders_of_files() -> Vec<Sender> {
    POOL.lock().files.keys().copied().collect()
}

/// As long as it is there, nothing more begins to be closed: for a child that this process forks, which
/// would otherwise be the last one to have it, and wait before it runs its program; or for a program that
/// this process becomes, which sees to what is left.
#[derive(Debug)]
pub struct Pause {
    /// Whether all files and all that was begun are closed.
    pub is_complete: bool,
}

impl Pause {
    /// Waits for files and for what was begun, but for none of them longer than this. Whoever has a copy of a
    /// file has to wait for its close as well, whether or not it is the last one.
    pub fn begin(within: Duration) -> Self {
        let files = |state: &mut State| !state.files.is_empty();
        let waited = POOL.changed.wait_timeout_while(POOL.lock(), within, files);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.pauses += 1;
        let closing = |state: &mut State| state.closing > 0;
        let waited = POOL.changed.wait_timeout_while(state, within, closing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Self { is_complete: state.closing == 0 && state.files.is_empty() }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let mut state = POOL.lock();
        state.pauses -= 1;
        POOL.go_on(&mut state);
    }
}

/// Everything that awaits closing.
pub fn unclosed() -> Vec<(Sender, RawFd)> {
    let state = POOL.lock();
    let all = state.queues.iter();
    all.flat_map(|(sender, queue)| queue.iter().map(|fd| (*sender, fd.as_raw_fd()))).collect()
}

fn close(descriptor: OwnedFd, sender: Sender) {
    let is_file = is_file(&descriptor);
    let mut state = POOL.lock();
    if is_file {
        *state.files.entry(sender).or_default() += 1;
    }
    if let Some(queue) = state.queues.get_mut(&sender) {
        queue.push_back(descriptor);
    } else {
        state.queues.insert(sender, VecDeque::from([descriptor]));
        state.ready.push_back(sender);
    }
    AWAITING.fetch_add(1, Ordering::Relaxed);
    POOL.go_on(&mut state);
}

fn is_file(descriptor: &OwnedFd) -> bool {
    SockRef::from(descriptor).r#type().is_err()
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what is ready closed, by one more thread if none has time.
    fn go_on(&'static self, state: &mut State) {
        if state.pauses > 0 || state.ready.is_empty() {
            return;
        }
        // Where there is no room for one more, those that there are see to it, or the one that starts
        // with the next descriptor.
        if state.ready.len() > state.idle && self.start().is_ok() {
            state.idle += 1;
        }
        if state.idle > 0 {
            self.changed.notify_all();
        }
    }

    /// Starts a thread. No signal may come to it but the one that interrupts it, not even at first.
    fn start(&'static self) -> io::Result<()> {
        handle_interrupts();
        let mut blocked = SigSet::all();
        blocked.remove(INTERRUPT);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new().name("closing".to_owned());
        let thread = thread.stack_size(STACK).spawn(|| self.work());
        before.thread_set_mask()?;
        thread.map(drop)
    }

    /// Closes until there has been nothing to close for a while.
    fn work(&self) {
        // Who is not root has none to give up.
        _ = capabilities::give_up_all();
        let mut interrupts = Interrupts::new();
        interrupts.begin();
        let mut state = self.lock();
        state.idle -= 1;
        loop {
            let rests = |state: &mut State| state.pauses > 0 || state.ready.is_empty();
            if rests(&mut state) {
                interrupts.stop();
                state.idle += 1;
                let waited = self.changed.wait_timeout_while(state, IDLE, rests);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                if timeout.timed_out() {
                    return;
                }
                interrupts.begin();
            }
            state = self.close_next(state);
        }
    }

    /// Closes the next descriptor of the next sender.
    fn close_next<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(sender) = state.ready.pop_front() else { return state };
        let next = state.queues.get_mut(&sender).and_then(VecDeque::pop_front);
        AWAITING.fetch_sub(next.iter().len(), Ordering::Relaxed);
        state.closing += 1;
        drop(state);
        let was_file = next.as_ref().is_some_and(is_file);
        drop(next);
        let mut state = self.lock();
        state.closing -= 1;
        if was_file && let Some(files) = state.files.get_mut(&sender) {
            *files -= 1;
            if *files == 0 {
                state.files.remove(&sender);
            }
        }
        if state.queues.get(&sender).is_none_or(VecDeque::is_empty) {
            state.queues.remove(&sender);
        } else {
            state.ready.push_back(sender);
        }
        if state.pauses > 0 || was_file {
            self.changed.notify_all();
        }
        state
    }
}

/// What interrupts a thread again and again, since it may come just before a wait begins. Without the
/// timer, each close takes its time.
struct Interrupts(Option<Timer>);

impl Interrupts {
    fn new() -> Self {
        let thread_id = gettid().as_raw();
        let how = SigevNotify::SigevThreadId { signal: INTERRUPT, thread_id, si_value: 0 };
        Self(Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(how)).ok())
    }

    fn begin(&mut self) {
        self.set(Expiration::Interval(PATIENCE.into()));
    }

    fn stop(&mut self) {
        self.set(Expiration::OneShot(Duration::ZERO.into()));
    }

    fn set(&mut self, expiration: Expiration) {
        if let Some(timer) = &mut self.0 {
            // It fails for times that are none.
            _ = timer.set(expiration, TimerSetTimeFlags::empty());
        }
    }
}

/// Has what interrupts a thread do nothing else.
fn handle_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Nobody asks for the flag: that there is a handler is enough.
        let flag = Arc::new(AtomicBool::new(false));
        _ = signal_hook::flag::register(INTERRUPT as i32, flag);
    });
}

#[cfg(test)]
mod tests;
