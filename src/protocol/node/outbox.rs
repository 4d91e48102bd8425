//! The outbox: frames for one worker that are not written yet, some with a descriptor.
//!
//! Node reads its channel in pieces of 64 KiB and pairs the next whole message that wants a
//! descriptor with the last descriptor that came. If such a message is cut by the end of a piece and
//! another one follows, the first gets the descriptor of the second. So after many bytes without a
//! descriptor the next one waits until Node has acknowledged all before it, and everything behind
//! waits with it. `lib/internal/child_process.js` always waits, which costs a round trip a connection.

use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::logic::quota::{Charge, Quota};

/// So many bytes may go before a descriptor while another one is not acknowledged: half of what Node
/// reads at once.
const BARRIER: usize = 32 * 1024;
/// A frame with a descriptor up to this long is never cut together with others.
const SHORT: usize = 4 * 1024;
/// What a frame costs besides its bytes.
const AROUND: usize = 128;

/// What goes to one worker, in order. A descriptor is known by a number of the caller.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(try_from = "Saved")]
pub struct Outbox {
    frames: VecDeque<Frame>,
    /// How many bytes wait.
    #[serde(skip)]
    waiting: usize,
    /// Bytes that went since the last descriptor.
    plain: usize,
    /// Descriptors that went and are not acknowledged.
    unacknowledged: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Frame {
    #[serde(with = "super::bytes")]
    bytes: Rc<[u8]>,
    written: usize,
    descriptor: Option<u64>,
    /// Of one that the worker has asked for.
    #[serde(skip)]
    asked: Option<Charge>,
}

/// An outbox in a state.
#[derive(Deserialize)]
struct Saved {
    frames: VecDeque<Frame>,
    plain: usize,
    unacknowledged: usize,
}

/// A state in which more of a frame was written than there is of it.
#[derive(Debug, thiserror::Error)]
#[error("a frame has nothing left to write")]
struct NothingLeft;

impl TryFrom<Saved> for Outbox {
    type Error = NothingLeft;

    fn try_from(Saved { frames, plain, unacknowledged }: Saved) -> Result<Self, NothingLeft> {
        let left = frames.iter().map(|frame| frame.bytes.len().checked_sub(frame.written));
        let left = left.map(|left| left.filter(|left| *left > 0).ok_or(NothingLeft));
        let waiting = left.sum::<Result<_, _>>()?;
        Ok(Self { frames, waiting, plain, unacknowledged })
    }
}

/// What to write next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece<'a> {
    /// The bytes, or as many of them as the channel takes.
    pub bytes: &'a [u8],
    /// The descriptor that travels with the first of them.
    pub descriptor: Option<u64>,
}

impl Outbox {
    /// Adds a frame.
    pub fn push(&mut self, bytes: impl Into<Rc<[u8]>>, descriptor: Option<u64>) {
        let bytes = bytes.into();
        self.waiting += bytes.len();
        self.frames.push_back(Frame { bytes, written: 0, descriptor, asked: None });
    }

    /// Adds a frame that the worker has asked for, which is a part of its quota until it is written.
    pub fn answer(&mut self, bytes: impl Into<Rc<[u8]>>, descriptor: Option<u64>, quota: &Quota) {
        self.push(bytes, descriptor);
        if let Some(frame) = self.frames.back_mut() {
            frame.asked = Some(quota.charge(frame.bytes.len() + AROUND));
        }
    }

    /// Adds an answer without a descriptor that goes before all frames that have not begun: one that a
    /// worker waits for before it says anything more. Behind a descriptor that waits for the worker,
    /// they would wait for each other.
    pub fn answer_at_once(&mut self, bytes: impl Into<Rc<[u8]>>, quota: &Quota) {
        self.answer(bytes, None, quota);
        let begun = self.frames.front().is_some_and(|frame| frame.written > 0);
        if let Some(frame) = self.frames.pop_back() {
            self.frames.insert(usize::from(begun), frame);
        }
    }

    /// What can be written now; `None` when nothing waits, or what waits has to.
    pub fn next(&self) -> Option<Piece<'_>> {
        let frame = self.frames.front()?;
        let begins = frame.written == 0;
        let descriptor = frame.descriptor.filter(|_| begins);
        if descriptor.is_some() && self.plain > BARRIER && self.unacknowledged > 0 {
            return None;
        }
        Some(Piece { bytes: &frame.bytes[frame.written..], descriptor })
    }

    /// So many bytes of [`Self::next`] were written.
    pub fn wrote(&mut self, count: usize) {
        let Some(frame) = self.frames.front_mut() else { return };
        let count = count.min(frame.bytes.len() - frame.written);
        if frame.descriptor.is_none() {
            self.plain = self.plain.saturating_add(count);
        } else if frame.written == 0 && count > 0 {
            self.unacknowledged = self.unacknowledged.saturating_add(1);
            self.plain = if frame.bytes.len() > SHORT { frame.bytes.len() } else { 0 };
        }
        frame.written += count;
        self.waiting -= count;
        if frame.written == frame.bytes.len() {
            self.frames.pop_front();
        }
    }

    /// The worker has acknowledged the oldest descriptor, or that it did not come.
    pub fn acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// The descriptors of the frames that were not begun.
    pub fn descriptors(&self) -> impl Iterator<Item = u64> {
        let whole = self.frames.iter().filter(|frame| frame.written == 0);
        whole.filter_map(|frame| frame.descriptor)
    }

    /// What it costs to keep all that waits, in bytes.
    pub fn cost(&self) -> usize {
        self.waiting + self.frames.len() * AROUND
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::quota::MAX_BUFFERED;

    fn outbox(frames: &[(usize, Option<u64>)]) -> Outbox {
        let mut outbox = Outbox::default();
        for (length, descriptor) in frames {
            outbox.push(vec![b'x'; *length], *descriptor);
        }
        outbox
    }

    /// Writes everything that can be written; returns the descriptors in their order.
    fn flush(outbox: &mut Outbox, at_once: usize) -> Vec<u64> {
        let mut descriptors = Vec::new();
        while let Some(piece) = outbox.next() {
            descriptors.extend(piece.descriptor);
            let count = piece.bytes.len().min(at_once);
            outbox.wrote(count);
        }
        descriptors
    }

    #[test]
    fn short_frames_with_descriptors_go_one_after_the_other() {
        let mut outbox = outbox(&[(100, Some(1)), (50, None), (100, Some(2)), (100, Some(3))]);
        assert_eq!(flush(&mut outbox, usize::MAX), [1, 2, 3]);
        assert_eq!(outbox.waiting, 0);
    }

    #[test]
    fn a_descriptor_goes_once_with_the_first_byte_of_its_frame() {
        let mut outbox = outbox(&[(100, Some(1)), (10, None)]);
        assert_eq!(flush(&mut outbox, 7), [1]);
    }

    #[test]
    fn after_many_bytes_a_descriptor_waits_for_those_before_it() {
        let mut outbox = outbox(&[(100, Some(1)), (BARRIER + 1, None), (100, Some(2)), (9, None)]);
        assert_eq!(flush(&mut outbox, 1_000), [1]);
        assert_eq!(outbox.waiting, 109);
        outbox.acknowledged();
        assert_eq!(flush(&mut outbox, 1_000), [2]);
        assert_eq!(outbox.waiting, 0);
    }

    #[test]
    fn after_a_long_frame_with_a_descriptor_the_next_one_waits() {
        let mut outbox = outbox(&[(BARRIER + 1, Some(1)), (100, Some(2))]);
        assert_eq!(flush(&mut outbox, usize::MAX), [1]);
        outbox.acknowledged();
        assert_eq!(flush(&mut outbox, usize::MAX), [2]);
    }

    #[test]
    fn an_urgent_frame_waits_for_no_acknowledgement() {
        let mut outbox = outbox(&[(100, Some(1)), (BARRIER + 1, None), (100, Some(2))]);
        flush(&mut outbox, 1_000);
        assert!(outbox.next().is_none());
        outbox.answer_at_once(*b"urgent", &Quota::default());
        assert!(flush(&mut outbox, 1_000).is_empty());
        assert_eq!(outbox.waiting, 100);
    }

    #[test]
    fn an_urgent_frame_cuts_no_other() {
        let mut outbox = outbox(&[(3, None)]);
        outbox.wrote(1);
        outbox.answer_at_once(*b"urgent", &Quota::default());
        assert_eq!(outbox.next().unwrap().bytes, b"xx");
        outbox.wrote(2);
        assert_eq!(outbox.next().unwrap().bytes, b"urgent");
    }

    #[test]
    fn many_bytes_alone_wait_for_nobody() {
        let mut outbox = outbox(&[(BARRIER + 1, None), (100, Some(1))]);
        assert_eq!(flush(&mut outbox, usize::MAX), [1]);
    }

    #[test]
    fn what_a_worker_asked_for_is_its_burden_until_it_is_written() {
        let (mut outbox, quota) = (outbox(&[(MAX_BUFFERED, None)]), Quota::default());
        outbox.answer(vec![b'x'; MAX_BUFFERED - AROUND], None, &quota);
        assert!(!quota.is_exceeded());
        outbox.answer_at_once(*b"x", &quota);
        assert!(quota.is_exceeded());
        assert_eq!(outbox.cost(), 2 * MAX_BUFFERED + 1 + 2 * AROUND);
        outbox.wrote(1);
        assert!(!quota.is_exceeded());
    }
}
