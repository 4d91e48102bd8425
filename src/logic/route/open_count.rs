//! Accounts: how many connections a worker was given and has not finished. Nothing else counts that, and
//! whatever a worker says changes its own account alone, by no more than is in it.

use serde::{Deserialize, Serialize};

/// The account of one worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct OpenCount(u32);

impl OpenCount {
    /// It was given one.
    pub(super) fn opened(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// The supervisor has so many of them again. The worker may have said before that they are finished.
    pub(super) fn taken_back(&mut self, count: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// It has finished so many; returns whether it had as many.
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
