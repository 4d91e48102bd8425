//! The log: lines on standard error, one an event.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::os::stderr::Stderr;

/// How much is logged, which can change.
#[derive(Debug)]
pub(super) struct Level(reload::Handle<LevelFilter, Registry>);

impl Level {
    /// Logs so much from now on.
    pub(super) fn set(&self, level: LevelFilter) {
        self.0.reload(level).expect("the log lives as long as the program");
    }
}

/// Begins to log so much.
pub(super) fn start(level: LevelFilter) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        // A log that cannot be written is no reason to stop, nor to say so on the same way.
        .log_internal_errors(false)
        .with_writer(Stderr::default());
    tracing_subscriber::registry().with(filter).with(lines).init();
    Level(handle)
}
