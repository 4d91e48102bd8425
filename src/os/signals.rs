//! Signals: those for the supervisor as events, and how they were set when it started.
//!
//! The signals that mean something are blocked and read from a descriptor, `signalfd(2)`. So they
//! also come to process 1, for which the kernel has no default actions; none is lost across an
//! `execve(2)` of the supervisor, which keeps what is blocked and pending; and a terminal with
//! `stty tostop` does not keep the log of a supervisor in the background from being written.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use mio::unix::SourceFd;
use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};

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
const MEANINGS: [(Signal, Came); 6] = [
    (Signal::SIGHUP, Came::Restart),
    (Signal::SIGUSR2, Came::Upgrade),
    (Signal::SIGTTIN, Came::More),
    (Signal::SIGTTOU, Came::Fewer),
    (Signal::SIGUSR1, Came::Forward(Signal::SIGUSR1)),
    (Signal::SIGCHLD, Came::Child),
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
pub enum Came {
    /// One that asks to stop, such as `TERM`.
    Stop(Signal),
    /// `HUP`: a rolling restart.
    Restart,
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
    source: SignalFd,
    /// Those for the workers besides `USR1`.
    forwarded: Vec<Signal>,
}

impl Signals {
    /// Handles the signals from now on, `forwarded` besides those with a meaning, and reports them
    /// as events of `token`.
    ///
    /// Others are unblocked, since a parent may have left some blocked. After an `execve(2)` of the
    /// supervisor this finds what came in the meantime.
    pub fn register(
        registry: &mio::Registry,
        token: mio::Token,
        forwarded: &[Signal],
    ) -> io::Result<Self> {
        let handled: SigSet = handled(forwarded).collect();
        handled.thread_set_mask()?;
        for signal in handled.iter() {
            // An ignored CHLD would have the kernel reap, so that nobody learns how a child ended.
            dispose(number(signal), false)?;
        }
        for signal in IGNORED.into_iter().filter(|signal| !handled.contains(*signal)) {
            dispose(number(signal), true)?;
        }
        for signal in REAL_TIME {
            // It fails for those that the C library keeps for itself, and nobody else sends.
            _ = dispose(signal, true);
        }
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let source = SignalFd::with_flags(&handled, flags)?;
        let fd = source.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, mio::Interest::READABLE)?;
        Ok(Self { source, forwarded: forwarded.to_vec() })
    }

    /// The next one that came since the last time. Equal signals count once.
    pub fn next(&self) -> io::Result<Option<Came>> {
        loop {
            match self.source.read_signal() {
                Ok(Some(info)) => {
                    let signal = i32::try_from(info.ssi_signo).ok();
                    let signal = signal.and_then(|number| Signal::try_from(number).ok());
                    return Ok(signal.map(|signal| meaning(signal, &self.forwarded)));
                }
                Ok(None) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
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

    /// Sets them again. Only makes calls that are safe between `fork(2)` and `execve(2)`.
    pub(super) fn restore(self) -> io::Result<()> {
        for signal in (1..=LAST).filter(|signal| *signal != libc::SIGPIPE) {
            // It fails for those that nobody can change, which are as they were.
            _ = dispose(signal, self.ignored & bit(signal) != 0);
        }
        swap_mask(Some(self.blocked)).map(drop)
    }
}

/// All signals that the supervisor handles.
fn handled(forwarded: &[Signal]) -> impl Iterator<Item = Signal> {
    let meant = MEANINGS.map(|(signal, _)| signal);
    STOP.into_iter().chain(meant).chain(forwarded.iter().copied())
}

/// What a signal means that is handled. Who asked to have one forwarded means just that.
fn meaning(signal: Signal, forwarded: &[Signal]) -> Came {
    if forwarded.contains(&signal) {
        return Came::Forward(signal);
    }
    let meant = MEANINGS.into_iter().find(|(meant, _)| *meant == signal);
    meant.map_or(Came::Stop(signal), |(_, came)| came)
}

fn number(signal: Signal) -> c_int {
    signal as c_int
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

#[expect(unsafe_code, reason = "no safe wrapper reads a disposition without setting one")]
fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the new action is null, so that nothing is set, and the old one is valid for writes.
    // All bit patterns, and so the zeros left by an error, are valid for the struct.
    let action = unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
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
mod tests {
    use super::*;

    #[test]
    fn each_signal_is_handled_or_ignored_or_has_its_default_for_a_reason() {
        let default = [
            // Nobody can change these two.
            (Signal::SIGKILL, Signal::SIGSTOP),
            // Job control of the shell.
            (Signal::SIGTSTP, Signal::SIGCONT),
            // Harmless by default, and a fault.
            (Signal::SIGURG, Signal::SIGABRT),
            (Signal::SIGILL, Signal::SIGTRAP),
            (Signal::SIGBUS, Signal::SIGFPE),
            (Signal::SIGSEGV, Signal::SIGSYS),
        ];
        let default: Vec<_> = default.into_iter().flat_map(|(a, b)| [a, b]).collect();
        for signal in Signal::iterator() {
            let kinds = [
                handled(&[]).any(|other| other == signal),
                IGNORED.contains(&signal),
                default.contains(&signal),
            ];
            assert_eq!(kinds.into_iter().filter(|kind| *kind).count(), 1, "{signal}");
        }
    }

    #[test]
    fn forwarding_takes_precedence_over_an_end_by_timers() {
        assert_eq!(meaning(Signal::SIGALRM, &[]), Came::Stop(Signal::SIGALRM));
        assert_eq!(meaning(Signal::SIGALRM, &[Signal::SIGALRM]), Came::Forward(Signal::SIGALRM));
        assert_eq!(meaning(Signal::SIGHUP, &[]), Came::Restart);
        assert_eq!(meaning(Signal::SIGUSR1, &[]), Came::Forward(Signal::SIGUSR1));
    }

    #[test]
    fn only_signals_without_a_meaning_of_their_own_can_be_forwarded() {
        for name in ["USR1", "sigwinch", "Winch", "POLL", "IO", "ALRM", "PWR", "URG"] {
            forwardable(name).unwrap();
        }
        let wrong = |name| forwardable(name).unwrap_err();
        assert_eq!(wrong("kill"), "SIGKILL cannot be forwarded: it cannot be caught");
        assert!(wrong("HUP").contains("the supervisor obeys it itself"));
        assert!(wrong("SEGV").contains("fault"));
        assert!(wrong("RTMIN").contains("no signal \"RTMIN\""));
        assert!(wrong("").contains("no signal"));
        for signal in Signal::iterator() {
            let means_something = MEANINGS.iter().any(|(meant, _)| *meant == signal);
            if means_something && signal != Signal::SIGUSR1 {
                forwardable(signal.as_str()).unwrap_err();
            }
        }
    }
}
