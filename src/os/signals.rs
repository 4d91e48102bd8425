//! Signals: those for the supervisor as events, and how they were set when it started.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use mio::Token;
use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use signal_hook_mio::v1_0;

/// The signals that ask the supervisor to stop.
const STOP: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// A signal that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Came {
    /// `TERM`, `INT` or `QUIT`.
    Stop(&'static str),
    /// A child has changed its state.
    Child,
}

/// The signals that the supervisor handles, as a source of events.
pub struct Signals(v1_0::Signals);

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

impl Signals {
    /// Handles the signals from now on and reports them as events of `token`.
    ///
    /// A parent may have left some of them blocked, which would make the supervisor deaf.
    pub fn register(registry: &mio::Registry, token: Token) -> io::Result<Self> {
        let mut signals = v1_0::Signals::new(handled().map(number))?;
        registry.register(&mut signals, token, mio::Interest::READABLE)?;
        let set: SigSet = handled().collect();
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None)?;
        Ok(Self(signals))
    }

    /// What came since the last time. Equal signals count once.
    pub fn came(&mut self) -> impl Iterator<Item = Came> + '_ {
        self.0.pending().map(|signal| {
            let stop = STOP.into_iter().find(|stop| number(*stop) == signal);
            stop.map_or(Came::Child, |stop| Came::Stop(stop.as_str()))
        })
    }
}

/// The signal mask and the ignored signals with which the supervisor was started.
///
/// A worker starts with the same, as if the supervisor did not stand between (`signal(7)`: both
/// survive `execve(2)`, handlers do not).
#[derive(Clone, Debug)]
pub struct Inherited {
    mask: SigSet,
    ignored: Vec<c_int>,
}

impl Inherited {
    /// Reads them. Has to come before [`Signals::register`].
    pub fn read() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask))?;
        let ignored = handled().map(number).filter(|signal| is_ignored(*signal)).collect();
        Ok(Self { mask, ignored })
    }

    /// Sets them again. Only makes calls that are safe between `fork(2)` and `execve(2)`.
    pub(super) fn restore(&self) -> io::Result<()> {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)?;
        for signal in &self.ignored {
            ignore(*signal)?;
        }
        Ok(())
    }
}

/// All signals that the supervisor handles.
fn handled() -> impl Iterator<Item = Signal> {
    STOP.into_iter().chain([Signal::SIGCHLD])
}

fn number(signal: Signal) -> c_int {
    signal as c_int
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

#[expect(unsafe_code, reason = "a disposition is set")]
fn ignore(signal: c_int) -> io::Result<()> {
    // SAFETY: to ignore a signal runs no code of ours, and the call is async-signal-safe.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
