//! A byte stream cut into whole frames, in time linear to the bytes, however they are chunked.
//!
//! A long frame is a message of the app, which may say to its primary what it wants: it is skipped, for nobody
//! here needs it.

use std::rc::Rc;

use serde::{Deserialize, Serialize, Serializer};

use super::from_node;

/// A frame is at most this long, in bytes, its end or length included.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// A frame that is longer than this, in bytes, is skipped.
pub const MOST_WHOLE: usize = 16 * 1024 * 1024;
/// The buffer gives back what it has above this many bytes once that is not needed any more.
const KEPT: usize = 128 * 1024;
/// The length before a frame, big-endian.
const LENGTH: usize = size_of::<u32>();

/// A frame that is too long to be kept. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message is longer than {} MiB, send less at once", MAX_FRAME / 1024 / 1024)]
pub struct TooLong;

/// What was read from one worker and is not a whole frame yet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Unread")]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where the first frame begins that was not handed out.
    start: usize,
    skipping: Option<Skipping>,
}

/// What a stream is cut into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cut {
    /// A whole frame as it stood there, with its length.
    Frame(Rc<[u8]>),
    /// One that was longer than [`MOST_WHOLE`] was here.
    Skipped {
        /// So many bytes.
        length: usize,
        /// It came with a descriptor.
        carries: bool,
    },
}

/// A frame that is too long to be handed out.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Skipping {
    /// Its length, with the one before it.
    length: usize,
    /// So much of it is gone.
    gone: usize,
    /// It comes with a descriptor.
    carries: bool,
}

/// What is kept of a stream in a state.
#[derive(Deserialize, Serialize)]
struct Unread {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    skipping: Option<Skipping>,
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = self.buffer[self.start..].to_vec();
        Unread { bytes, skipping: self.skipping }.serialize(to)
    }
}

impl TryFrom<Unread> for Frames {
    type Error = &'static str;

    fn try_from(Unread { bytes, skipping }: Unread) -> Result<Self, Self::Error> {
        if skipping.is_some_and(|skipping| skipping.gone >= skipping.length) {
            return Err("a message that is skipped already");
        }
        Ok(Self { buffer: bytes, start: 0, skipping })
    }
}

impl Frames {
    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more is read. Fails for good on a frame longer than [`MAX_FRAME`].
    pub fn next_frame(&mut self) -> Result<Option<Cut>, TooLong> {
        if let Some(skipping) = self.skipping {
            return Ok(self.skip(skipping));
        }
        let Some(length) = self.announced() else {
            return Ok(None);
        };
        if length > MAX_FRAME {
            return Err(TooLong);
        }
        let read = &self.buffer[self.start..];
        if length > MOST_WHOLE {
            if read.len() < from_node::BEGINNING {
                return Ok(None);
            }
            let carries = from_node::carries(read);
            return Ok(self.skip(Skipping { length, gone: 0, carries }));
        }
        let Some(frame) = read.get(..length).map(Rc::from) else {
            return Ok(None);
        };
        self.drop_first(length);
        Ok(Some(Cut::Frame(frame)))
    }

    /// Drops as much of a long frame as is there.
    fn skip(&mut self, skipping: Skipping) -> Option<Cut> {
        let Skipping { length, gone, carries } = skipping;
        let dropped = (self.buffer.len() - self.start).min(length - gone);
        let gone = gone + dropped;
        self.drop_first(dropped);
        self.skipping = (gone < length).then_some(Skipping { gone, ..skipping });
        self.skipping.is_none().then_some(Cut::Skipped { length, carries })
    }

    /// The length of the next frame with the length before it, as far as that has come.
    fn announced(&self) -> Option<usize> {
        let length = self.buffer[self.start..].first_chunk::<LENGTH>()?;
        // On a platform where this saturates, it is too long just the same.
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        Some(length.saturating_add(LENGTH))
    }

    /// Drops so many bytes that were handed out, as soon as that moves fewer bytes than it drops.
    fn drop_first(&mut self, count: usize) {
        self.start += count;
        let waiting = self.buffer.len() - self.start;
        if waiting > self.start {
            return;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.capacity() / 4 > waiting.max(KEPT / 4) {
            self.buffer.shrink_to((2 * waiting).max(KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of this many bytes of payload.
    fn frame(payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [length.as_slice(), &vec![b'x'; payload]].concat()
    }

    fn whole(cut: Cut) -> Vec<u8> {
        match cut {
            Cut::Frame(frame) => frame.to_vec(),
            Cut::Skipped { length, .. } => panic!("{length} bytes are skipped"),
        }
    }

    fn drain(frames: &mut Frames) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| frames.next_frame().unwrap()).map(whole).collect()
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let all: Vec<_> = [3, 0, 300, 1].map(frame).into();
        let stream = all.concat();
        for cut in 0..=stream.len() {
            let mut frames = Frames::default();
            frames.extend(&stream[..cut]);
            let mut found = drain(&mut frames);
            frames.extend(&stream[cut..]);
            found.extend(drain(&mut frames));
            assert_eq!(found, all);
        }
        let mut frames = Frames::default();
        let single = stream.chunks(1).flat_map(|byte| {
            frames.extend(byte);
            drain(&mut frames)
        });
        assert_eq!(single.collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_long_frame_is_skipped_and_a_longer_one_an_error() {
        let mut frames = Frames::default();
        let short = frame(3);
        let mut read = |length: usize| {
            let stream = [&frame(length - LENGTH), &short[..]].concat();
            let mut cuts = Vec::new();
            let mut kept = 0;
            for chunk in stream.chunks(64 * 1024) {
                frames.extend(chunk);
                cuts.extend(std::iter::from_fn(|| frames.next_frame().transpose()));
                kept = kept.max(frames.buffer.capacity());
            }
            (cuts, kept)
        };
        let (cuts, _) = read(MOST_WHOLE);
        assert!(matches!(&cuts[0], Ok(Cut::Frame(frame)) if frame.len() == MOST_WHOLE));
        for length in [MOST_WHOLE + 1, MAX_FRAME] {
            let (cuts, kept) = read(length);
            assert!(kept <= 2 * MOST_WHOLE, "{kept}");
            let [Ok(skipped), Ok(Cut::Frame(next))] = &cuts[..] else {
                panic!("{} frames", cuts.len());
            };
            assert_eq!(*skipped, Cut::Skipped { length, carries: false });
            assert_eq!(**next, short);
        }
        frames.extend(&frame(MAX_FRAME - LENGTH + 1));
        assert_eq!(frames.next_frame(), Err(TooLong));
        frames.extend(&short);
        assert_eq!(frames.next_frame(), Err(TooLong));
    }

    #[test]
    fn a_frame_that_is_being_skipped_is_skipped_in_the_next_program_too() {
        let mut stream = frame(MOST_WHOLE + 99);
        let beginning = b"\xFF\x0Fo\"\x03cmd\"\x0BNODE_HANDLE\"\x04type";
        for carries in [false, true] {
            let (first, second) = stream.split_at(MOST_WHOLE + 50);
            let mut frames = Frames::default();
            for byte in first[..99].chunks(1).chain([&first[99..]]) {
                frames.extend(byte);
                assert_eq!(frames.next_frame(), Ok(None));
            }
            let saved = rmp_serde::to_vec_named(&frames).unwrap();
            let mut frames: Frames = rmp_serde::from_slice(&saved).unwrap();
            frames.extend(second);
            let length = stream.len();
            assert_eq!(frames.next_frame(), Ok(Some(Cut::Skipped { length, carries })));
            stream[LENGTH..LENGTH + beginning.len()].copy_from_slice(beginning);
        }
    }

    #[test]
    fn a_frame_that_is_announced_as_too_long_is_not_waited_for() {
        let mut frames = Frames::default();
        frames.extend(&[0xFF; LENGTH]);
        assert_eq!(frames.next_frame(), Err(TooLong));
        assert!(frames.buffer.capacity() < 100);
    }

    #[test]
    fn memory_is_given_back_after_a_large_frame() {
        let mut frames = Frames::default();
        let large = frame(8 * 1024 * 1024);
        for chunk in large.chunks(64 * 1024) {
            frames.extend(chunk);
        }
        frames.extend(&frame(3)[..2]);
        assert_eq!(drain(&mut frames).len(), 1);
        assert!(frames.buffer.capacity() <= KEPT);
        frames.extend(&frame(3)[2..]);
        assert_eq!(drain(&mut frames), [frame(3)]);
    }

    #[test]
    fn a_stream_that_never_falls_empty_stays_small() {
        let mut frames = Frames::default();
        let frame = frame(99);
        frames.extend(&frame[..50]);
        for _ in 0..100_000 {
            frames.extend(&frame[50..]);
            frames.extend(&frame[..50]);
            assert_eq!(drain(&mut frames).len(), 1);
        }
        assert!(frames.buffer.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_the_same_frames(
            stream in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..9], 0..600),
            size in 1usize..50,
        ) {
            let ends = |chunks: std::slice::Chunks<'_, u8>| {
                let mut frames = Frames::default();
                let mut found = Vec::new();
                for chunk in chunks {
                    frames.extend(chunk);
                    while let Ok(Some(cut)) = frames.next_frame() {
                        found.push(whole(cut));
                    }
                }
                found
            };
            let found = ends(stream.chunks(size));
            prop_assert!(stream.starts_with(&found.concat()));
            prop_assert_eq!(found, ends(stream.chunks(600)));
        }
    }
}
