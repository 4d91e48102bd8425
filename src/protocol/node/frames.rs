//! A byte stream cut into whole frames, in time linear to the bytes, however they are chunked.
//!
//! A long frame is a message of the app, which may say to its primary what it wants: it is skipped, for nobody
//! here needs it.

use std::rc::Rc;

use serde::{Deserialize, Serialize, Serializer};

use super::{Serialization, from_node};

/// A frame is at most this long, in bytes, its end or length included.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// A frame that is longer than this, in bytes, is skipped.
pub const MOST_WHOLE: usize = 16 * 1024 * 1024;
/// The buffer gives back what it has above this many bytes once that is not needed any more.
const KEPT: usize = 128 * 1024;
/// The length before an advanced frame, big-endian.
const LENGTH: usize = size_of::<u32>();

/// A frame that is too long to be kept. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a message is longer than {} MiB, send less at once", MAX_FRAME / 1024 / 1024)]
pub struct TooLong;

/// What was read from one worker and is not a whole frame yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Unread")]
pub struct Frames {
    serialization: Serialization,
    buffer: Vec<u8>,
    /// Where the first frame begins that was not handed out.
    start: usize,
    /// Up to here, no line of JSON ends after `start`.
    searched: usize,
    skipping: Option<Skipping>,
}

/// What a stream is cut into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cut {
    /// A whole frame as it stood there, with its newline or length.
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
    /// Its length, where that stands before it.
    length: Option<usize>,
    /// So much of it is gone.
    gone: usize,
    /// It comes with a descriptor.
    #[serde(default)]
    carries: bool,
}

/// What is kept of a stream in a state.
#[derive(Deserialize, Serialize)]
struct Unread {
    serialization: Serialization,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(default)]
    skipping: Option<Skipping>,
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = self.buffer[self.start..].to_vec();
        let (serialization, skipping) = (self.serialization, self.skipping);
        Unread { serialization, bytes, skipping }.serialize(to)
    }
}

impl From<Unread> for Frames {
    fn from(Unread { serialization, bytes, skipping }: Unread) -> Self {
        Self { buffer: bytes, skipping, ..Self::new(serialization) }
    }
}

impl Frames {
    /// An empty stream.
    pub fn new(serialization: Serialization) -> Self {
        Self { serialization, buffer: Vec::new(), start: 0, searched: 0, skipping: None }
    }

    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more is read. Fails for good on a frame longer than [`MAX_FRAME`].
    pub fn next_frame(&mut self) -> Result<Option<Cut>, TooLong> {
        if let Some(skipping) = self.skipping {
            return self.skip(skipping);
        }
        let length = match self.serialization {
            Serialization::Json => self.line(),
            Serialization::Advanced => self.announced(),
        };
        let waiting = self.buffer.len() - self.start;
        let known = length.unwrap_or(waiting);
        if known > MAX_FRAME {
            return Err(TooLong);
        }
        if known > MOST_WHOLE {
            if waiting < from_node::BEGINNING {
                return Ok(None);
            }
            let length = length.filter(|_| self.serialization == Serialization::Advanced);
            let carries = from_node::carries(self.serialization, &self.buffer[self.start..]);
            return self.skip(Skipping { length, gone: 0, carries });
        }
        let Some(length) = length.filter(|length| *length <= waiting) else {
            return Ok(None);
        };
        let frame = Rc::from(&self.buffer[self.start..self.start + length]);
        self.drop_first(length);
        Ok(Some(Cut::Frame(frame)))
    }

    /// Drops as much of a long frame as is there.
    fn skip(&mut self, skipping: Skipping) -> Result<Option<Cut>, TooLong> {
        let Skipping { length, gone, carries } = skipping;
        let waiting = self.buffer.len() - self.start;
        let left = length.map_or_else(|| self.line(), |length| Some(length - gone));
        let dropped = left.unwrap_or(waiting).min(waiting);
        let gone = gone + dropped;
        if gone > MAX_FRAME {
            return Err(TooLong);
        }
        self.drop_first(dropped);
        let is_over = left == Some(dropped);
        self.skipping = (!is_over).then_some(Skipping { gone, ..skipping });
        Ok(is_over.then_some(Cut::Skipped { length: gone, carries }))
    }

    /// The length of the next line with its newline, as far as that has come.
    fn line(&mut self) -> Option<usize> {
        let from = self.searched.max(self.start);
        let newline = memchr::memchr(b'\n', &self.buffer[from..]);
        // On a newline, the search stops before it: a line that is too long is found again.
        self.searched = newline.map_or(self.buffer.len(), |newline| from + newline);
        newline.map(|newline| from + newline + 1 - self.start)
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
        self.searched = self.searched.saturating_sub(self.start);
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
    fn frame(serialization: Serialization, payload: usize) -> Vec<u8> {
        let payload = vec![b'x'; payload];
        match serialization {
            Serialization::Json => [&payload, b"\n".as_slice()].concat(),
            Serialization::Advanced => {
                let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
                [length.as_slice(), &payload].concat()
            }
        }
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
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let all: Vec<_> = [3, 0, 300, 1].map(|length| frame(serialization, length)).into();
            let stream = all.concat();
            for cut in 0..=stream.len() {
                let mut frames = Frames::new(serialization);
                frames.extend(&stream[..cut]);
                let mut found = drain(&mut frames);
                frames.extend(&stream[cut..]);
                found.extend(drain(&mut frames));
                assert_eq!(found, all);
            }
            let mut frames = Frames::new(serialization);
            let single = stream.chunks(1).flat_map(|byte| {
                frames.extend(byte);
                drain(&mut frames)
            });
            assert_eq!(single.collect::<Vec<_>>(), all);
        }
    }

    #[test]
    fn a_long_frame_is_skipped_and_a_longer_one_an_error() {
        for (serialization, around) in [(Serialization::Json, 1), (Serialization::Advanced, LENGTH)]
        {
            let mut frames = Frames::new(serialization);
            let short = frame(serialization, 3);
            let mut read = |length: usize| {
                let stream = [&frame(serialization, length - around), &short[..]].concat();
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
            frames.extend(&frame(serialization, MAX_FRAME - around + 1));
            while frames.next_frame() == Ok(None) {}
            assert_eq!(frames.next_frame(), Err(TooLong));
            frames.extend(&frame(serialization, 1));
            assert_eq!(frames.next_frame(), Err(TooLong));
        }
    }

    #[test]
    fn a_frame_that_is_being_skipped_is_skipped_in_the_next_program_too() {
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let mut stream = frame(serialization, MOST_WHOLE + 99);
            let (at, beginning) = match serialization {
                Serialization::Json => (0, &br#"{"cmd":"NODE_HANDLE","type":"#[..]),
                Serialization::Advanced => {
                    (4, &b"\xFF\x0Fo\"\x03cmd\"\x0BNODE_HANDLE\"\x04type"[..])
                }
            };
            for carries in [false, true] {
                let (first, second) = stream.split_at(MOST_WHOLE + 50);
                let mut frames = Frames::new(serialization);
                for byte in first[..99].chunks(1).chain([&first[99..]]) {
                    frames.extend(byte);
                    assert_eq!(frames.next_frame(), Ok(None));
                }
                let saved = rmp_serde::to_vec_named(&frames).unwrap();
                let mut frames: Frames = rmp_serde::from_slice(&saved).unwrap();
                frames.extend(second);
                let length = stream.len();
                assert_eq!(frames.next_frame(), Ok(Some(Cut::Skipped { length, carries })));
                stream[at..at + beginning.len()].copy_from_slice(beginning);
            }
        }
    }

    #[test]
    fn a_frame_that_is_announced_as_too_long_is_not_waited_for() {
        let mut frames = Frames::new(Serialization::Advanced);
        frames.extend(&[0xFF; LENGTH]);
        assert_eq!(frames.next_frame(), Err(TooLong));
        assert!(frames.buffer.capacity() < 100);
    }

    #[test]
    fn a_line_that_never_ends_is_too_long() {
        let mut frames = Frames::new(Serialization::Json);
        let chunk = vec![b'x'; MAX_FRAME / 8];
        for _ in 0..8 {
            frames.extend(&chunk);
            assert_eq!(frames.next_frame(), Ok(None));
        }
        frames.extend(b"x");
        assert_eq!(frames.next_frame(), Err(TooLong));
    }

    #[test]
    fn memory_is_given_back_after_a_large_frame() {
        for serialization in [Serialization::Json, Serialization::Advanced] {
            let mut frames = Frames::new(serialization);
            let large = frame(serialization, 8 * 1024 * 1024);
            for chunk in large.chunks(64 * 1024) {
                frames.extend(chunk);
            }
            frames.extend(&frame(serialization, 3)[..2]);
            assert_eq!(drain(&mut frames).len(), 1);
            assert!(frames.buffer.capacity() <= KEPT);
            frames.extend(&frame(serialization, 3)[2..]);
            assert_eq!(drain(&mut frames), [frame(serialization, 3)]);
        }
    }

    #[test]
    fn a_stream_that_never_falls_empty_stays_small() {
        let mut frames = Frames::new(Serialization::Json);
        let line = frame(Serialization::Json, 99);
        frames.extend(&line[..50]);
        for _ in 0..100_000 {
            frames.extend(&line[50..]);
            frames.extend(&line[..50]);
            assert_eq!(drain(&mut frames).len(), 1);
        }
        assert!(frames.buffer.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_are_the_same_frames(
            stream in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), 0u8..9], 0..600),
            size in 1usize..50,
            json: bool,
        ) {
            let serialization = if json { Serialization::Json } else { Serialization::Advanced };
            let ends = |chunks: std::slice::Chunks<'_, u8>| {
                let mut frames = Frames::new(serialization);
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
