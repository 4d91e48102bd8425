//! A head that is looked at while it grows.

use super::{MAX_HEAD, fields, line};

/// How far a growing head has come: some numbers, and none of its bytes.
///
/// Whoever keeps it has to look only at what is new, and reads the head when there is something to be
/// known that was not before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    line: line::Place,
    fields: fields::Place,
    seen: usize,
}

impl Growth {
    /// How many bytes were seen.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Whether all answers stay as they are, whatever comes.
    fn is_over(&self) -> bool {
        self.line.has_no_head() || self.fields == fields::Place::End || self.seen >= MAX_HEAD
    }

    /// Sees the bytes that have come since the last time. Returns whether a question about the head may
    /// have another answer than before, or none will have.
    pub fn see(&mut self, new: &[u8]) -> bool {
        let was_decided = self.line.is_decided();
        for byte in new {
            if self.line.is_decided() {
                self.fields = self.fields.step(*byte);
            } else {
                self.line = self.line.step(*byte);
            }
        }
        self.seen += new.len();
        self.line.is_decided() != was_decided || self.is_over()
    }
}
