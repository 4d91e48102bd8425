//! How many connections were sent to a worker and are not closed. Nothing else counts that, and
//! whatever a worker says changes its own count alone, and never below zero.

use serde::{Deserialize, Serialize};

/// The open connections of one worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct OpenCount(u32);

impl OpenCount {
    /// One was sent to it.
    pub(super) fn opened(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// The supervisor has so many of them again. The worker may have said before that they are finished.
    pub(super) fn taken_back(&mut self, count: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// It has closed so many; returns whether it had as many.
    pub(super) fn closed(&mut self, count: u32) -> bool {
        let had_them = count <= self.0;
        self.0 = self.0.saturating_sub(count);
        had_them
    }

    /// How many it has.
    pub(super) fn get(self) -> u32 {
        self.0
    }
}
