//! Closing what others have sent, on threads: it can take as long as whoever sent it likes.
//!
//! The last close of a socket with `SO_LINGER` waits for its unsent bytes (`socket(7)`), that of a Unix
//! socket closes what lies unread in it, and a file system of a user's own may never answer. So such
//! a descriptor is a [`Foreign`], whose drop never waits. Each sender has a queue of sockets and at most
//! one thread at a time for these, so that none has to wait for what another one sent.
//!
//! A timer interrupts a thread that waits for a socket. The kernel waits no longer then and closes it
//! all the same, so that only a file can keep a thread. So each file has one to itself, which takes it
//! only while another thread is free.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef};

use self::interrupts::{INTERRUPT, Interrupts};
pub use self::pause::Pause;
use super::{capabilities, clock};
use crate::logic::Worker;
use crate::logic::time::Time;

mod interrupts;
mod pause;

/// The most threads that close sockets at a time.
const MOST_THREADS: usize = 16;
/// The most that close files: more than one worker can send before it is not heard any more.
const MOST_FILES: usize = 512;
/// How long a thread without work stays; the last one does for ever.
const IDLE: Duration = Duration::from_secs(5);
/// What the threads need of their stack.
const STACK: usize = 64 * 1024;

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
    /// There is something to close.
    work: Condvar,
    /// Something is closed.
    done: Condvar,
}

struct State {
    /// Sockets that await closing, by their sender. Nobody else's queue is there.
    queues: BTreeMap<Sender, VecDeque<OwnedFd>>,
    /// Senders with a queue and without a thread.
    ready: VecDeque<Sender>,
    /// What is no socket and not closed yet: nothing interrupts its close.
    files: Vec<File>,
    /// How many threads there are.
    threads: usize,
    /// How many of them have nothing to do, or have not begun yet.
    idle: usize,
    /// How many are closing a socket.
    closing: usize,
    /// How many pauses there are: no socket is to be begun.
    pauses: usize,
}

struct File {
    sender: Sender,
    since: Time,
    number: RawFd,
    /// None once a thread closes it.
    queued: Option<OwnedFd>,
}

enum Job {
    Socket(Sender, Option<OwnedFd>),
    File(OwnedFd),
}

static POOL: Pool =
    Pool { state: Mutex::new(State::new()), work: Condvar::new(), done: Condvar::new() };

/// How many descriptors are not closed yet, but for sockets that are being closed.
static AWAITING: AtomicUsize = AtomicUsize::new(0);

/// How many descriptors of this sender await closing.
pub fn awaiting(sender: Sender) -> usize {
    // Asked for each message that is heard.
    if all_awaiting() == 0 {
        return 0;
    }
    let state = POOL.lock();
    let files = state.files.iter().filter(|file| file.sender == sender && file.queued.is_some());
    state.queues.get(&sender).map_or(0, VecDeque::len) + files.count()
}

/// How many do altogether.
pub fn all_awaiting() -> usize {
    AWAITING.load(Ordering::Relaxed)
}

/// Who has sent files that are not closed yet, and when.
pub fn files() -> Vec<(Sender, Time)> {
    if all_awaiting() == 0 {
        return Vec::new();
    }
    POOL.lock().files.iter().map(|file| (file.sender, file.since)).collect()
}

/// Sees to it that there is a thread, so that one is there when no more can be had. Returns whether it is.
pub fn has_thread() -> bool {
    let mut state = POOL.lock();
    if state.threads == 0 {
        // Without, it is tried again with each descriptor.
        _ = POOL.start(&mut state);
    }
    state.threads > 0
}

/// Waits until all that awaits closing is closed, but no longer than this: its descriptors are free again then.
pub fn wait(within: Duration) {
    let unclosed = |state: &mut State| state.closing > 0 || !state.queues.is_empty();
    let waited = POOL.done.wait_timeout_while(POOL.lock(), within, unclosed);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

/// Every socket that awaits closing. Files are never left to another program.
pub fn unclosed() -> Vec<(Sender, RawFd)> {
    let state = POOL.lock();
    let all = state.queues.iter();
    all.flat_map(|(sender, queue)| queue.iter().map(|fd| (*sender, fd.as_raw_fd()))).collect()
}

fn close(descriptor: OwnedFd, sender: Sender) {
    let is_file = SockRef::from(&descriptor).r#type().is_err();
    let mut state = POOL.lock();
    if is_file {
        let (since, number) = (clock::now(), descriptor.as_raw_fd());
        state.files.push(File { sender, since, number, queued: Some(descriptor) });
    } else if let Some(queue) = state.queues.get_mut(&sender) {
        queue.push_back(descriptor);
    } else {
        state.queues.insert(sender, VecDeque::from([descriptor]));
        state.ready.push_back(sender);
    }
    AWAITING.fetch_add(1, Ordering::Relaxed);
    POOL.go_on(&mut state);
}

impl File {
    /// Whether its number does not lead to it any more, see [`Pool::close_file`].
    #[expect(unsafe_code, reason = "a number becomes a descriptor")]
    fn is_out(&self) -> bool {
        // SAFETY: it is used for fcntl(2) alone, which fails if nothing is open there.
        let number = unsafe { BorrowedFd::borrow_raw(self.number) };
        let flags = fcntl(number, FcntlArg::F_GETFD).map(FdFlag::from_bits_truncate);
        self.queued.is_none() && flags.is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC))
    }
}

impl State {
    const fn new() -> Self {
        Self {
            queues: BTreeMap::new(),
            ready: VecDeque::new(),
            files: Vec::new(),
            threads: 0,
            idle: 0,
            closing: 0,
            pauses: 0,
        }
    }

    fn next_file(&mut self) -> Option<&mut File> {
        let begun = self.files.iter().filter(|file| file.queued.is_none()).count();
        self.files.iter_mut().find(|file| begun < MOST_FILES && file.queued.is_some())
    }

    /// Closes what takes no time without `SO_LINGER`, where no thread can be had.
    fn close_at_once(&mut self) {
        let awaited: usize = self.queues.values().map(VecDeque::len).sum();
        self.queues.retain(|_, queue| {
            queue.retain(|socket| !closes_at_once(socket));
            !queue.is_empty()
        });
        let left: usize = self.queues.values().map(VecDeque::len).sum();
        AWAITING.fetch_sub(awaited - left, Ordering::Relaxed);
        self.ready.retain(|sender| self.queues.contains_key(sender));
    }

    /// How many sockets can be begun now.
    fn startable(&self) -> usize {
        let most = if self.pauses > 0 { 0 } else { MOST_THREADS - self.closing };
        self.ready.len().min(most)
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has what is ready closed, by more threads if too few have time.
    fn go_on(&'static self, state: &mut State) {
        // The thread of a file sees to the one of the next.
        let jobs = state.startable() + state.next_file().iter().len();
        // Where there is no room for one more, those that there are see to it.
        while state.idle < jobs && self.start(state).is_ok() {}
        if state.threads == 0 && state.pauses == 0 {
            state.close_at_once();
        }
        for _ in 0..jobs {
            self.work.notify_one();
        }
    }

    /// Starts a thread. No signal may come to it but the one that interrupts it, not even at first.
    fn start(&'static self, state: &mut State) -> io::Result<()> {
        interrupts::handle();
        let mut blocked = SigSet::all();
        blocked.remove(INTERRUPT);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = thread::Builder::new().name("closing".to_owned());
        let thread = thread.stack_size(STACK).spawn(|| self.work());
        before.thread_set_mask()?;
        thread?;
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    /// Closes until there has been nothing to close for a while and another thread is free.
    fn work(&'static self) {
        // Who is not root has none to give up.
        _ = capabilities::give_up_all();
        let mut interrupts = Interrupts::new();
        let mut state = self.lock();
        loop {
            interrupts.begin();
            while let Some(job) = self.take(&mut state) {
                drop(state);
                state = self.close(job);
            }
            interrupts.stop();
            if state.idle == 1 {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.work.wait_timeout(state, IDLE);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.idle > 1 {
                state.idle -= 1;
                state.threads -= 1;
                return;
            }
        }
    }

    /// What this thread is to close next.
    fn take(&'static self, state: &mut State) -> Option<Job> {
        let another = |state: &mut State| state.idle > 1 || self.start(state).is_ok();
        let job = if state.next_file().is_some() && another(state) {
            Job::File(state.next_file()?.queued.take()?)
        } else if state.startable() > 0 {
            let sender = state.ready.pop_front()?;
            let next = state.queues.get_mut(&sender).and_then(VecDeque::pop_front);
            AWAITING.fetch_sub(next.iter().len(), Ordering::Relaxed);
            state.closing += 1;
            Job::Socket(sender, next)
        } else {
            return None;
        };
        state.idle -= 1;
        if state.next_file().is_some() {
            self.work.notify_one();
        }
        Some(job)
    }

    fn close(&self, job: Job) -> MutexGuard<'_, State> {
        let mut state = match job {
            Job::File(file) => self.close_file(file),
            Job::Socket(sender, socket) => {
                drop(socket);
                let mut state = self.lock();
                state.closing -= 1;
                if state.queues.get(&sender).is_none_or(VecDeque::is_empty) {
                    state.queues.remove(&sender);
                } else {
                    state.ready.push_back(sender);
                }
                state
            }
        };
        state.idle += 1;
        self.done.notify_all();
        state
    }

    /// Has standard error take the place of a file, and only then waits for its close. So everybody can tell
    /// that it is out of the way: the number stays, and is not closed on exec as all are that were sent.
    fn close_file(&self, mut file: OwnedFd) -> MutexGuard<'_, State> {
        let number = file.as_raw_fd();
        // If it fails, the file is just closed.
        let in_place = rustix::io::dup2(io::stderr(), &mut file).is_ok();
        let placed = in_place.then_some(file);
        let mut state = self.lock();
        state.files.retain(|file| file.number != number);
        AWAITING.fetch_sub(1, Ordering::Relaxed);
        drop(state);
        drop(placed);
        self.lock()
    }
}

/// Has a socket take no time to be closed. Of a Unix socket nobody can tell what lies in it.
fn closes_at_once(socket: &OwnedFd) -> bool {
    let socket = SockRef::from(socket);
    let is_inet = socket.domain().is_ok_and(|of| [Domain::IPV4, Domain::IPV6].contains(&of));
    is_inet && socket.set_linger(None).is_ok()
}

#[cfg(test)]
mod tests;
