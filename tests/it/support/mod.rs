//! What the tests stand on.

pub mod client;
pub mod proc;
pub mod programs;
pub mod supervisor;
pub mod worker;
pub mod worker_body;

use std::time::{Duration, Instant};

pub use client::{Answer, get, get_from, request};
pub use supervisor::{Supervisor, sticky_run};

/// How long a condition may take that should hold at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until the condition gives a value; panics with `what` when it does not within [`SOON`].
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        pause();
    }
}

/// Whether to test with the full numbers: `STICKY_TEST_FULL=1`.
pub fn full() -> bool {
    std::env::var("STICKY_TEST_FULL").is_ok_and(|value| value == "1")
}

/// A short rest between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}
