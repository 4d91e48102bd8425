//! What the tests stand on.

pub mod abuse;
pub mod client;
pub mod files;
pub mod ledger;
pub mod load;
pub mod log;
pub mod node;
pub mod node_worker;
pub mod orphans;
pub mod proc;
pub mod programs;
pub mod proxies;
pub mod reply;
pub mod rolling;
pub mod somebody;
pub mod supervisor;
pub mod terminal;
pub mod worker;
pub mod worker_body;

use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

pub use client::{Answer, connect, connect_from, get, get_from, read_reply, request};
pub use log::event;
pub use supervisor::{Supervisor, sticky_run};

/// Whether the full numbers are asked for where the everyday ones are smaller: `STICKY_TEST_FULL` is 1,
/// or names the module of this test. libtest names the thread of a test after it.
pub fn full() -> bool {
    let asked = std::env::var("STICKY_TEST_FULL").unwrap_or_default();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    asked == "1" || asked.split_whitespace().any(|module| test.starts_with(module))
}

/// How long a condition may take that should hold at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until the condition gives a value; panics with `what` when it does not within [`SOON`].
#[track_caller]
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(SOON, what, condition)
}

/// Waits until the condition gives a value; panics with `what` when it does not within this time.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        pause();
    }
}

/// Asserts that one of three tries is right, where other load of the machine may spoil one.
#[track_caller]
pub fn one_of_three<T: Debug>(mut attempt: impl FnMut() -> T, is_right: impl Fn(&T) -> bool) {
    let mut tries = Vec::new();
    while tries.len() < 3 {
        tries.push(attempt());
        if tries.last().is_some_and(&is_right) {
            return;
        }
    }
    panic!("none of three tries is right: {tries:?}");
}

/// Calls again when a signal has interrupted the call.
///
/// One with a timeout is interrupted although nothing here handles signals: a child that finds no
/// program ends while the thread that started it still blocks all signals, so its SIGCHLD counts and
/// wakes some other thread (`signal(7)`).
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A short rest between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}
