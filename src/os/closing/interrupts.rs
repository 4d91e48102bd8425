//! What interrupts a thread that waits for the close of a socket.

use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use nix::unistd::gettid;

/// How long a socket may keep a thread.
const PATIENCE: Duration = Duration::from_millis(10);
/// What interrupts a thread. Nobody else sends this one, and a handler means the same to others as the
/// default of this program, which is to ignore it.
pub(super) const INTERRUPT: Signal = Signal::SIGXFSZ;

/// What interrupts a thread again and again, since it may come just before a wait begins. Without the
/// timer, each close takes its time.
pub(super) struct Interrupts(Option<Timer>);

impl Interrupts {
    pub(super) fn new() -> Self {
        let thread_id = gettid().as_raw();
        let how = SigevNotify::SigevThreadId { signal: INTERRUPT, thread_id, si_value: 0 };
        Self(Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(how)).ok())
    }

    pub(super) fn begin(&mut self) {
        self.set(Expiration::Interval(PATIENCE.into()));
    }

    pub(super) fn stop(&mut self) {
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
pub(super) fn handle() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Nobody asks for the flag: that there is a handler is enough.
        let flag = Arc::new(AtomicBool::new(false));
        _ = signal_hook::flag::register(INTERRUPT as i32, flag);
    });
}
