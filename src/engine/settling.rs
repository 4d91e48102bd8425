//! What only changes of the workers need is given back once they are over: most of the program's code.

use std::time::Duration;

use tracing::debug;

use crate::logic::time::Time;
use crate::os::memory;

/// Nothing has changed for this long: the changes are over.
const QUIET: Duration = Duration::from_secs(1);

/// Whether there is something to give back.
#[derive(Debug)]
pub(super) struct Settling {
    at: Option<Time>,
}

impl Settling {
    /// All begins with changes.
    pub(super) fn new(now: Time) -> Self {
        Self { at: Some(now + QUIET) }
    }

    /// Something has changed.
    pub(super) fn changed(&mut self, now: Time) {
        self.at = Some(now + QUIET);
    }

    /// When to [`settle`](Self::settle).
    pub(super) fn due(&self) -> Option<Time> {
        self.at
    }

    /// Gives back what there is, if it is due.
    pub(super) fn settle(&mut self, now: Time) {
        if self.at.take_if(|at| *at <= now).is_some()
            && let Err(error) = memory::give_back_code()
        {
            debug!(name: "memory_trim_failed", "cannot give memory back: {error}");
        }
    }
}
