//! Signals: those for the supervisor as events, and how they were set when it started.
//!
//! The signals that mean something are received by handlers of `signal-hook`, which write to a socket
//! of the loop. They are let in nearly always, and restart the calls that they interrupt. There are
//! two exceptions. Around `fork(2)` all are blocked, and the child gets rid of the handlers before
//! anything else, so that none of them ever runs in it. Before `execve(2)` they are held back
//! ([`Signals::hold`]): the kernel keeps what is blocked and pending for the program that comes next.
//! Process 1, for which the kernel has no default actions, gets all that have a handler.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use mio::unix::SourceFd;
use nix::libc::{self, c_int, siginfo_t};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getsid, gettid};
use serde::{Deserialize, Serialize};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

use super::terminal;

/// Signals that ask the supervisor to stop. `PWR` is what LXC sends to process 1 of a container.
/// The timers and the limit on processor time survive `execve(2)`, so that whoever started the
/// supervisor can have set them; their time is over.
const STOP: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGPWR,
    Signal::SIGALRM,
    Signal::SIGPROF,
    Signal::SIGVTALRM,
    Signal::SIGXCPU,
];

/// What the other signals with a meaning mean.
const MEANINGS: [(Signal, SignalEvent); 6] = [
    (Signal::SIGHUP, SignalEvent::Restart),
    (Signal::SIGUSR2, SignalEvent::Upgrade),
    (Signal::SIGTTIN, SignalEvent::More),
    (Signal::SIGTTOU, SignalEvent::Fewer),
    (Signal::SIGUSR1, SignalEvent::Forward(Signal::SIGUSR1)),
    (Signal::SIGCHLD, SignalEvent::Child),
];

/// Signals that must not end the supervisor and tell it nothing: a write that failed says so
/// itself (`PIPE`, `XFSZ`), and the rest are for those who asked the kernel for them. Real-time
/// signals are ignored as well.
const IGNORED: [Signal; 5] =
    [Signal::SIGPIPE, Signal::SIGXFSZ, Signal::SIGIO, Signal::SIGSTKFLT, Signal::SIGWINCH];

/// The first and the last real-time signal, `signal(7)`. The C library keeps some of the first for
/// itself and refuses to change them.
const REAL_TIME: std::ops::RangeInclusive<c_int> = 32..=LAST;
/// The last signal of Linux.
const LAST: c_int = 64;

/// A signal that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignalEvent {
    /// One that asks to stop, such as `TERM`.
    Stop(Signal),
    /// `HUP`: a rolling restart.
    Restart,
    /// `HUP` as well, since the terminal is gone.
    Hangup,
    /// `USR2`: an upgrade in place.
    Upgrade,
    /// `TTIN`: one worker more.
    More,
    /// `TTOU`: one worker less.
    Fewer,
    /// One that is for the workers.
    Forward(Signal),
    /// A child has changed its state.
    Child,
}

/// The signals that the supervisor handles, as a source of events.
#[derive(Debug)]
pub struct Signals {
    /// `signal-hook-mio` is the same for signals without what is known of them.
    delivery: SignalDelivery<UnixStream, WithRawSiginfo>,
    handled: SigSet,
    /// Those for the workers besides `USR1`.
    forwarded: Vec<Signal>,
    /// Whether there was a terminal that can go.
    has_terminal: bool,
}

impl Signals {
    /// Handles the signals from now on, `forwarded` besides those with a meaning, and reports them
    /// as events of `token`.
    ///
    /// All are unblocked, since a parent may have left some blocked, and so does a supervisor that
    /// became this program. What came in the meantime comes now.
    pub fn register(
        registry: &mio::Registry,
        token: mio::Token,
        forwarded: &[Signal],
    ) -> io::Result<Self> {
        let handled: SigSet = handled(forwarded).collect();
        for signal in IGNORED.into_iter().filter(|signal| !handled.contains(*signal)) {
            dispose(number(signal), true)?;
        }
        for signal in REAL_TIME {
            // It fails for those that the C library keeps for itself, and nobody else sends.
            _ = dispose(signal, true);
        }
        keep_out_of_children()?;
        let (read, write) = UnixStream::pair()?;
        let numbers = handled.iter().map(number);
        let fd = read.as_raw_fd();
        let delivery = SignalDelivery::with_pipe(read, write, WithRawSiginfo, numbers)?;
        registry.register(&mut SourceFd(&fd), token, mio::Interest::READABLE)?;
        SigSet::empty().thread_set_mask()?;
        let has_terminal = terminal::is_there();
        Ok(Self { delivery, handled, forwarded: forwarded.to_vec(), has_terminal })
    }

    /// Those that came since the last time.
    pub fn take(&mut self) -> Vec<SignalEvent> {
        let pending: Vec<_> = self.delivery.pending().collect();
        pending.iter().filter_map(|info| self.meaning(info)).collect()
    }

    /// Keeps signals back from now on, for a program that this process becomes by `execve(2)`.
    pub fn hold(&mut self) -> io::Result<()> {
        self.handled.thread_block()?;
        self.delivery.pending().try_for_each(|info| send_again(&info))
    }

    /// Lets signals in again, also those that were held back.
    pub fn release(&self) -> io::Result<()> {
        Ok(self.handled.thread_unblock()?)
    }

    fn meaning(&self, info: &siginfo_t) -> Option<SignalEvent> {
        let signal = Signal::try_from(info.si_signo).ok()?;
        let came = meaning(signal, &self.forwarded);
        if came == SignalEvent::Restart && self.reports_hangup(info) {
            return Some(SignalEvent::Hangup);
        }
        Some(came)
    }

    /// Whether a `HUP` is about the terminal, which is gone then: the kernel says so itself, and a
    /// shell that leads the session passes it on to its jobs.
    fn reports_hangup(&self, info: &siginfo_t) -> bool {
        if info.si_code == libc::SI_KERNEL {
            return true;
        }
        let leader = getsid(None).ok();
        let passed_on = self.has_terminal && leader.is_some() && leader == sender(info);
        passed_on && !terminal::is_there()
    }
}

/// The signal with this name, with or without `SIG`, if it can be forwarded to workers. Errors say
/// why it cannot.
pub fn forwardable(name: &str) -> Result<Signal, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let full = if full == "SIGPOLL" { "SIGIO".to_owned() } else { full };
    let Ok(signal) = full.parse::<Signal>() else {
        return Err(format!("there is no signal \"{name}\"; use a name such as USR1 or WINCH"));
    };
    let why = match signal {
        Signal::SIGKILL | Signal::SIGSTOP => "it cannot be caught",
        Signal::SIGILL
        | Signal::SIGTRAP
        | Signal::SIGABRT
        | Signal::SIGBUS
        | Signal::SIGFPE
        | Signal::SIGSEGV
        | Signal::SIGSYS => "it tells of a fault of the supervisor itself",
        Signal::SIGPIPE | Signal::SIGXCPU | Signal::SIGXFSZ => "it is about the supervisor itself",
        Signal::SIGTSTP | Signal::SIGCONT => "it stops and continues the supervisor itself",
        Signal::SIGTERM
        | Signal::SIGINT
        | Signal::SIGQUIT
        | Signal::SIGHUP
        | Signal::SIGUSR2
        | Signal::SIGTTIN
        | Signal::SIGTTOU
        | Signal::SIGCHLD => "the supervisor obeys it itself",
        // Those that are left mean nothing to the supervisor that somebody else could not mean.
        _ => return Ok(signal),
    };
    Err(format!("{signal} cannot be forwarded: {why}"))
}

/// What a signal is called.
pub fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |known| known.to_string())
}

/// The signal mask and the ignored signals with which the supervisor was started.
///
/// A worker starts with the same, as if the supervisor did not stand between (`signal(7)`: both
/// survive `execve(2)`, handlers do not). Only `PIPE` always has its default action in a worker: Rust
/// ignores it before anybody could ask how it was set. In both sets, bit 0 is signal 1. A supervisor
/// that follows another by `execve(2)` is given what that one has read.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Inherited {
    blocked: u64,
    ignored: u64,
}

impl Inherited {
    /// Reads them. Has to come before [`Signals::register`].
    pub fn read() -> io::Result<Self> {
        let ignored = (1..=LAST).filter(|signal| is_ignored(*signal));
        Ok(Self {
            blocked: swap_mask(None)?,
            ignored: ignored.fold(0, |set, signal| set | bit(signal)),
        })
    }

    /// Whether this signal was ignored.
    pub fn ignores(self, signal: Signal) -> bool {
        self.ignored & bit(number(signal)) != 0
    }

    /// Sets them again. Only makes calls that are safe between `fork(2)` and `execve(2)`.
    pub(super) fn restore(self) -> io::Result<()> {
        for signal in (1..=LAST).filter(|signal| *signal != libc::SIGPIPE) {
            // It fails for those that nobody can change, which are as they were.
            _ = dispose(signal, self.ignored & bit(signal) != 0);
        }
        swap_mask(Some(self.blocked)).map(drop)
    }
}

/// The mask from before a `fork(2)`, while that is made.
static BEFORE_FORK: AtomicU64 = AtomicU64::new(0);

/// Has no handler run in any child of this process, `pthread_atfork(3)`: not even in the moment
/// between `fork(2)` and what a child does first.
#[expect(unsafe_code, reason = "nothing else comes between fork and what std does in a child")]
fn keep_out_of_children() -> io::Result<()> {
    extern "C" fn block() {
        if let Ok(before) = swap_mask(Some(u64::MAX)) {
            BEFORE_FORK.store(before, Ordering::Relaxed);
        }
    }
    extern "C" fn unblock() {
        _ = swap_mask(Some(BEFORE_FORK.load(Ordering::Relaxed)));
    }
    extern "C" fn forget_handlers() {
        for signal in (1..=LAST).filter(|signal| !is_ignored(*signal)) {
            // It fails for those that nobody can change, which have no handler.
            _ = dispose(signal, false);
        }
        unblock();
    }
    static ONCE: Once = Once::new();
    let mut refused = 0;
    ONCE.call_once(|| {
        // SAFETY: the three only make calls that are async-signal-safe.
        refused =
            unsafe { libc::pthread_atfork(Some(block), Some(unblock), Some(forget_handlers)) };
    });
    if refused == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(refused)) }
}

/// Who sent a signal, if that was a process.
#[expect(unsafe_code, reason = "a union of what there is to tell of each signal")]
fn sender(info: &siginfo_t) -> Option<Pid> {
    // SAFETY: the kernel fills the field in for this code.
    (info.si_code == libc::SI_USER).then(|| Pid::from_raw(unsafe { info.si_pid() }))
}

/// Sends a signal to this thread once more, with all that is known of it.
#[expect(unsafe_code, reason = "rt_tgsigqueueinfo(2) has no wrapper")]
fn send_again(info: &siginfo_t) -> io::Result<()> {
    let (process, thread) = (Pid::this().as_raw(), gettid().as_raw());
    let info = ptr::from_ref(info);
    // SAFETY: `info` is a whole siginfo_t, which is only read. A thread may tell itself anything.
    let sent = unsafe {
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, (*info).si_signo, info)
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// All signals that the supervisor handles.
fn handled(forwarded: &[Signal]) -> impl Iterator<Item = Signal> {
    let meant = MEANINGS.map(|(signal, _)| signal);
    STOP.into_iter().chain(meant).chain(forwarded.iter().copied())
}

/// What a signal means that is handled. Who asked to have one forwarded means just that.
fn meaning(signal: Signal, forwarded: &[Signal]) -> SignalEvent {
    if forwarded.contains(&signal) {
        return SignalEvent::Forward(signal);
    }
    let meant = MEANINGS.into_iter().find(|(meant, _)| *meant == signal);
    meant.map_or(SignalEvent::Stop(signal), |(_, came)| came)
}

fn number(signal: Signal) -> c_int {
    signal as c_int
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn is_ignored(signal: c_int) -> bool {
    disposition(signal) == libc::SIG_IGN
}

#[expect(unsafe_code, reason = "no safe wrapper reads a disposition without setting one")]
fn disposition(signal: c_int) -> libc::sighandler_t {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the new action is null, so that nothing is set, and the old one is valid for writes.
    // All bit patterns, and so the zeros left by an error, are valid for the struct.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction
}

/// Ignores a signal, or gives it its default action.
#[expect(unsafe_code, reason = "no safe wrapper takes the number of a real-time signal")]
fn dispose(signal: c_int, ignored: bool) -> io::Result<()> {
    let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither action runs code of ours, and the call is async-signal-safe.
    let before = unsafe { libc::signal(signal, action) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets which signals are blocked, if asked to, and returns which were.
///
/// The call is made by hand since the C library leaves out the signals that it keeps for itself.
#[expect(unsafe_code, reason = "the wrappers do not show real-time signals")]
fn swap_mask(new: Option<u64>) -> io::Result<u64> {
    let mut old = 0_u64;
    let new = new.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both sets are null or point to the eight bytes that the last argument says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            new,
            ptr::from_mut(&mut old),
            size_of::<u64>(),
        )
    };
    if result == 0 { Ok(old) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
